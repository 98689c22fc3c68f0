//! Core's answer, as the platform takes it.

use crate::{headers, net::Body};
use futures_util::{Stream, StreamExt};
use http::{StatusCode, response::Parts};
use pve_edge_core::io::{NetError, ResponseBody};
use worker::{Error, Response, ResponseBuilder, Result, WebSocketPair};

/// Core's answer; an upstream's body or websocket in it is the platform's own, which moves it by itself.
pub fn answer<E>(response: http::Response<ResponseBody<E, Body>>) -> Result<Response>
where
    E: Stream<Item = std::result::Result<Vec<u8>, NetError>> + 'static,
{
    let (parts, body) = response.into_parts();
    match body {
        ResponseBody::Whole(bytes) if bytes.is_empty() || is_bodiless(parts.status) => {
            Ok(builder(&parts)?.empty())
        }
        ResponseBody::Whole(bytes) => Ok(builder(&parts)?.fixed(bytes)),
        ResponseBody::Events(events) => {
            let events = events.map(|chunk| chunk.map_err(|error| Error::RustError(error.to_string())));
            builder(&parts)?.from_stream(events)
        }
        ResponseBody::Proxied(body) => match body.into_inner().body() {
            Some(stream) if !is_bodiless(parts.status) => Ok(builder(&parts)?.stream(stream)),
            _ => Ok(builder(&parts)?.empty()),
        },
        ResponseBody::Upgraded(body) => {
            let response = Response::from(body.into_inner());
            Ok(response.with_headers(headers::to_platform(&parts.headers)?))
        }
        ResponseBody::Closed { code, reason } => {
            let WebSocketPair { client, server } = WebSocketPair::new()?;
            server.accept()?;
            server.close(Some(code), Some(reason))?;
            Ok(Response::from_websocket(client)?.with_headers(headers::to_platform(&parts.headers)?))
        }
    }
}

/// Whether an answer has no body: with one on such a status the platform throws, and the instance dies.
fn is_bodiless(status: StatusCode) -> bool {
    [StatusCode::NO_CONTENT, StatusCode::RESET_CONTENT, StatusCode::NOT_MODIFIED].contains(&status)
}

fn builder(parts: &Parts) -> Result<ResponseBuilder> {
    // The platform throws on any other status.
    let status = Some(parts.status.as_u16()).filter(|status| (200..=599).contains(status)).unwrap_or(500);
    Ok(ResponseBuilder::new().with_status(status).with_headers(headers::to_platform(&parts.headers)?))
}
