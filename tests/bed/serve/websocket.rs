//! Websockets on this server: a client's connection is joined with an upstream's, or closed at once.

use std::time::Duration;

use futures_util::{Stream, StreamExt};
use http::{
    Request, Response,
    header::{SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY},
};
use hyper::upgrade::{self, OnUpgrade};
use hyper_util::rt::TokioIo;
use pve_edge_core::io::{NetError, ResponseBody};
use pve_edge_lambda::{
    body::{Body, Upload},
    http::{AnswerBody, body, whole},
};
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

/// Answers one request of hyper's server with what `handler` makes of it.
pub async fn answer<E>(
    mut request: Request<Upload>,
    handler: impl AsyncFnOnce(Request<Upload>) -> Response<ResponseBody<E, Body>>,
) -> Response<AnswerBody>
where
    E: Stream<Item = Result<Vec<u8>, NetError>> + Send + 'static,
{
    let client = upgrade::on(&mut request);
    let key = request.headers().get(SEC_WEBSOCKET_KEY).cloned();
    let (mut parts, answered) = handler(request).await.into_parts();
    let answered = match answered {
        ResponseBody::Upgraded(upstream) => {
            tokio::spawn(join(client, upstream.into_upgrade()));
            whole(Vec::new())
        }
        ResponseBody::Closed { code, reason } => {
            let accept = key.and_then(|it| derive_accept_key(it.as_bytes()).parse().ok());
            parts.headers.extend(accept.map(|it| (SEC_WEBSOCKET_ACCEPT, it)));
            tokio::spawn(close(client, code, reason));
            whole(Vec::new())
        }
        other => body(other),
    };
    Response::from_parts(parts, answered)
}

/// Copies what follows an upgrade both ways, until one side ends.
pub async fn join(client: OnUpgrade, upstream: OnUpgrade) {
    let (Ok(client), Ok(upstream)) = tokio::join!(client, upstream) else { return };
    // Either side may break off at any time; the other one sees it end.
    let _ = copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(upstream)).await;
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
