//! Websockets, handed on by the platform.

use futures_util::{SinkExt, StreamExt};
use http::StatusCode;
use tokio::{net::TcpStream, sync::mpsc, time::timeout};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async, client_async,
    tungstenite::{
        Error, Message,
        client::IntoClientRequest,
        handshake::server::{ErrorResponse, Request, Response},
        protocol::{CloseFrame, frame::coding::CloseCode},
    },
};

use super::{
    client::{PATIENCE, Pipe, noise},
    upstream::Upstream,
};

type Socket = WebSocketStream<TcpStream>;

/// An event that an upstream tells of.
type Told = mpsc::UnboundedSender<Option<(u16, String)>>;

pub(super) async fn messages_pass_both_ways(pipe: Pipe) {
    let (upstream, _told) = echoing().await;
    let mut socket = open(&pipe, upstream.port).await.expect("a websocket");
    for message in [
        Message::text("grüße"),
        Message::binary(noise(300_000)),
        Message::binary(Vec::new()),
        Message::text("again"),
    ] {
        socket.send(message.clone()).await.expect("a websocket");
        assert_eq!(next(&mut socket).await, Some(message));
    }
}

pub(super) async fn the_clients_close_code_passes(pipe: Pipe) {
    let (upstream, mut told) = echoing().await;
    let mut socket = open(&pipe, upstream.port).await.expect("a websocket");
    socket.close(Some(frame(4001, "enough"))).await.expect("a websocket");
    let seen = timeout(PATIENCE, told.recv()).await.expect("in time");
    assert_eq!(seen, Some(Some((4001, "enough".to_owned()))));
}

/// The upstream closes when it is told `close`.
pub(super) async fn the_upstreams_close_code_passes(pipe: Pipe) {
    let (upstream, _told) = echoing().await;
    let mut socket = open(&pipe, upstream.port).await.expect("a websocket");
    socket.send(Message::text("close")).await.expect("a websocket");
    assert_eq!(next(&mut socket).await, Some(Message::Close(Some(frame(4503, "paused")))));
}

pub(super) async fn a_refusal_is_an_answer(pipe: Pipe) {
    let (upstream, _told) = echoing().await;
    let path = pipe.path(upstream.port, "/forbidden");
    match client_async(format!("ws://{}{path}", pipe.authority), pipe.connect().await).await {
        Err(Error::Http(answer)) => {
            assert_eq!(
                (answer.status(), answer.headers().get("x-why")),
                (StatusCode::FORBIDDEN, Some(&http::HeaderValue::from_static("not you")))
            );
        }
        other => panic!("{other:?}"),
    }
}

pub(super) async fn a_client_that_leaves_is_missed(pipe: Pipe) {
    let (upstream, mut told) = echoing().await;
    let mut socket = open(&pipe, upstream.port).await.expect("a websocket");
    socket.send(Message::text("here")).await.expect("a websocket");
    next(&mut socket).await.expect("an echo");
    drop(socket);
    let seen = timeout(PATIENCE, told.recv()).await.expect("in time").expect("an upstream");
    assert!(seen.is_none_or(|(code, _)| code == 1006), "no close of the client's own");
}

/// The upstream breaks off when it is told `die`.
pub(super) async fn an_upstream_that_dies_is_missed(pipe: Pipe) {
    let (upstream, _told) = echoing().await;
    let mut socket = open(&pipe, upstream.port).await.expect("a websocket");
    socket.send(Message::text("die")).await.expect("a websocket");
    let end = next(&mut socket).await;
    assert!(!matches!(end, Some(Message::Text(_) | Message::Binary(_))), "{end:?}");
}

async fn open(pipe: &Pipe, port: u16) -> Result<Socket, Error> {
    let url = format!("ws://{}{}", pipe.authority, pipe.path(port, "/socket?a=b"));
    let mut request = url.into_client_request()?;
    request.headers_mut().insert("sec-websocket-protocol", http::HeaderValue::from_static("one, two"));
    request.headers_mut().insert("cookie", http::HeaderValue::from_static("a=1"));
    let (socket, answer) = client_async(request, pipe.connect().await).await?;
    assert_eq!(answer.headers()["sec-websocket-protocol"], "two");
    Ok(socket)
}

/// The next message; `None` when the connection is gone.
async fn next(socket: &mut Socket) -> Option<Message> {
    timeout(PATIENCE, socket.next()).await.expect("in time").and_then(Result::ok)
}

fn frame(code: u16, reason: &'static str) -> CloseFrame {
    CloseFrame { code: CloseCode::from(code), reason: reason.into() }
}

/// An upstream that sends each message back, and tells how each connection ended: with the client's close
/// code, or without one.
async fn echoing() -> (Upstream, mpsc::UnboundedReceiver<Option<(u16, String)>>) {
    let (tell, told) = mpsc::unbounded_channel();
    (Upstream::tcp(move |stream| echo(stream, tell.clone())).await, told)
}

async fn echo(stream: TcpStream, tell: Told) {
    let Ok(mut socket) = accept_hdr_async(stream, greet).await else { return };
    let end = loop {
        match socket.next().await {
            Some(Ok(Message::Close(close))) => {
                // What remains of the handshake is the library's.
                while socket.next().await.is_some() {}
                break close.map(|it| (it.code.into(), it.reason.to_string()));
            }
            Some(Ok(Message::Text(text))) if text == "close" => {
                let _ = socket.close(Some(frame(4503, "paused"))).await;
            }
            Some(Ok(Message::Text(text))) if text == "die" => return,
            Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => {
                if socket.send(message).await.is_err() {
                    break None;
                }
            }
            Some(Ok(_)) => {}
            Some(Err(_)) | None => break None,
        }
    };
    let _ = tell.send(end);
}

/// Takes the second protocol, and what stands in the query and the cookie.
#[expect(clippy::result_large_err, reason = "the library's own type")]
fn greet(request: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
    if request.uri().path() == "/forbidden" {
        let mut refusal = ErrorResponse::new(None);
        *refusal.status_mut() = StatusCode::FORBIDDEN;
        refusal.headers_mut().insert("x-why", http::HeaderValue::from_static("not you"));
        return Err(refusal);
    }
    assert_eq!(
        (request.uri().query(), &request.headers()["cookie"]),
        (Some("a=b"), &http::HeaderValue::from_static("a=1"))
    );
    response.headers_mut().insert("sec-websocket-protocol", http::HeaderValue::from_static("two"));
    Ok(response)
}
