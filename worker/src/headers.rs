//! Headers of the platform, and core's.

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{CONNECTION, CONTENT_LENGTH},
};
use worker::{Headers, Result};

/// All headers, where Rust can hold the value.
pub(crate) fn from_platform(headers: &Headers) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in headers.entries() {
        let name = HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value.as_bytes())) {
            map.append(name, value);
        }
    }
    map
}

/// The same for the platform, which counts a body's length and keeps connections by itself: a wrong length
/// would cut the body. A value that is no text is left out.
pub(crate) fn to_platform(map: &HeaderMap) -> Result<Headers> {
    let headers = Headers::new();
    for (name, value) in map {
        if ![CONTENT_LENGTH, CONNECTION].contains(name)
            && let Ok(value) = std::str::from_utf8(value.as_bytes())
        {
            headers.append(name.as_str(), value)?;
        }
    }
    Ok(headers)
}
