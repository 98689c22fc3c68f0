//! Between core and `http_body`, which lambda_http and hyper both speak.

use std::time::Duration;

use crate::{
    body::{Body, Upload},
    net::failed,
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, TryStreamExt};
use http::{
    Request, Response,
    header::{SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY},
};
use http_body_util::{BodyExt, Empty, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::Frame,
    upgrade::{self, OnUpgrade},
};
use hyper_util::rt::TokioIo;
use pve_edge_core::io::{NetError, ResponseBody};
use tokio::{io::copy_bidirectional, time::timeout};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        handshake::derive_accept_key,
        protocol::{CloseFrame, Role},
    },
};

/// Time that a client has to end a websocket that we have ended.
const CLOSING: Duration = Duration::from_secs(2);

/// Body of an answer to a client.
pub type AnswerBody = UnsyncBoxBody<Bytes, NetError>;

/// Answers one request with what `handler` makes of it. When that is an upstream's websocket, it is joined
/// with the client's connection, which must come from hyper's server.
pub async fn answer<E>(
    mut request: Request<Upload>,
    handler: impl AsyncFnOnce(Request<Upload>) -> Response<ResponseBody<E, Body>>,
) -> Response<AnswerBody>
where
    E: Stream<Item = Result<Vec<u8>, NetError>> + Send + 'static,
{
    let client = upgrade::on(&mut request);
    let key = request.headers().get(SEC_WEBSOCKET_KEY).cloned();
    let (mut parts, body) = handler(request).await.into_parts();
    let body = match body {
        ResponseBody::Whole(bytes) => whole(bytes),
        ResponseBody::Events(events) => {
            StreamBody::new(events.map_ok(|bytes| Frame::data(bytes.into()))).boxed_unsync()
        }
        ResponseBody::Proxied(body) => body.into_inner().map_err(failed).boxed_unsync(),
        ResponseBody::Upgraded(body) => {
            tokio::spawn(join(client, body.into_upgrade()));
            nothing()
        }
        ResponseBody::Closed { code, reason } => {
            let accept = key.and_then(|it| derive_accept_key(it.as_bytes()).parse().ok());
            parts.headers.extend(accept.map(|it| (SEC_WEBSOCKET_ACCEPT, it)));
            tokio::spawn(close(client, code, reason));
            nothing()
        }
    };
    Response::from_parts(parts, body)
}

fn nothing() -> AnswerBody {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// Ends a client's websocket, and waits for the client's own end.
async fn close(client: OnUpgrade, code: u16, reason: String) {
    let Ok(client) = client.await else { return };
    let mut socket = WebSocketStream::from_raw_socket(TokioIo::new(client), Role::Server, None).await;
    let end = CloseFrame { code: code.into(), reason: reason.into() };
    if socket.close(Some(end)).await.is_ok() {
        let over = async { while let Some(Ok(_)) = socket.next().await {} };
        let _ = timeout(CLOSING, over).await;
    }
}

/// All of a body.
pub fn whole(bytes: Vec<u8>) -> AnswerBody {
    Full::from(bytes).map_err(|never| match never {}).boxed_unsync()
}

/// Copies what follows an upgrade both ways, until one side ends.
pub async fn join(client: OnUpgrade, upstream: OnUpgrade) {
    let (Ok(client), Ok(upstream)) = tokio::join!(client, upstream) else { return };
    // Either side may break off at any time; the other one sees it end.
    let _ = copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(upstream)).await;
}

/// The dice that core does not have: 32 fresh random bytes.
pub fn seed() -> [u8; 32] {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).expect("the system gives random bytes");
    seed
}
