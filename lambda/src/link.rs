//! Links: websockets that core opens itself.

use std::{
    fmt::Display,
    pin::Pin,
    task::{Context, Poll, ready},
};

use crate::body::Body;
use futures_util::{FutureExt, SinkExt, Stream, StreamExt};
use http::header::SEC_WEBSOCKET_ACCEPT;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use pve_edge_core::io::{Answer, Failure, NetError, Sent, link};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error, Message,
        error::ProtocolError::ResetWithoutClosingHandshake,
        handshake::derive_accept_key,
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
    },
};

/// Websocket that core has opened. No task serves it: a message goes out as it is sent, as far as the connection takes it
/// at once, and the rest of it while the next message is awaited.
#[derive(Debug)]
pub struct Link {
    /// `None` once it has ended.
    socket: Option<Socket>,
}

/// Connection of a link. Dropped, it tells the server that it ends, where that can be told at once.
#[derive(Debug)]
struct Socket(WebSocketStream<TokioIo<Upgraded>>);

impl Drop for Socket {
    fn drop(&mut self) {
        let normal = CloseFrame { code: CloseCode::Normal, reason: "".into() };
        let _ = self.0.start_send_unpin(Message::Close(Some(normal)));
        let _ = self.0.flush().now_or_never();
    }
}

impl Link {
    /// The link on a connection whose server agrees to a websocket for this key.
    pub(crate) async fn new(answer: Answer<Body>, key: &[u8]) -> Result<Self, NetError> {
        let accepted = answer.headers.get(SEC_WEBSOCKET_ACCEPT);
        if accepted.is_none_or(|it| *it != derive_accept_key(key)) {
            return Err(cut("the server's Sec-WebSocket-Accept is not that of the request's key"));
        }
        let upgraded = answer.body.into_upgrade().await.map_err(cut)?;
        let most = Some(link::LARGEST_HEARD);
        // Nothing waits for more to send.
        let config =
            WebSocketConfig::default().write_buffer_size(0).max_message_size(most).max_frame_size(most);
        let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, Some(config));
        Ok(Self { socket: Some(Socket(socket.await)) })
    }
}

impl link::Link for Link {
    fn send(&mut self, message: Vec<u8>) -> Result<(), NetError> {
        let Socket(socket) = self.socket.as_mut().ok_or_else(|| cut("the websocket has ended"))?;
        socket.start_send_unpin(Message::binary(message)).map_err(cut)
    }
}

impl Stream for Link {
    type Item = Result<Vec<u8>, NetError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(Socket(socket)) = &mut self.socket else { return Poll::Ready(None) };
        let end = loop {
            // A connection that takes nothing any more may still have messages for us, and then its end.
            let _ = socket.poll_flush_unpin(context);
            match ready!(socket.poll_next_unpin(context)) {
                Some(Ok(message @ (Message::Binary(_) | Message::Text(_)))) => {
                    return Poll::Ready(Some(Ok(message.into_data().into())));
                }
                Some(Ok(Message::Close(_))) | None => break None,
                Some(Ok(_)) => {}
                // The connection has ended without a word of it, which says nothing.
                Some(Err(Error::Io(_) | Error::Protocol(ResetWithoutClosingHandshake))) => break None,
                Some(Err(error @ Error::Capacity(_))) => {
                    break Some(NetError::new(Sent::Maybe, Failure::TooLarge, error));
                }
                Some(Err(error)) => break Some(cut(error)),
            }
        };
        self.socket = None;
        Poll::Ready(end.map(Err))
    }
}

fn cut(detail: impl Display) -> NetError {
    NetError::new(Sent::Maybe, Failure::Cut, detail)
}
