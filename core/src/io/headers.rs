//! Names of headers that `http` has no name for, and headers that come more than once.

use http::header::{HeaderMap, HeaderName, HeaderValue, SET_COOKIE};

/// Of an answer, for its log lines.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Names a request, so that it can be sent again.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// How long a request may wait (RFC 7240).
pub const PREFER: HeaderName = HeaderName::from_static("prefer");
/// Which of its preferences a request was given (RFC 7240).
pub const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
/// A key of this API, where `Authorization` is another's.
pub const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
/// For a PVE API behind Cloudflare Access.
pub const ACCESS_CLIENT_ID: HeaderName = HeaderName::from_static("cf-access-client-id");
/// Sent with it.
pub const ACCESS_CLIENT_SECRET: HeaderName = HeaderName::from_static("cf-access-client-secret");

/// The same headers, each once but for cookies: several values of one name are a list (RFC 9110, 5.3).
pub fn joined(all: &HeaderMap) -> HeaderMap {
    let mut joined = HeaderMap::new();
    for name in all.keys() {
        let values: Vec<_> = all.get_all(name).iter().collect();
        if name == SET_COOKIE || values.len() == 1 {
            joined.extend(values.into_iter().map(|it| (name.clone(), it.clone())));
            continue;
        }
        let bytes: Vec<_> = values.into_iter().map(HeaderValue::as_bytes).collect();
        joined.extend(HeaderValue::from_bytes(&bytes.join(&b", "[..])).ok().map(|it| (name.clone(), it)));
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_values_of_a_header_are_one() {
        let mut all = HeaderMap::new();
        for (name, value) in [
            ("vary", "Accept"),
            ("set-cookie", "a=1"),
            ("vary", "Origin"),
            ("etag", "x"),
            ("set-cookie", "b=2"),
        ] {
            all.append(name, HeaderValue::from_static(value));
        }
        let joined = joined(&all);
        let of = |name: &str| joined.get_all(name).iter().map(HeaderValue::as_bytes).collect::<Vec<_>>();
        assert_eq!((of("vary"), of("etag")), (vec![&b"Accept, Origin"[..]], vec![&b"x"[..]]));
        assert_eq!(of("set-cookie"), [b"a=1", b"b=2"]);
    }
}
