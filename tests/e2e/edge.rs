//! PVE behind Cloudflare: a proxy of loopback that does to PVE's answers what an edge with a tunnel does, and what stands
//! there says in PVE's place.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use pve_edge_bed::{
    serve::{Api, Reply, boxed, serve},
    sim::{self, Setup, Sim, Spec, TOKEN, Version},
};
use pve_edge_core::io::{Io, fetch};
use pve_edge_lambda::net::Transport;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// What the edge answers instead of PVE: status, headers, body.
type Instead = (u16, &'static [(&'static str, &'static str)], &'static str);

/// The service token that Access takes.
const ACCESS: (&str, &str) = ("id-of-the-token.access", "secret-of-the-service-token");

/// The edge, a simulated PVE behind it, and a deployment before it.
struct Edge {
    url: String,
    instead: Arc<Mutex<Option<Instead>>>,
    _pve: sim::server::Server,
    _tasks: [JoinHandle<()>; 2],
}

impl Edge {
    async fn before(version: Version, changes: &[(&str, &str)]) -> io::Result<Self> {
        let mut sim = Sim::new(Setup { version, ..Setup::default() });
        sim.add(Spec::template(9000).tags("pvelxc_1vcpu_1gb_8gb_v1"));
        let pve = sim::server::serve(Arc::new(Mutex::new(sim)), 0).await?;
        let (address, instead) = (pve.address, Arc::new(Mutex::new(None)));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let edge = format!("http://{}", listener.local_addr()?);
        let says = instead.clone();
        let proxy = tokio::spawn(serve(
            listener,
            move |request| {
                let instead = *says.lock().unwrap_or_else(PoisonError::into_inner);
                async move { through(address, request, instead).await }
            },
            std::future::pending(),
        ));
        let hash = hex::encode(Sha256::digest("key-blue"));
        let usual = [
            ("PVE_API_URL", &*edge),
            ("PVE_API_TOKEN", TOKEN),
            ("PVE_PUBLIC_DOMAIN", "sandbox.test"),
            ("CF_ACCESS_CLIENT_ID", ACCESS.0),
            ("CF_ACCESS_CLIENT_SECRET", ACCESS.1),
            ("EDGE_API_KEYS", &*format!("blue:{hash}")),
            ("EDGE_SECRET", "edge-secret-of-the-tests-0123456789abcdef"),
            ("EDGE_DEPLOYMENT", "prod"),
        ];
        let kept = usual.iter().filter(|(name, _)| changes.iter().all(|(changed, _)| changed != name));
        let settings: Vec<_> =
            kept.chain(changes).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let api = Arc::new(Api::new(&settings).map_err(|error| io::Error::other(format!("{error:?}")))?);
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let answer = move |request| {
            let api = api.clone();
            async move { api.answer(request).await }
        };
        let server = tokio::spawn(serve(listener, answer, std::future::pending()));
        Ok(Self { url, instead, _pve: pve, _tasks: [proxy, server] })
    }

    fn says(&self, instead: Option<Instead>) {
        *self.instead.lock().unwrap_or_else(PoisonError::into_inner) = instead;
    }

