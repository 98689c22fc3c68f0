//! Pages of other origins: what their browsers ask and are told (Fetch, 3.2).

use http::{
    HeaderMap, HeaderValue, Method, Response,
    header::{
        ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
        ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
    },
};

use super::answer::{empty, with};
use crate::settings::Origins;

/// What requests may carry beyond the headers that every page may send.
const TAKEN: &str = "Authorization, Content-Type, Idempotency-Key, If-Match, Prefer, X-API-Key";
/// What scripts may read beyond the headers that every page may read.
const EXPOSED: &str = "Allow, ETag, Location, Preference-Applied, Retry-After, X-Request-Id";
const METHODS: &str = "GET, HEAD, POST, PATCH, DELETE";
/// A day, of which browsers keep an hour or two.
const MAX_AGE: &str = "86400";

/// The answer to a browser that asks before it sends a request; it has no key to show. The same for
/// every path: a stranger does not learn which there are.
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
    if allowed(origins, headers).is_some() {
        answer = with(answer, ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        answer = with(answer, ACCESS_CONTROL_ALLOW_HEADERS, TAKEN);
        answer = with(answer, ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    }
    Some(answer)
}

/// The answer, readable for pages of the origins that are set; problems are read as well.
pub(super) fn shared<B>(mut answer: Response<B>, origins: &Origins, headers: &HeaderMap) -> Response<B> {
    if origins.is_empty() {
        return answer;
    }
    if !origins.are_all() {
        answer.headers_mut().append(VARY, HeaderValue::from_static("Origin"));
    }
    match allowed(origins, headers) {
        Some(origin) => {
            answer.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            with(answer, ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED)
        }
        None => answer,
    }
}

/// The origin, if its pages may read answers, as the answer names it.
fn allowed(origins: &Origins, headers: &HeaderMap) -> Option<HeaderValue> {
    if origins.are_all() {
        return Some(HeaderValue::from_static("*"));
    }
    let origin = headers.get(ORIGIN)?;
    origins.has(origin.to_str().ok()?).then(|| origin.clone())
}
