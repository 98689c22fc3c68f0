//! Terminals: a websocket on which people work with a process.

use std::{io, sync::Arc, time::Duration};

use bytes::{Buf, Bytes};
use futures_util::{
    Sink, SinkExt, Stream, StreamExt,
    future::{Either, select},
};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper::{
    body::Incoming,
    upgrade::{self, OnUpgrade},
};
use pve_edge_guest_protocol::{
    answer::{Code, Refusal},
    process::{Event, Follow, FromTerminal, Line, Named, Process, Resize, Terminal, ToTerminal},
};
use tokio::time::sleep;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error, Message, Utf8Bytes,
        handshake::derive_accept_key,
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
    },
};

use super::{operations::Daemon, stream::Stream as Connection};
use crate::{answer::Reply, process::Processes};

/// Bytes that a message of a client may have.
const LARGEST_MESSAGE: usize = 1 << 20;

/// Time after which bytes are offered again that the process has not taken.
const AGAIN: Duration = Duration::from_millis(20);

type Websocket = WebSocketStream<tokio::net::TcpStream>;

/// Opens a terminal on the connection of a request.
pub(super) async fn open(daemon: Arc<Daemon>, terminal: Terminal, mut request: Request<Incoming>) -> Reply {
    let accept = accept(request.headers()).ok_or_else(|| {
        Refusal::new(
            Code::BadCall,
            "a terminal is a websocket (RFC 6455): Upgrade and Sec-WebSocket-Key are needed",
        )
    })?;
    let process = daemon.processes.get(Named { process: terminal.process }).await?;
    // Its place among the followers is taken before the websocket is there.
    let follow = Follow { process: terminal.process, after: terminal.after, wait_ms: None, most: None };
    let lines = daemon.processes.follow(follow).await?;
    let client = upgrade::on(&mut request);
    tokio::spawn(serve(daemon.processes.clone(), terminal, process, lines, client));
    let mut response = Response::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    Ok(response)
}

/// The answer to the key of a request that opens a websocket.
fn accept(headers: &HeaderMap) -> Option<HeaderValue> {
    let is_asked = headers.get(header::UPGRADE)?.as_bytes().eq_ignore_ascii_case(b"websocket");
    let key = headers.get(header::SEC_WEBSOCKET_KEY).filter(|_| is_asked)?;
    HeaderValue::try_from(derive_accept_key(key.as_bytes())).ok()
}

/// Serves a terminal until the process or the client ends it.
async fn serve(
    processes: Arc<Processes>,
    terminal: Terminal,
    process: Process,
    lines: impl Stream<Item = io::Result<Line>>,
    client: OnUpgrade,
) {
    let named = Named { process: terminal.process };
    if let Some(websocket) = websocket(client).await {
        let (mut to, from) = websocket.split();
        let output = Box::pin(send_output(lines, process, &mut to));
        let input = Box::pin(take_input(&processes, &named, from));
        let ended = match select(output, input).await {
            Either::Left((ended, _)) => ended.ok(),
            Either::Right(_) => None,
        };
        if let Some(code) = ended {
            let close = CloseFrame { code, reason: Utf8Bytes::default() };
            let _ = to.send(Message::Close(Some(close))).await;
        }
    }
    if terminal.hangup {
        // It may have ended, or be gone, already.
        let _ = processes.forget(named).await;
    }
}

/// The connection, once it speaks the other protocol.
async fn websocket(client: OnUpgrade) -> Option<Websocket> {
    let parts = client.await.ok()?.downcast::<Connection>().ok()?;
    let config = WebSocketConfig::default()
        .max_message_size(Some(LARGEST_MESSAGE))
        .max_frame_size(Some(LARGEST_MESSAGE));
    let Connection(stream) = parts.io;
    Some(
        WebSocketStream::from_partially_read(stream, parts.read_buf.into(), Role::Server, Some(config)).await,
    )
}

/// Sends what the process writes, until it has ended; returns how the websocket is closed then.
async fn send_output(
    lines: impl Stream<Item = io::Result<Line>>,
    process: Process,
    to: &mut (impl Sink<Message, Error = Error> + Unpin),
) -> Result<CloseCode, Error> {
    let mut lines = std::pin::pin!(lines);
    to.send(text(&FromTerminal::Started(process))).await?;
    while let Some(line) = lines.next().await {
        let Line { event, .. } = line.map_err(Error::Io)?;
        match event {
            Event::Started { .. } => {}
            Event::Out { data, .. } => to.send(Message::binary(data.0)).await?,
            Event::Gap { bytes } => to.send(text(&FromTerminal::Gap { bytes })).await?,
            // Proxies end a connection on which nothing is sent.
            Event::Alive => to.send(Message::Ping(Vec::new().into())).await?,
            Event::Exit(exit) => {
                to.send(text(&FromTerminal::Exit(exit))).await?;
                return Ok(CloseCode::Normal);
            }
            Event::Lost => {
                to.send(text(&FromTerminal::Lost {})).await?;
                return Ok(CloseCode::Error);
            }
        }
    }
    Err(Error::ConnectionClosed)
}

fn text(message: &FromTerminal) -> Message {
    Message::text(serde_json::to_string(message).unwrap_or_default())
}

/// Gives the process what the client writes, until the client leaves.
async fn take_input(
    processes: &Processes,
    named: &Named,
    mut from: impl Stream<Item = Result<Message, Error>> + Unpin,
) {
    while let Some(Ok(message)) = from.next().await {
        match message {
            Message::Binary(bytes) => write(processes, named, bytes).await,
            Message::Text(text) => {
                if let Ok(ToTerminal::Resize(size)) = serde_json::from_str(&text) {
                    // A process that has ended has no size.
                    let _ = processes.resize(Resize { process: named.process, size }).await;
                }
            }
            Message::Close(_) => return,
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
        }
    }
}

/// Writes bytes to the process, as fast as it takes them: behind those of others who write to it too.
async fn write(processes: &Processes, named: &Named, mut bytes: Bytes) {
    while !bytes.is_empty() {
        // What a process that has ended does not take is gone.
        let Ok(count) = processes.type_in(named, &bytes).await else { return };
        bytes.advance(count.min(bytes.len()));
        if count == 0 {
            sleep(AGAIN).await;
        }
    }
}
