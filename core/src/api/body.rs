//! Bodies of requests to routes: read whole, as JSON.

use futures_util::Stream;
use http::{HeaderMap, header};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{
    error::{Code, Error},
    io::{Failure, NetError, collect},
    text::json::{self, ParseError},
};

/// Largest body that a route takes.
const MAX_BODY: usize = 1 << 20;

/// Reads all bytes of a body. A larger one than a route takes is refused at once when its length is announced,
/// else when too much of it has come.
pub(super) async fn whole<U>(headers: &HeaderMap, body: U) -> Result<Vec<u8>, Error>
where
    U: Stream<Item = Result<Vec<u8>, NetError>> + Unpin,
{
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|it| it.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > MAX_BODY as u64) {
        return Err(too_large());
    }
    collect(body, MAX_BODY).await.map_err(|error| match error.failure {
        Failure::TooLarge => too_large(),
        _ => Error::new(Code::InvalidRequest, "the request's body broke off"),
    })
}

fn too_large() -> Error {
    Error::new(Code::TooLarge, format!("the body is larger than {} KiB", MAX_BODY / 1024))
}

/// Reads a JSON body as a `T`; an error names the wrong field.
pub(super) fn json<T: DeserializeOwned>(headers: &HeaderMap, body: &[u8]) -> Result<T, Error> {
    read(parse(headers, body)?)
}

/// Reads a parsed body as a `T`; an error names the wrong field.
pub(super) fn read<T: DeserializeOwned>(value: Value) -> Result<T, Error> {
    json::read(value).map_err(field_error)
}

fn field_error(error: json::ValueError) -> Error {
    let (field, fix) = error.into_parts();
    Error::field(if field.is_empty() { "body".into() } else { field }, fix)
}

/// Parses a JSON body; an empty one counts as `{}`.
pub(super) fn parse(headers: &HeaderMap, body: &[u8]) -> Result<Value, Error> {
    let kind = headers.get(header::CONTENT_TYPE).map(|it| it.to_str().unwrap_or_default());
    let is_json = kind.is_none_or(|it| {
        let it = it.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        it == "application/json" || it.ends_with("+json")
    });
    if !is_json && !body.is_empty() {
        let text = "send the body as application/json";
        return Err(Error::new(Code::UnsupportedMediaType, text));
    }
    if !is_plain(headers) {
        let text = "send the body as it is, without Content-Encoding";
        return Err(Error::new(Code::UnsupportedMediaType, text));
    }
    let body = if body.iter().all(u8::is_ascii_whitespace) { b"{}" } else { body };
    json::parse(body).map_err(|error| match error {
        ParseError::DuplicateMember(error) => field_error(error),
        ParseError::Syntax(error) => Error::new(Code::InvalidJson, format!("the body is not JSON: {error}")),
    })
}

/// Whether no coding was applied to the body (RFC 9110, 8.4).
pub(super) fn is_plain(headers: &HeaderMap) -> bool {
    let codings = headers.get_all(header::CONTENT_ENCODING).iter();
    let mut codings =
        codings.flat_map(|it| it.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    codings.all(|it| it.is_empty() || it.eq_ignore_ascii_case(b"identity"))
}
