//! Answers of the daemon: JSON, lines of JSON, or bytes.

use std::io;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::{HeaderValue, Response, header::CONTENT_TYPE};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use pve_edge_guest_protocol::answer::Refusal;
use serde::Serialize;

/// Body of an answer. An error in it breaks the connection off, so that a cut answer is never taken for a whole one.
pub type Body = UnsyncBoxBody<Bytes, io::Error>;

/// Answer to a call, or why it is refused.
pub type Reply = Result<Response<Body>, Refusal>;

/// An answer in JSON.
pub fn json(value: &impl Serialize) -> Response<Body> {
    let bytes = serde_json::to_vec(value).unwrap_or_default();
    answer("application/json", Full::from(bytes).map_err(|never| match never {}).boxed_unsync())
}

/// An answer of lines of JSON, each sent as soon as it is there.
pub fn lines<T: Serialize>(lines: impl Stream<Item = io::Result<T>> + Send + 'static) -> Response<Body> {
    let frames = lines.map(|line| {
        let mut bytes = serde_json::to_vec(&line?)?;
        bytes.push(b'\n');
        Ok(Frame::data(bytes.into()))
    });
    answer("application/x-ndjson", StreamBody::new(frames).boxed_unsync())
}

/// An answer of bytes.
pub fn bytes(body: Body) -> Response<Body> {
    answer("application/octet-stream", body)
}

/// An answer of some content type.
pub fn answer(kind: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// The answer that a refusal is.
pub fn refuse(refusal: &Refusal) -> Response<Body> {
    let mut response = json(refusal);
    *response.status_mut() =
        http::StatusCode::from_u16(refusal.code.status()).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    response
}
