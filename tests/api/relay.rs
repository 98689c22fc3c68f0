//! Requests that are sent on to an upstream, and its answers that are handed back.

use std::{cell::RefCell, rc::Rc, time::Duration};

use futures_util::{StreamExt, stream::Empty};
use http::{HeaderMap, HeaderValue, Request, Response};
use pve_edge_bed::{
    sim::{
        Setup,
        execd::{Piece, Streamed},
    },
    world::{World, WorldBody},
};
use pve_edge_core::io::{Failure, Io, NetError, Platform, Relay, RequestBody, ResponseBody, Way};

use crate::stage::{WORKERS, plain_sim};

/// As AWS Lambda, without the setting.
const WHOLE: Platform = Platform { streams: false, upgrades: false, answer_bytes: 10, ..WORKERS };

type Handed = Response<ResponseBody<Empty<Result<Vec<u8>, NetError>>, WorldBody>>;

/// Headers and body of a request, as the upstream has received it.
type Received = (HeaderMap, Vec<u8>);

/// An upstream that answers so, and what it sees.
struct Upstream {
    world: World,
    seen: Rc<RefCell<Vec<Received>>>,
}

impl Upstream {
    fn new(answer: Streamed) -> Self {
        let world = World::new(plain_sim(Setup::default()), 7);
        let seen = Rc::<RefCell<Vec<_>>>::default();
        let told = seen.clone();
        world.serve("upstream.test", move |request, _| {
            told.borrow_mut().push((request.headers().clone(), request.body().clone()));
            answer.clone()
        });
        Self { world, seen }
    }

    /// Sends a client's request on to it, with a minute for the answer.
    fn relay(&self, platform: Platform, request: Request<Vec<Piece>>) -> Result<Handed, NetError> {
        let io = self.world.io();
        let request = request.map(|pieces| io.upload(pieces));
        let mut relay =
            Relay::new(request.map(RequestBody::Streamed), &platform).expect("a request to send on");
        *relay.request.uri_mut() = "http://upstream.test/file".parse().expect("a URI");
        relay.request.extensions_mut().insert(Way::Guest);
        self.world.run(async move { relay.send(&io, io.now() + Duration::from_secs(60)).await })
    }
}

