//! Between core's answers and `http_body`, which both lambda_http and hyper speak.

use crate::net::Transport;
use bytes::Bytes;
use futures_util::{Stream, TryStreamExt};
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use pve_edge_core::{
    api::{self, Body, MAX_BODY, Service},
    io::{NetError, Platform},
};

/// An answer's body: whole, or server-sent events as they come.
pub type AnswerBody = UnsyncBoxBody<Bytes, NetError>;

/// Answers one request over connections of its own.
pub async fn answer(
    transport: &Transport,
    service: &Service,
    platform: Platform,
    request: Request<Vec<u8>>,
) -> Result<Response<AnswerBody>, reqwest::Error> {
    if request.body().len() > MAX_BODY {
        return Ok(too_large(service, request.headers()));
    }
    let answer = api::handle(transport.net()?, service, platform, seed(), request).await;
    Ok(answer.map(|body| match body {
        Body::Whole(bytes) => whole(bytes),
        Body::Stream(events) => stream(events),
    }))
}

/// The answer to a request of these headers whose body is larger than [`MAX_BODY`].
pub fn too_large(service: &Service, headers: &HeaderMap) -> Response<AnswerBody> {
    service.too_large(seed(), headers).map(whole)
}

/// All of a body.
pub fn whole(bytes: Vec<u8>) -> AnswerBody {
    Full::from(bytes).map_err(|never| match never {}).boxed_unsync()
}

/// The dice that core does not have: 32 fresh random bytes.
pub fn seed() -> [u8; 32] {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).expect("the system gives random bytes");
    seed
}

fn stream(events: impl Stream<Item = Result<Vec<u8>, NetError>> + Send + 'static) -> AnswerBody {
    StreamBody::new(events.map_ok(|bytes| Frame::data(bytes.into()))).boxed_unsync()
}
