//! A request of the platform, as core takes it.

use futures_util::StreamExt;
use http::{HeaderMap, HeaderValue, Method, Request, header::CONTENT_LENGTH};
use pve_edge_core::{api::MAX_BODY, io::headers::READ};
use worker::{ByteStream, Headers};

/// Why a request does not reach core.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The body is larger than [`MAX_BODY`]; with the request's headers.
    TooLarge(HeaderMap),
    /// It ended early, or is no HTTP request that core could answer.
    Broken,
}

/// Reads a request, of its body not more than core takes.
pub(crate) async fn read(request: worker::Request) -> Result<Request<Vec<u8>>, Refused> {
    let raw = request.inner();
    let headers = headers(request.headers());
    let announced = request.headers().get(CONTENT_LENGTH.as_str()).ok().flatten();
    let announced = announced.and_then(|length| length.parse::<u64>().ok());
    if announced.is_some_and(|length| length > MAX_BODY as u64) {
        return Err(Refused::TooLarge(headers));
    }
    let body = match raw.body() {
        Some(stream) => collect(stream.into()).await?,
        None => Some(Vec::new()),
    };
    let Some(body) = body else { return Err(Refused::TooLarge(headers)) };
    let method = Method::from_bytes(raw.method().as_bytes()).map_err(|_| Refused::Broken)?;
    let mut read =
        Request::builder().method(method).uri(raw.url()).body(body).map_err(|_| Refused::Broken)?;
    *read.headers_mut() = headers;
    Ok(read)
}

/// What core reads of them, where Rust can hold the value; each one is a call of the platform.
pub(crate) fn headers(headers: &Headers) -> HeaderMap {
    let mut map = HeaderMap::new();
    for name in READ {
        let value = headers.get(name.as_str()).ok().flatten();
        if let Some(value) = value.and_then(|it| HeaderValue::from_bytes(it.as_bytes()).ok()) {
            map.insert(name, value);
        }
    }
    map
}

/// All of a body, unless it is larger than [`MAX_BODY`].
async fn collect(mut stream: ByteStream) -> Result<Option<Vec<u8>>, Refused> {
    let mut body = Vec::new();
    while let Some(chunk) = stream.next().await {
        body.extend_from_slice(&chunk.map_err(|_| Refused::Broken)?);
        if body.len() > MAX_BODY {
            return Ok(None);
        }
    }
    Ok(Some(body))
}
