//! Calls to an API as values: the request to send, and the type of its answer.

use std::{fmt, marker::PhantomData};

use http::{Method, Request};

/// Call to an API, whose answer decodes to a `T`.
#[must_use = "a call does nothing until an adapter sends it"]
pub struct Call<T> {
    /// Request, which is sent as it is.
    pub request: Request<Vec<u8>>,
    /// Path without its variable parts, for logs.
    pub template: &'static str,
    output: PhantomData<fn() -> T>,
}

impl<T> fmt::Debug for Call<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.request.method(), self.template)
    }
}

impl<T> Call<T> {
    /// A call that sends this request.
    pub fn new(request: Request<Vec<u8>>, template: &'static str) -> Self {
        Self { request, template, output: PhantomData }
    }

    /// Whether the call only reads, so that it may be sent twice.
    pub fn is_read(&self) -> bool {
        self.request.method() == Method::GET
    }
}

/// Joins `base`, the segments of a path, and a query, which it encodes. The base was parsed before, so the result is a
/// URI.
pub(crate) fn uri(base: &str, path: &[&dyn fmt::Display], query: &[(&str, &str)]) -> http::Uri {
    let mut uri = base.to_owned();
    for segment in path {
        uri.push('/');
        uri.extend(encode(&segment.to_string()));
    }
    if !query.is_empty() {
        uri.push('?');
        uri.push_str(&urlencoded(query));
    }
    uri.parse().unwrap_or_default()
}

/// Encodes a segment of a path (rule P2.2). URL parsers would collapse `.` and `..`, encoded or not; no type of our
/// segments can be
/// one of them.
fn encode(segment: &str) -> percent_encoding::PercentEncode<'_> {
    const ENCODED: &percent_encoding::AsciiSet =
        &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
    percent_encoding::utf8_percent_encode(segment, ENCODED)
}

/// Encodes a form. It leaves no raw `;` or `=` in a value: pveproxy splits at the one and cuts at the other.
pub(crate) fn urlencoded(pairs: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}
