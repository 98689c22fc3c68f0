//! Between core and `http_body`, which lambda_http and hyper both speak.

use crate::{
    body::{Body, Upload},
    net::failed,
};
use bytes::Bytes;
use futures_util::{Stream, TryStreamExt};
use http::{Request, Response};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use pve_edge_core::io::{NetError, ResponseBody};

/// Body of an answer to a client.
pub type AnswerBody = UnsyncBoxBody<Bytes, NetError>;

/// Answers one request with what `handler` makes of it.
pub async fn answer<E>(
    request: Request<Upload>,
    handler: impl AsyncFnOnce(Request<Upload>) -> Response<ResponseBody<E, Body>>,
) -> Response<AnswerBody>
where
    E: Stream<Item = Result<Vec<u8>, NetError>> + Send + 'static,
{
    handler(request).await.map(body)
}

/// The body of an answer. A websocket, which functions do not have, is for the server whose connection it takes over.
pub fn body<E>(body: ResponseBody<E, Body>) -> AnswerBody
where
    E: Stream<Item = Result<Vec<u8>, NetError>> + Send + 'static,
{
    match body {
        ResponseBody::Whole(bytes) => whole(bytes),
        ResponseBody::Events(events) => {
            StreamBody::new(events.map_ok(|bytes| Frame::data(bytes.into()))).boxed_unsync()
        }
        ResponseBody::Proxied(body) => body.into_inner().map_err(failed).boxed_unsync(),
        ResponseBody::Upgraded(_) | ResponseBody::Closed { .. } => whole(Vec::new()),
    }
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
