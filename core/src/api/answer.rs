//! Answers.

use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use serde::Serialize;

use crate::{
    error::{Code, Error},
    io::ResponseBody,
    text::base32::base32,
};

/// The answer to `HEAD`: that of `GET`, without the body (RFC 9110, 9.3.2).
pub(super) fn bodiless<E, B>(response: Response<ResponseBody<E, B>>) -> Response<ResponseBody<E, B>> {
    let length = match response.body() {
        ResponseBody::Whole(bytes) if !response.headers().contains_key(header::CONTENT_LENGTH) => {
            Some(bytes.len().to_string())
        }
        _ => None,
    };
    let response = response.map(|_| ResponseBody::Whole(Vec::new()));
    match length {
        Some(length) => with(response, header::CONTENT_LENGTH, &length),
        None => response,
    }
}

/// Where something is, for a client to whom the API's paths begin with `mount`.
pub(super) fn located<B>(response: Response<B>, mount: &str) -> Response<B> {
    let place = response.headers().get(header::LOCATION).and_then(|it| it.to_str().ok());
    match place.map(|it| format!("{mount}{it}")) {
        Some(place) => with(response, header::LOCATION, &place),
        None => response,
    }
}

/// By which an answer, its problem document and the log lines find each other.
pub(super) fn request_id(seed: &[u8; 32]) -> String {
    base32(seed.get(16..26).unwrap_or_default())
}

/// JSON.
pub(super) fn plain(status: u16, value: &impl Serialize) -> Response<Vec<u8>> {
    let body = serde_json::to_vec(value).unwrap_or_default();
    respond(status, "application/json", body)
}

/// Nothing to say.
pub(super) fn empty() -> Response<Vec<u8>> {
    let mut response = Response::new(Vec::new());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// The problem document of an error.
pub(super) fn problem(error: &Error, request_id: &str) -> Response<Vec<u8>> {
    let body = serde_json::to_vec(&error.problem(request_id)).unwrap_or_default();
    let mut response = respond(error.status(), "application/problem+json", body);
    if let Some(seconds) = error.retry_after_seconds() {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    // RFC 9110, 15.5.6.
    if let Some(methods) = error.text_member("allow") {
        response = with(response, header::ALLOW, methods);
    }
    // RFC 9110, 15.5.17.
    if let (Code::RangeNotSatisfiable, Some(size)) = (error.code(), error.number_member("size")) {
        response = with(response, header::CONTENT_RANGE, &format!("bytes */{size}"));
    }
    // RFC 9110, 15.5.22; RFC 6455, 4.4.
    if error.code() == Code::UpgradeRequired {
        response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        response.headers_mut().insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    }
    // RFC 9110, 15.5.16.
    if error.code() == Code::UnsupportedMediaType {
        response.headers_mut().insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }
    if error.code() == Code::Unauthorized {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

pub(super) fn respond(status: u16, kind: &'static str, body: Vec<u8>) -> Response<Vec<u8>> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Adds a header whose value is ours; one that cannot be a header is left out.
pub(super) fn with<B>(mut response: Response<B>, name: HeaderName, value: &str) -> Response<B> {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
    response
}

/// Tells a browser what it may do with an answer: run and load what the policy says, take it for nothing else than it is, and
/// tell no other site of it.
pub(super) fn guarded(response: Response<Vec<u8>>, policy: &str) -> Response<Vec<u8>> {
    let response = with(response, header::CONTENT_SECURITY_POLICY, policy);
    let response = with(response, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    with(response, header::REFERRER_POLICY, "no-referrer")
}

/// Server-sent events.
pub(super) fn streamed<S>(events: S) -> Response<S> {
    let response = with(Response::new(events), header::CONTENT_TYPE, "text/event-stream");
    with(response, header::CACHE_CONTROL, "no-store")
}

/// Adds the ETag of what the answer shows, where it has one.
pub(super) fn tagged(response: Response<Vec<u8>>, etag: Option<&str>) -> Response<Vec<u8>> {
    match etag {
        Some(etag) => with(response, header::ETAG, etag),
        None => response,
    }
}
