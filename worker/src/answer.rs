//! Core's answer, as the platform takes it.

use futures_util::{Stream, StreamExt};
use http::{HeaderMap, StatusCode, header::CONTENT_LENGTH, response::Parts};
use pve_edge_core::{api::Body, io::NetError};
use worker::{Error, Headers, Response, ResponseBody, ResponseBuilder, Result};

/// Core's answer, whole or streaming.
pub(crate) fn answer<S>(response: http::Response<Body<S>>) -> Result<Response>
where
    S: Stream<Item = std::result::Result<Vec<u8>, NetError>> + 'static,
{
    let (parts, body) = response.into_parts();
    match body {
        Body::Whole(bytes) => whole(http::Response::from_parts(parts, bytes)),
        Body::Stream(stream) => {
            let stream = stream.map(|chunk| chunk.map_err(|error| Error::RustError(error.to_string())));
            builder(&parts)?.from_stream(stream)
        }
    }
}

/// An answer whose body is there.
pub(crate) fn whole(response: http::Response<Vec<u8>>) -> Result<Response> {
    let (parts, bytes) = response.into_parts();
    // With a body on one of these the platform throws, and the instance dies.
    let bodiless =
        [StatusCode::NO_CONTENT, StatusCode::RESET_CONTENT, StatusCode::NOT_MODIFIED].contains(&parts.status);
    let body = if bodiless || bytes.is_empty() { ResponseBody::Empty } else { ResponseBody::Body(bytes) };
    Ok(builder(&parts)?.body(body))
}

fn builder(parts: &Parts) -> Result<ResponseBuilder> {
    // The platform throws on any other status.
    let status = Some(parts.status.as_u16()).filter(|status| (200..=599).contains(status)).unwrap_or(500);
    Ok(ResponseBuilder::new().with_status(status).with_headers(headers(&parts.headers)?))
}

fn headers(map: &HeaderMap) -> Result<Headers> {
    let headers = Headers::new();
    for (name, value) in map {
        // The platform counts by itself, and a wrong length would cut the body.
        if name != CONTENT_LENGTH
            && let Ok(value) = value.to_str()
        {
            headers.append(name.as_str(), value)?;
        }
    }
    Ok(headers)
}
