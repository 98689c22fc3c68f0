//! A client that sees each byte of an answer as it comes.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Request, header};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;
use sha2::{Digest, Sha256};
use tokio::{
    net::TcpStream,
    sync::mpsc,
    task::{JoinHandle, JoinSet},
    time::timeout,
};

/// Longer than anything takes here.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

pub(super) const MIB: usize = 1 << 20;

type Body = BoxBody<Bytes, Infallible>;

/// The pipe that is tested.
#[derive(Clone, Debug)]
pub(super) struct Pipe {
    /// Host and port.
    pub(super) authority: String,
    /// What its paths begin with.
    pub(super) prefix: String,
}

/// A request whose body is sent piece by piece.
pub(super) struct Sending {
    pieces: mpsc::Sender<Bytes>,
    answer: JoinHandle<Answer>,
}

/// An answer that is being read; the connection ends when it is dropped.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    body: Incoming,
    _connection: JoinSet<()>,
}

impl Pipe {
    pub(super) fn new(url: &str) -> Self {
        let rest = url.strip_prefix("http://").expect("http");
        let (authority, prefix) = match rest.split_once('/') {
            Some((authority, path)) => (authority, format!("/{path}")),
            None => (rest, String::new()),
        };
        Self { authority: authority.to_owned(), prefix }
    }

    /// A connection to it.
    pub(super) async fn connect(&self) -> TcpStream {
        TcpStream::connect(&self.authority).await.expect("a connection")
    }

    /// The path that leads to an upstream's.
    pub(super) fn path(&self, port: u16, path: &str) -> String {
        format!("{}/{port}{path}", self.prefix)
    }

    /// A request without a body.
    pub(super) async fn get(&self, port: u16, path: &str) -> Answer {
        self.send(port, Request::get(path), Bytes::new()).await
    }

    /// A request to `port`, whose path `builder` has.
    pub(super) async fn send(&self, port: u16, builder: http::request::Builder, body: Bytes) -> Answer {
        self.open(port, builder.body(Full::new(body).boxed()).expect("a request")).await
    }

    /// A request whose body comes in pieces: of this length in all, or of one that nobody knows.
    pub(super) fn upload(&self, port: u16, length: Option<usize>) -> Sending {
        let (pieces, mut rest) = mpsc::channel(1);
        let body = stream::poll_fn(move |context| rest.poll_recv(context));
        let frames = futures_util::StreamExt::map(body, |bytes| Ok(Frame::data(bytes)));
        let mut request = Request::put("/file").header("content-type", "application/octet-stream");
        if let Some(length) = length {
            request = request.header(header::CONTENT_LENGTH, length);
        }
        let request = request.body(StreamBody::new(frames).boxed()).expect("a request");
        let pipe = self.clone();
        Sending { pieces, answer: tokio::spawn(async move { pipe.open(port, request).await }) }
    }

    async fn open(&self, port: u16, mut request: Request<Body>) -> Answer {
        let path = request.uri().path_and_query().expect("a path").as_str();
        *request.uri_mut() = self.path(port, path).parse().expect("a path");
        let host = self.authority.parse().expect("a header");
        request.headers_mut().insert(header::HOST, host);
        let (mut sender, driven) =
            http1::handshake(TokioIo::new(self.connect().await)).await.expect("a connection");
        let mut connection = JoinSet::new();
        connection.spawn(async move { drop(driven.await) });
        let response = timeout(PATIENCE, sender.send_request(request)).await.expect("an answer in time");
        let (parts, body) = response.map_err(|error| error.to_string()).expect("an answer").into_parts();
        Answer { status: parts.status.as_u16(), headers: parts.headers, body, _connection: connection }
    }
}

impl Sending {
    /// Sends so many bytes.
    pub(super) async fn send(&self, bytes: &Bytes) {
        for piece in bytes.chunks(MIB / 16) {
            let sent = timeout(PATIENCE, self.pieces.send(bytes.slice_ref(piece))).await;
            sent.expect("it goes on").expect("it is taken");
        }
    }

    /// Ends the body, and waits for the answer.
    pub(super) async fn end(self) -> Answer {
        drop(self.pieces);
        self.answer.await.expect("an answer")
    }

    /// Leaves.
    pub(super) fn abort(self) {
        self.answer.abort();
        // Without a sender the body would end as it should.
        std::mem::forget(self.pieces);
    }
}

impl Answer {
    /// The next bytes; `None` at the end, an error where it is cut.
    pub(super) async fn next(&mut self) -> Option<Result<Bytes, hyper::Error>> {
        let frame = timeout(PATIENCE, self.body.frame()).await.expect("it goes on")?;
        Some(frame.map(|it| it.into_data().unwrap_or_default()))
    }

    /// All of the body.
    pub(super) async fn bytes(mut self) -> Vec<u8> {
        let mut all = Vec::new();
        while let Some(bytes) = self.next().await {
            all.extend_from_slice(&bytes.expect("all of it"));
        }
        all
    }

    /// The body as text.
    pub(super) async fn text(self) -> String {
        String::from_utf8(self.bytes().await).expect("text")
    }

    /// Whether the body breaks off.
    pub(super) async fn ends_cut(mut self) -> bool {
        while let Some(bytes) = self.next().await {
            if bytes.is_err() {
                return true;
            }
        }
        false
    }

    /// A header's values.
    pub(super) fn all(&self, name: &str) -> Vec<&[u8]> {
        self.headers.get_all(name).iter().map(http::HeaderValue::as_bytes).collect()
    }
}

/// Bytes of which no two parts are alike.
pub(super) fn noise(length: usize) -> Bytes {
    let block = |at: usize| <[u8; 32]>::from(Sha256::digest(at.to_be_bytes()));
    (0..length.div_ceil(32)).flat_map(block).take(length).collect()
}

/// Their SHA-256.
pub(super) fn hash(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}
