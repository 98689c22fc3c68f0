//! A request of the platform, as core takes it.

use futures_util::StreamExt;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, header::CONTENT_LENGTH};
use pve_edge_core::service::MAX_BODY;
use worker::{ByteStream, Headers};

/// Why a request does not reach core.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The body is larger than [`MAX_BODY`].
    TooLarge,
    /// It ended early, or is no HTTP request that core could answer.
    Broken,
}

/// Reads a request, of its body not more than core takes.
pub(crate) async fn read(request: worker::Request) -> Result<Request<Vec<u8>>, Refused> {
    let raw = request.inner();
    let headers = headers(request.headers());
    let announced = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > MAX_BODY as u64) {
        return Err(Refused::TooLarge);
    }
    let body = match raw.body() {
        Some(stream) => collect(stream.into()).await?,
        None => Vec::new(),
    };
    let method = Method::from_bytes(raw.method().as_bytes()).map_err(|_| Refused::Broken)?;
    let mut read =
        Request::builder().method(method).uri(raw.url()).body(body).map_err(|_| Refused::Broken)?;
    *read.headers_mut() = headers;
    Ok(read)
}

/// All headers whose value Rust can hold; the others say nothing to core.
pub(crate) fn headers(headers: &Headers) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in headers.entries() {
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value.as_bytes()))
        {
            map.append(name, value);
        }
    }
    map
}

async fn collect(mut stream: ByteStream) -> Result<Vec<u8>, Refused> {
    let mut body = Vec::new();
    while let Some(chunk) = stream.next().await {
        body.extend_from_slice(&chunk.map_err(|_| Refused::Broken)?);
        if body.len() > MAX_BODY {
            return Err(Refused::TooLarge);
        }
    }
    Ok(body)
}
