//! The handler of the pipe's tests, on every platform: it sends a request for `/{port}/{path}` on to that port
//! of this machine, or talks over a link to it.

use std::time::Duration;

use super::talk::{TALK, talk};
use futures_util::stream::Empty;
use http::{HeaderValue, Request, Response, StatusCode, Uri, header::CONTENT_TYPE};
use pve_edge_core::{
    error::Error,
    io::{Io, NetError, Platform, Relay, RequestBody, ResponseBody, Way},
};

/// How long an upstream's answer may take, an upload included.
const LONGEST: Duration = Duration::from_secs(120);

/// No answer has events.
pub type NoEvents = Empty<Result<Vec<u8>, NetError>>;

/// The upstream's answer, or why there is none.
pub async fn relay<I: Io>(
    io: I,
    platform: Platform,
    request: Request<I::Upload>,
) -> Response<ResponseBody<NoEvents, I::Body>> {
    answer(io, platform, request).await.unwrap_or_else(|refusal| refusal.map(ResponseBody::Whole))
}

async fn answer<I: Io>(
    io: I,
    platform: Platform,
    request: Request<I::Upload>,
) -> Result<Response<ResponseBody<NoEvents, I::Body>>, Response<Vec<u8>>> {
    let upstream = upstream(request.uri()).ok_or_else(|| refusal(404, "text/plain", "no such upstream"))?;
    if request.headers().contains_key(TALK) {
        let mut response = Response::new(ResponseBody::Whole(talk(&io, upstream, request).await));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        return Ok(response);
    }
    let mut relay =
        Relay::new(request.map(RequestBody::Streamed), &platform).map_err(|error| problem(&error))?;
    *relay.request.uri_mut() = upstream;
    relay.request.extensions_mut().insert(Way::Public);
    let sent = relay.send(&io, io.now() + LONGEST).await;
    sent.map_err(|error| refusal(502, "text/plain", &format!("{:?}", error.failure)))
}

fn upstream(uri: &Uri) -> Option<Uri> {
    let (port, rest) = uri.path_and_query()?.as_str().strip_prefix('/')?.split_once('/')?;
    let port: u16 = port.parse().ok()?;
    format!("http://127.0.0.1:{port}/{rest}").parse().ok()
}

fn problem(error: &Error) -> Response<Vec<u8>> {
    refusal(error.status(), "application/problem+json", &error.problem("pipe").to_string())
}

fn refusal(status: u16, kind: &'static str, text: &str) -> Response<Vec<u8>> {
    let mut response = Response::new(text.into());
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or_default();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
