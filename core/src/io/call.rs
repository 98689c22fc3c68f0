//! One call to an API is a value: the request to send, and the type of its answer.

use std::{fmt, marker::PhantomData};

use http::{Method, Request};

/// One call: the request, and what its answer decodes to.
#[must_use = "a call does nothing until an adapter sends it"]
pub struct Call<T> {
    /// To be sent as it is.
    pub request: Request<Vec<u8>>,
    /// The path with its variable parts left out, for logs.
    pub template: &'static str,
    output: PhantomData<fn() -> T>,
}

impl<T> fmt::Debug for Call<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.request.method(), self.template)
    }
}

impl<T> Call<T> {
    /// A call that sends this.
    pub fn new(request: Request<Vec<u8>>, template: &'static str) -> Self {
        Self { request, template, output: PhantomData }
    }

    /// Whether sending it twice changes nothing.
    pub fn is_read(&self) -> bool {
        self.request.method() == Method::GET
    }
}

/// `base`, the segments of a path, and a query. Segments and query are encoded;
/// the base was parsed, so this cannot fail.
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

/// The one encoder of path segments (rule P2.2). No segment is `.` or `..`: none of the types that reach it
/// can be, and URL parsers would collapse them encoded too.
fn encode(segment: &str) -> percent_encoding::PercentEncode<'_> {
    const KEPT: &percent_encoding::AsciiSet =
        &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
    percent_encoding::utf8_percent_encode(segment, KEPT)
}

/// pveproxy splits forms on `;` and cuts at a second raw `=`: both are encoded.
pub(crate) fn urlencoded(pairs: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}
