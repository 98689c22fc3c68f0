//! cmux's protocol, for its clients: `POST /exec` with a token. They cannot sign, so it is served only if the daemon was
//! told a file that has one.

mod lines;

use std::{fs::File, io::Read, path::PathBuf, sync::Arc};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use pve_edge_guest_protocol::{
    Unique,
    answer::Refusal,
    call::Digest256,
    process::{After, Follow, Line, Named, Spec, Start},
};
use serde::Deserialize;

use self::lines::Lines;
use super::draw;
use crate::{answer::Body, process::Processes};

/// Path of the request.
pub(super) const EXEC_PATH: &str = "/exec";

/// Bytes of the token's file that are read.
const LARGEST_TOKEN: u64 = 4 << 10;

/// Bytes that the body of a request may have.
const LARGEST_REQUEST: usize = 1 << 20;

/// The way of cmux's clients to processes.
pub(super) struct Cmux {
    pub(super) token_file: Option<PathBuf>,
    pub(super) processes: Arc<Processes>,
}

/// Body of a request.
#[derive(Debug, PartialEq, Deserialize)]
struct Exec {
    command: String,
    #[serde(default)]
    timeout_ms: u64,
}

impl Cmux {
    /// Answers `/exec`; `obeyed` is told as soon as the token is known to be right.
    pub(super) async fn answer(&self, request: Request<Incoming>, obeyed: impl FnOnce()) -> Response<Body> {
        if request.method() != Method::POST {
            return plain(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "method not allowed\n");
        }
        if !self.is_authorized(request.headers()) {
            return plain(StatusCode::UNAUTHORIZED, "application/json", r#"{"error":"Unauthorized"}"#);
        }
        obeyed();
        match read(request).await {
            Ok(exec) => self.execute(exec).await,
            Err((status, why)) => plain(status, "text/plain", why),
        }
    }

    /// Compares digests: the time that it takes tells nothing of the token.
    fn is_authorized(&self, headers: &HeaderMap) -> bool {
        let Some(token) = self.token().filter(|it| !it.is_empty()) else { return false };
        let given = headers.get(header::AUTHORIZATION).and_then(|it| it.as_bytes().strip_prefix(b"Bearer "));
        given.is_some_and(|given| Digest256::of(given) == Digest256::of(token.as_bytes()))
    }

    fn token(&self) -> Option<String> {
        let mut token = String::new();
        File::open(self.token_file.as_ref()?).ok()?.take(LARGEST_TOKEN).read_to_string(&mut token).ok()?;
        Some(token.trim().to_owned())
    }

    async fn execute(&self, exec: Exec) -> Response<Body> {
        let lines = Lines::new(exec.timeout_ms);
        let mut client = Client { lines, processes: self.processes.clone(), process: draw() };
        match client.start(exec).await {
            Ok(events) => answer(events.map(move |line| client.lines.tell(line?.event))),
            Err(refusal) => answer(stream::iter([Ok(client.lines.fail(refusal.detail))])),
        }
    }
}

/// Client that waits for its command, which ends with it.
struct Client {
    lines: Lines,
    processes: Arc<Processes>,
    process: Unique,
}

impl Client {
    async fn start(
        &self,
        exec: Exec,
    ) -> Result<impl Stream<Item = std::io::Result<Line>> + Send + use<>, Refusal> {
        let timeout_ms = Some(exec.timeout_ms).filter(|it| *it > 0);
        let spec = Spec { command: Some(exec.command), timeout_ms, ..Spec::default() };
        let process = self.process;
        self.processes.start(Start { process, keyed: None }, spec, None).await?;
        self.processes.follow(Follow { process, after: After::Start, wait_ms: None, most: None }).await
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let (processes, process) = (self.processes.clone(), self.process);
        if !self.lines.is_over {
            tokio::spawn(async move { processes.forget(Named { process }).await });
        }
    }
}

async fn read(request: Request<Incoming>) -> Result<Exec, (StatusCode, &'static str)> {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|it| it.to_str().ok());
    if !kind.is_some_and(|it| it.contains("application/json")) {
        return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, "content-type must be application/json\n"));
    }
    let bad = |why| (StatusCode::BAD_REQUEST, why);
    let body = Limited::new(request.into_body(), LARGEST_REQUEST).collect().await;
    let body = body.map_err(|_| bad("the body is too large, or broke off\n"))?;
    parse(&body.to_bytes()).map_err(bad)
}

fn parse(body: &[u8]) -> Result<Exec, &'static str> {
    let exec: Exec = serde_json::from_slice(body).map_err(|_| "invalid JSON\n")?;
    if exec.command.trim().is_empty() { Err("command is required\n") } else { Ok(exec) }
}

fn answer(lines: impl Stream<Item = std::io::Result<Vec<u8>>> + Send + 'static) -> Response<Body> {
    let frames = lines.map(|it| it.map(|bytes| Frame::data(Bytes::from(bytes))));
    response(StatusCode::OK, "application/jsonlines", StreamBody::new(frames).boxed_unsync())
}

fn plain(status: StatusCode, kind: &'static str, text: &'static str) -> Response<Body> {
    response(status, kind, Full::from(text).map_err(|never| match never {}).boxed_unsync())
}

fn response(status: StatusCode, kind: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_request_needs_a_command() {
        let exec = |command: &str, timeout_ms| Ok(Exec { command: command.into(), timeout_ms });
        assert_eq!(parse(br#"{"command":"true","timeout_ms":5,"other":1}"#), exec("true", 5));
        assert_eq!(parse(br#"{"command":"true"}"#), exec("true", 0));
        for body in ["", "{}", r#"{"command":" "}"#, r#"{"command":"true","timeout_ms":-1}"#, "[]"] {
            assert!(parse(body.as_bytes()).is_err(), "{body}");
        }
    }

    proptest! {
        #[test]
        fn any_body_is_read_without_a_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&body);
        }
    }
}
