//! Requests from pages of other origins, and the headers that let their browsers have the answers (Fetch, 3.2).

use http::{
    HeaderMap, HeaderValue, Method, Response,
    header::{
        ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
        ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
    },
};

use super::answer::{empty, with};
use crate::settings::Origins;

/// Headers that requests may have beyond those that every page may send.
const ACCEPTED: &str = "Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, If-Range, Prefer, Range, X-API-Key";
/// Headers of answers that scripts may read beyond those that every page may read.
const EXPOSED: &str = "Accept-Ranges, Allow, Content-Length, Content-Range, ETag, Location, Preference-Applied, Retry-After, X-Request-Id";
/// Methods of the API.
const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE";
/// Seconds for which a browser may keep the answer to a preflight: a day, of which they use an hour or two.
const MAX_AGE: &str = "86400";

/// Answers a browser that asks before it sends a request, without a key. The answer is the same for every path, so that
/// a stranger does not learn which exist.
pub(super) fn preflight(
    origins: &Origins,
    method: &Method,
    headers: &HeaderMap,
) -> Option<Response<Vec<u8>>> {
    let asks = method == Method::OPTIONS && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    if !asks || origins.is_empty() || !headers.contains_key(ORIGIN) {
        return None;
    }
    let mut answer = empty();
    if allowed_origin(origins, headers).is_some() {
        answer = with(answer, ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        answer = with(answer, ACCESS_CONTROL_ALLOW_HEADERS, ACCEPTED);
        answer = with(answer, ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    }
    Some(answer)
}

/// Lets pages of the origins that are set read an answer, problems too.
pub(super) fn share_answer<B>(
    mut answer: Response<B>,
    origins: &Origins,
    headers: &HeaderMap,
) -> Response<B> {
    if origins.is_empty() {
        return answer;
    }
    if !origins.are_all() {
        answer.headers_mut().append(VARY, HeaderValue::from_static("Origin"));
    }
    match allowed_origin(origins, headers) {
        Some(origin) => {
            answer.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            with(answer, ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED)
        }
        None => answer,
    }
}

/// Origin that the answer names, if its pages may read answers.
fn allowed_origin(origins: &Origins, headers: &HeaderMap) -> Option<HeaderValue> {
    if origins.are_all() {
        return Some(HeaderValue::from_static("*"));
    }
    let origin = headers.get(ORIGIN)?;
    origins.has(origin.to_str().ok()?).then(|| origin.clone())
}
