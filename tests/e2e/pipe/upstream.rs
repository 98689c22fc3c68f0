//! The upstream of one scenario: a server that tells what it has received.

use std::net::{Ipv4Addr, SocketAddr};

use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use sha2::{Digest, Sha256};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

use pve_edge_bed::serve::{Reply, serve, text};

/// A server, until it is dropped.
pub(super) struct Upstream {
    pub(super) port: u16,
    _server: JoinSet<()>,
}

/// What has come of a request's body.
#[derive(Clone, Debug, Default)]
pub(super) struct Received {
    pub(super) headers: HeaderMap,
    pub(super) bytes: usize,
    /// The body's SHA-256 when it has ended as it should, else `None`.
    pub(super) end: Option<Option<String>>,
}

impl Upstream {
    /// Answers each request by `handler`.
    pub(super) async fn http<F>(handler: impl Fn(Request<Incoming>) -> F + Clone + Send + 'static) -> Self
    where
        F: Future<Output = Reply> + Send + 'static,
    {
        let (listener, port) = listen().await;
        let mut server = JoinSet::new();
        server.spawn(serve(listener, handler, std::future::pending()));
        Self { port, _server: server }
    }

    /// Speaks to each connection as `handler` does.
    pub(super) async fn tcp<F>(handler: impl Fn(TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (listener, port) = listen().await;
        let mut server = JoinSet::new();
        server.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(handler(stream));
            }
        });
        Self { port, _server: server }
    }

    /// Reads bodies, and tells how far it is.
    pub(super) async fn reading() -> (Self, watch::Receiver<Received>) {
        let (told, received) = watch::channel(Received::default());
        (Self::http(move |request| read(request, told.clone())).await, received)
    }
}

async fn read(request: Request<Incoming>, told: watch::Sender<Received>) -> Reply {
    let (parts, mut body) = request.into_parts();
    told.send_modify(|it| it.headers = parts.headers);
    // A client that leaves may end this future in the midst of it.
    let end = End(told);
    let mut hash = Sha256::new();
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return text(StatusCode::BAD_REQUEST, "cut") };
        let data = frame.into_data().unwrap_or_default();
        hash.update(&data);
        end.0.send_modify(|it| it.bytes += data.len());
    }
    let hash = hex::encode(hash.finalize());
    end.0.send_modify(|it| it.end = Some(Some(hash.clone())));
    text(StatusCode::OK, hash)
}

/// Tells that a body was cut, unless its end was told before.
struct End(watch::Sender<Received>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.send_modify(|it| {
            it.end.get_or_insert(None);
        });
    }
}

async fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let port = listener.local_addr().map(|it: SocketAddr| it.port()).expect("an address");
    (listener, port)
}
