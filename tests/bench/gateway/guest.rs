//! What a guest serves: answers of two sizes, events, and an echo by websocket.

use std::{
    convert::Infallible,
    future::pending,
    sync::LazyLock,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt, stream};
use http::{Response, StatusCode};
use http_body::Frame;
use http_body_util::StreamBody;
use pve_edge_bed::serve::{boxed, serve, whole};
use tokio::{net::TcpListener, task::JoinSet, time::sleep};
use tokio_tungstenite::accept_async;

/// Port of answers and events.
pub(super) const PORT: u16 = 5173;
/// Port of websockets.
pub(super) const WEBSOCKETS: u16 = 5174;
/// Events that are sent, one each five milliseconds.
pub(super) const EVENTS: usize = 200;

/// Servers of a guest, until this is dropped.
pub(super) struct Guest {
    _servers: JoinSet<()>,
}

impl Guest {
    /// Serves at an address.
    pub(super) async fn serve(ip: &str) -> std::io::Result<Self> {
        let mut servers = JoinSet::new();
        let handler = |request: http::Request<_>| async move {
            match request.uri().path() {
                "/1m" => whole(StatusCode::OK, "application/octet-stream", vec![b'x'; 1_000_000]),
                "/events" => boxed(Response::new(StreamBody::new(events()))),
                _ => whole(StatusCode::OK, "text/plain", vec![b'x'; 1000]),
            }
        };
        servers.spawn(serve(TcpListener::bind((ip, PORT)).await?, handler, pending()));
        servers.spawn(echo(TcpListener::bind((ip, WEBSOCKETS)).await?));
        Ok(Self { _servers: servers })
    }
}

/// Seconds since this program first asked.
pub(super) fn now() -> f64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed().as_secs_f64()
}

fn events() -> impl futures_util::Stream<Item = Result<Frame<Bytes>, Infallible>> {
    stream::iter(0..EVENTS).then(|_| async {
        sleep(Duration::from_millis(5)).await;
        Ok(Frame::data(format!("data: {}\n\n", now()).into()))
    })
}

/// Sends each message back.
async fn echo(listener: TcpListener) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(async move {
            let _ = stream.set_nodelay(true);
            let Ok(mut socket) = accept_async(stream).await else { return };
            while let Some(Ok(message)) = socket.next().await {
                if message.is_close() || socket.send(message).await.is_err() {
                    break;
                }
            }
        });
    }
}