    /// Status, JSON and headers of what the deployment answers.
    async fn ask(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let net = Transport::new(true).expect("roots").net().expect("a client");
        let request = Request::builder().method(method).uri(format!("{}{path}", self.url));
        let request = request.header("authorization", "Bearer key-blue").header("prefer", "wait=0");
        let request = match body {
            Value::Null => request.body(Vec::new()),
            body => request.header("content-type", "application/json").body(body.to_string().into_bytes()),
        };
        let deadline = net.now() + Duration::from_secs(40);
        let whole = fetch(&net, request.expect("a request"), deadline, 1 << 20).await.expect("an answer");
        (whole.status, serde_json::from_slice(&whole.body).unwrap_or_default())
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        self._tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Passes a request on to PVE, once Access has taken its service token. The answer loses its reason phrase, as in HTTP/2, and
/// one that no HTTP knows becomes a page of the edge's.
async fn through(pve: std::net::SocketAddr, request: Request<Incoming>, instead: Option<Instead>) -> Reply {
    let header = |name: &str| request.headers().get(name).and_then(|it| it.to_str().ok());
    let is_let_through = (header("cf-access-client-id"), header("cf-access-client-secret"))
        == (Some(ACCESS.0), Some(ACCESS.1));
    let login = "https://team.cloudflareaccess.com/cdn-cgi/access/login/pve.example.com?kid=1";
    let answer = match (instead, is_let_through) {
        (Some((status, headers, body)), _) => {
            let answer = headers
                .iter()
                .fold(Response::builder().status(status), |it, (name, value)| it.header(*name, *value));
            answer.body(Bytes::from_static(body.as_bytes())).expect("an answer")
        }
        (None, false) => Response::builder()
            .status(302)
            .header(header::LOCATION, login)
            .body(Bytes::new())
            .expect("an answer"),
        (None, true) => forward(pve, request).await.unwrap_or_else(|_| page(StatusCode::BAD_GATEWAY)),
    };
    let mut answer = boxed(answer.map(Full::new));
    answer.headers_mut().insert(header::SERVER, header::HeaderValue::from_static("cloudflare"));
    answer.headers_mut().insert("cf-ray", header::HeaderValue::from_static("8f00b204e9800998-FRA"));
    answer
}

async fn forward(
    pve: std::net::SocketAddr,
    mut request: Request<Incoming>,
) -> hyper::Result<Response<Bytes>> {
    let Ok(stream) = TcpStream::connect(pve).await else { return Ok(page(StatusCode::BAD_GATEWAY)) };
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let path = request.uri().path_and_query().cloned();
    *request.uri_mut() = path.map_or_else(Default::default, Into::into);
    let (head, body) = sender.send_request(request).await?.into_parts();
    let body = body.collect().await?.to_bytes();
    if head.status.as_u16() >= 595 {
        return Ok(page(StatusCode::BAD_GATEWAY));
    }
    let mut answer = Response::new(body);
    (*answer.status_mut(), *answer.headers_mut()) = (head.status, head.headers);
    for name in [header::TRANSFER_ENCODING, header::CONNECTION, header::CONTENT_LENGTH] {
        answer.headers_mut().remove(name);
    }
    Ok(answer)
}

fn page(status: StatusCode) -> Response<Bytes> {
    let text = format!("<!DOCTYPE html><title>{status}</title>secret-of-the-page");
    let mut answer = Response::new(Bytes::from(text));
    *answer.status_mut() = status;
    answer
}

const CHALLENGE: &[(&str, &str)] =
    &[("www-authenticate", "Cloudflare-Access resource_metadata=\"https://pve.example.com/\"")];
const HTML: &[(&str, &str)] = &[("content-type", "text/html; charset=UTF-8")];
const LATER: &[(&str, &str)] = &[("retry-after", "9")];
const LOGIN: &[(&str, &str)] =
    &[("location", "https://team.cloudflareaccess.com/cdn-cgi/access/login/pve.example.com")];

/// Reads and writes go through it as they go without it, whatever the edge does to their answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pve_is_reached_through_an_edge_that_drops_reasons() {
    for version in [Version::V7_4, Version::V9] {
        let edge = Edge::before(version, &[]).await.expect("an edge");
        let (status, list) = edge.ask("GET", "/api/sandboxes", &Value::Null).await;
        assert_eq!((status, &list["items"]), (200, &json!([])), "{list}");
        let (status, made) = edge.ask("POST", "/api/sandboxes", &json!({})).await;
        assert_eq!((status, &made["state"]), (202, &json!("creating")), "{version:?} {made}");
        let path = format!("/api/sandboxes/{}", made["id"].as_str().expect("an id"));
        let (status, shown) = edge.ask("GET", &path, &Value::Null).await;
        assert_eq!(status, 200, "{shown}");
    }
}

/// What stands there is named, and its refusals are not taken for PVE's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_edge_says_itself_is_not_taken_for_pves() {
    let edge = Edge::before(Version::V9, &[]).await.expect("an edge");
    let cases: [(Instead, u16, &str, &str); 11] = [
        ((302, LOGIN, ""), 502, "pve-access", "CF_ACCESS_CLIENT_SECRET"),
        ((401, CHALLENGE, ""), 502, "pve-access", "Service Auth"),
        (
            (403, HTML, "<html><title>Forbidden - Cloudflare Access</title>"),
            502,
            "pve-access",
            "Service Auth",
        ),
        ((403, &[], "error code: 1010"), 502, "pve-bad-answer", "error 1010"),
        ((403, HTML, "<html><span class=\"cf-error-code\">1020</span>"), 502, "pve-bad-answer", "error 1020"),
        ((429, LATER, "error code: 1015"), 502, "pve-bad-answer", "error 1015"),
        ((409, HTML, "<html>error code: 1001"), 502, "pve-bad-answer", "error 1001"),
        ((502, &[], "error code: 502"), 502, "pve-bad-answer", "status 502"),
        ((530, &[], "error code: 1033"), 503, "pve-unreachable", "tunnel"),
        ((522, HTML, "<html>"), 504, "pve-timeout", "522"),
        ((200, HTML, "<html>a captive portal"), 502, "pve-bad-answer", "PVE_API_URL"),
    ];
    for (instead, status, code, says) in cases {
        edge.says(Some(instead));
        for (method, path, body) in
            [("GET", "/api/sandboxes", Value::Null), ("POST", "/api/sandboxes", json!({}))]
        {
            let (answered, told) = edge.ask(method, path, &body).await;
            assert_eq!((answered, &told["code"]), (status, &json!(code)), "{instead:?} {method} {told}");
            assert!(told["detail"].as_str().is_some_and(|it| it.contains(says)), "{instead:?} {told}");
        }
    }
    // An empty 401 is PVE's own, through an edge too.
    edge.says(Some((401, &[], "")));
    let (status, told) = edge.ask("GET", "/api/sandboxes", &Value::Null).await;
    assert_eq!((status, &told["code"]), (502, &json!("pve-unauthorized")), "{told}");
}

/// A service token that Access does not take leads to its login page, which nobody follows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_token_that_is_not_taken_is_told() {
    let wrong = [("CF_ACCESS_CLIENT_SECRET", "another")];
    let edge = Edge::before(Version::V9, &wrong).await.expect("an edge");
    for (method, body) in [("GET", Value::Null), ("POST", json!({}))] {
        let (status, told) = edge.ask(method, "/api/sandboxes", &body).await;
        assert_eq!(
            (status, &told["code"], &told["retryable"]),
            (502, &json!("pve-access"), &json!(false)),
            "{told}"
        );
        assert_eq!(
            (&told["answeredBy"], &told["answeredStatus"]),
            (&json!("Cloudflare Access"), &json!(302)),
            "{told}"
        );
    }
    let (status, health) = edge.ask("GET", "/api/health/sandbox", &Value::Null).await;
    assert_eq!((status, &health["reasons"][0]["code"]), (503, &json!("pve-access")), "{health}");
}
