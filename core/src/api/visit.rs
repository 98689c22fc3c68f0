//! Visits: requests whose host names a port of a sandbox, or nothing.

use futures_util::Stream;
use http::{
    Method, Request, Response,
    header::{ACCESS_CONTROL_ALLOW_ORIGIN, HOST, REFRESH},
    uri::Authority,
};
use tracing::Instrument;

use super::{
    Service,
    answer::{bodiless, plain, problem, with},
    log,
    setup::{Block, Page},
};
use crate::{
    error::{Code, Error},
    gateway::{self, door::Host},
    io::{Io, NetError, Platform, ResponseBody, headers::REQUEST_ID, websocket},
};

/// A visit, or a request to a name that leads to nothing.
pub(super) struct Visit<U> {
    host: Host,
    request: Request<U>,
}

/// What a request is.
pub(super) enum Asked<U> {
    /// A visit, or a request to nothing.
    Visit(Visit<U>),
    /// One of the API.
    Api(Request<U>),
}

/// Tells by its host what a request is.
pub(super) fn of<U>(service: &Service, platform: &Platform, request: Request<U>) -> Asked<U> {
    let Some(settings) = service.settings() else { return Asked::Api(request) };
    let of_header = || request.headers().get(HOST).and_then(|it| it.to_str().ok());
    let authority = request.uri().authority().map(Authority::as_str).or_else(of_header);
    match authority.map_or(Host::Api, |it| Host::of(it, settings, platform)) {
        Host::Api => Asked::Api(request),
        host => Asked::Visit(Visit { host, request }),
    }
}

/// Answers a visit.
pub(super) async fn answer<I: Io, E: Stream<Item = Result<Vec<u8>, NetError>>>(
    io: I,
    service: &Service,
    platform: Platform,
    seed: [u8; 32],
    Visit { host, request }: Visit<I::Upload>,
    request_id: &str,
) -> Response<ResponseBody<E, I::Body>> {
    let (clock, start) = (io.clone(), io.now());
    let asked = Reader::of(&request);
    let (vmid, port) = match &host {
        Host::Port(door) => (door.vmid.into(), door.port),
        _ => (0, 0),
    };
    let span = tracing::info_span!("visit", id = request_id, method = asked.method.as_str(), vmid, port);
    let outcome = async {
        let ready = service.ready.as_ref().map_err(|problems| super::misconfigured(problems))?;
        let door = match host {
            Host::Port(door) => door,
            Host::Gate => {
                return gateway::send_on(&ready.provider(io, platform, seed, None), request).await;
            }
            Host::Probe => return Ok(probed().map(ResponseBody::Whole)),
            Host::Api | Host::Unknown => {
                let text = "no sandbox has this name, and the API is at another one (EDGE_API_HOST)";
                return Err(Error::new(Code::UnknownHost, text));
            }
        };
        if !platform.upgrades {
            let text = "a deployment on AWS Lambda is no gateway: function URLs have neither names for sandboxes nor websockets. \
                        Deploy the Worker beside it with the same EDGE_SECRET";
            return Err(Error::new(Code::GatewayUnsupported, text));
        }
        let provider = ready.provider(io, platform, seed, None);
        gateway::answer(&provider, &service.memory, &door, request).await
    };
    let outcome: Result<Response<ResponseBody<E, I::Body>>, Error> = outcome.instrument(span.clone()).await;
    let error = outcome.as_ref().err().cloned();
    let answer = outcome.unwrap_or_else(|error| {
        let refusal = || asked.refusal(&error, request_id).map(ResponseBody::Whole);
        with(asked.closed(&error, &platform).unwrap_or_else(refusal), REQUEST_ID, request_id)
    });
    let answer = if asked.method == Method::HEAD && error.is_some() { bodiless(answer) } else { answer };
    let ms = (clock.now() - start).whole_milliseconds() as i64;
    span.in_scope(|| log(answer.status(), ms, error.as_ref()));
    answer
}

/// Tells a page of any origin that its browser's request came here: the name, its certificate and its route are right. PVE
/// is asked nothing.
fn probed() -> Response<Vec<u8>> {
    with(plain(200, &serde_json::json!({"reached": true})), ACCESS_CONTROL_ALLOW_ORIGIN, "*")
}

/// Code with which a websocket is closed whose sandbox is not up, as 503 is for a request.
const NOT_UP: u16 = 4503;

/// Who reads a refusal: a person, whose browser shows a page, or a program.
struct Reader {
    method: Method,
    path: String,
    headers: http::HeaderMap,
    is_person: bool,
}

impl Reader {
    fn of<B>(request: &Request<B>) -> Self {
        let headers = request.headers().clone();
        let shown_in = headers.get("sec-fetch-dest").map(|it| it.as_bytes().to_vec());
        let is_person = match shown_in.as_deref() {
            Some(shown_in) => matches!(shown_in, b"document" | b"iframe" | b"frame"),
            None => super::request::accepts(&headers, "text/html"),
        };
        let path = request.uri().path_and_query().map_or("/", |it| it.as_str()).to_owned();
        Self { method: request.method().clone(), path, headers, is_person }
    }

    /// What a page's websocket is told of a sandbox that sleeps or comes up: it connects again and again, and of a refusal
    /// it would learn nothing.
    fn closed<E, B>(&self, error: &Error, platform: &Platform) -> Option<Response<ResponseBody<E, B>>> {
        let is_told = matches!(error.code(), Code::Asleep | Code::Starting)
            && websocket::is_asked(&self.method, &self.headers);
        if !is_told {
            return None;
        }
        websocket::closed(&self.headers, platform, (NOT_UP, error.detail())).ok()
    }

    fn refusal(&self, error: &Error, request_id: &str) -> Response<Vec<u8>> {
        let told = problem(error, request_id);
        if !self.is_person {
            return told;
        }
        let (_, _, _, _, title) = error.code().row();
        let mut blocks = vec![Block::Says(error.detail().to_owned())];
        let comes_up = error.code() == Code::Starting;
        if comes_up && self.method != Method::GET {
            blocks
                .push(Block::Says("Nothing was sent to it. Go back, and send it again in a moment.".into()));
        }
        // A page that loads itself again is nobody's wish to have it woken.
        if error.code() == Code::Asleep && self.method == Method::GET {
            blocks.push(Block::Link("Start it", gateway::to_wake(&self.path)));
        }
        let refresh = error.retry_after_seconds().filter(|_| comes_up && self.method == Method::GET);
        let (head, _) = told.into_parts();
        let mut page = Page { title, blocks }.answer(&self.headers);
        if let Some(seconds) = refresh {
            page = with(page, REFRESH, &seconds.to_string());
        }
        *page.status_mut() = head.status;
        for (name, value) in &head.headers {
            if !page.headers().contains_key(name) {
                page.headers_mut().insert(name.clone(), value.clone());
            }
        }
        page
    }
}