fn answer(status: u16, headers: &[(&'static str, &str)], pieces: Vec<Piece>) -> Streamed {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(*name, HeaderValue::from_str(value).expect("a value"));
    }
    Streamed { status, headers: map, pieces }
}

fn bytes(text: &str) -> Piece {
    Piece::Bytes(text.as_bytes().to_vec())
}

fn get(headers: &[(&'static str, &str)]) -> Request<Vec<Piece>> {
    let request = Request::get("https://service.test/").header("host", "service.test");
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    request.body(Vec::new()).expect("a request")
}

fn names(headers: &HeaderMap) -> Vec<&str> {
    let mut names: Vec<_> = headers.keys().map(http::HeaderName::as_str).collect();
    names.sort_unstable();
    names
}

#[test]
fn headers_of_one_connection_stay_there() {
    let of_connection = [
        ("connection", "keep-alive, X-Hop"),
        ("x-hop", "1"),
        ("keep-alive", "timeout=5"),
        ("te", "trailers"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
    ];
    let with = |more: &[(&'static str, &'static str)]| [&of_connection, more].concat();
    let upstream = Upstream::new(answer(
        200,
        &with(&[("set-cookie", "a=1"), ("set-cookie", "b=2"), ("content-length", "0")]),
        Vec::new(),
    ));
    let asked = get(&with(&[("cookie", "a=1"), ("expect", "100-continue"), ("content-length", "0")]));
    let handed = upstream.relay(WORKERS, asked).expect("an answer");
    assert_eq!(names(&upstream.seen.borrow()[0].0), ["content-length", "cookie"]);
    assert_eq!(names(handed.headers()), ["content-length", "set-cookie"]);
    assert_eq!(handed.headers().get_all("set-cookie").iter().count(), 2);
}

/// An upload is sent as it comes, and an answer is handed on before it has ended; no deadline cuts it.
#[test]
fn bodies_pass_as_they_come() {
    let slow = vec![bytes("one"), Piece::Wait(Duration::from_secs(300)), bytes("two")];
    let upstream = Upstream::new(answer(200, &[], slow));
    let began = upstream.world.now();
    let upload = vec![bytes("a"), Piece::Wait(Duration::from_secs(20)), bytes("b")];
    let handed = upstream.relay(WORKERS, get(&[]).map(|_| upload)).expect("an answer");
    assert_eq!(upstream.seen.borrow()[0].1, b"ab");
    assert!(upstream.world.now() - began < Duration::from_secs(30));
    let ResponseBody::Proxied(_) = handed.into_body() else { panic!("core has read the body") };
}

#[test]
fn an_upload_that_breaks_off_is_not_executed() {
    let upstream = Upstream::new(answer(200, &[], Vec::new()));
    let request = get(&[]).map(|_| vec![bytes("a"), Piece::Cut]);
    let error = upstream.relay(WORKERS, request).err().expect("no answer");
    assert_eq!(error.failure, Failure::Cut);
    assert!(upstream.seen.borrow().is_empty());
}

#[test]
fn an_answer_has_a_deadline_for_its_headers() {
    let upstream = Upstream::new(answer(200, &[], Vec::new()));
    let request = get(&[]).map(|_| vec![Piece::Wait(Duration::from_secs(59)), bytes("a")]);
    upstream.world.latency(2000, 2000);
    assert_eq!(upstream.relay(WORKERS, request).err().expect("late").failure, Failure::Timeout);
}

/// Where answers do not stream they are read first, so that one that is too long or cut is not begun.
#[test]
fn an_answer_is_whole_where_none_streams() {
    let whole = |pieces| Upstream::new(answer(200, &[], pieces)).relay(WHOLE, get(&[]));
    match whole(vec![bytes("0123"), Piece::Wait(Duration::from_secs(1)), bytes("456789")]) {
        Ok(handed) => match handed.into_body() {
            ResponseBody::Whole(body) => assert_eq!(body, b"0123456789"),
            _ => panic!("it streams"),
        },
        Err(error) => panic!("{error}"),
    }
    let failure = |pieces| whole(pieces).err().expect("no answer").failure;
    assert_eq!(failure(vec![bytes("0123"), bytes("4567890")]), Failure::TooLarge);
    assert_eq!(failure(vec![bytes("0123"), Piece::Cut]), Failure::Cut);
    assert_eq!(failure(vec![bytes("0123"), Piece::Wait(Duration::from_secs(90))]), Failure::Timeout);
}

const WEBSOCKET: [(&str, &str); 3] =
    [("connection", "keep-alive, Upgrade"), ("upgrade", "WebSocket"), ("sec-websocket-key", "eA==")];

#[test]
fn a_websocket_is_asked_for_and_handed_on() {
    let switched = [("connection", "Upgrade"), ("upgrade", "websocket"), ("sec-websocket-accept", "eA==")];
    let upstream = Upstream::new(answer(101, &switched, Vec::new()));
    let handed = upstream.relay(WORKERS, get(&WEBSOCKET)).expect("an answer");
    let all = ["connection", "sec-websocket-key", "upgrade"];
    assert_eq!(names(&upstream.seen.borrow()[0].0), all);
    assert_eq!(upstream.seen.borrow()[0].0["connection"], "upgrade");
    assert_eq!(
        (handed.status().as_u16(), &handed.headers()["upgrade"]),
        (101, &"websocket".parse().unwrap())
    );
    let ResponseBody::Upgraded(_) = handed.into_body() else { panic!("no websocket") };
    // A refusal is an answer like any other; and nobody is given a websocket who has not asked for one.
    let upstream = Upstream::new(answer(403, &[], vec![bytes("no")]));
    let handed = upstream.relay(WORKERS, get(&WEBSOCKET)).expect("an answer");
    assert!(matches!((handed.status().as_u16(), handed.into_body()), (403, ResponseBody::Proxied(_))));
    let upstream = Upstream::new(answer(101, &switched, Vec::new()));
    assert_eq!(upstream.relay(WORKERS, get(&[])).err().expect("no answer").failure, Failure::Cut);
}

#[test]
fn a_platform_without_websockets_says_so_first() {
    let world = World::new(plain_sim(Setup::default()), 7);
    let relay = |request: Request<Vec<Piece>>| {
        Relay::new(request.map(|it| RequestBody::Streamed(world.io().upload(it))), &WHOLE)
            .map(|it| it.request.headers().clone())
    };
    let error = relay(get(&WEBSOCKET)).expect_err("refused");
    assert_eq!((error.status(), error.problem("")["code"].as_str()), (501, Some("upgrade-unsupported")));
    // Another protocol may be offered, and need not be taken (RFC 9110, 7.8).
    let headers = relay(get(&[("connection", "upgrade"), ("upgrade", "h2c")])).expect("sent on");
    assert!(headers.is_empty(), "{headers:?}");
}

/// What core reads of such a body is an upstream's, piece by piece.
#[test]
fn a_body_that_is_handed_on_is_the_upstreams() {
    let upstream = Upstream::new(answer(200, &[], vec![bytes("one"), bytes("two"), Piece::Cut]));
    let handed = upstream.relay(WORKERS, get(&[])).expect("an answer");
    let ResponseBody::Proxied(body) = handed.into_body() else { panic!("core has read the body") };
    let pieces = upstream.world.run(body.map(|it| it.map_err(|error| error.failure)).collect::<Vec<_>>());
    assert_eq!(pieces, [Ok(b"one".to_vec()), Ok(b"two".to_vec()), Err(Failure::Cut)]);
}
