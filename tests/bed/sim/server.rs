//! The simulator over loopback, in real time, for programs that are not Rust.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited, StreamBody};
use hyper::{
    body::{Frame, Incoming},
    ext::ReasonPhrase,
    server::conn::http1,
    service::service_fn,
    upgrade::{self, OnUpgrade},
};
use hyper_util::rt::TokioIo;
use time::OffsetDateTime;
use tokio::{net::TcpListener, task::JoinHandle};

use super::{
    Reply, Sim,
    execd::{Admitted, Piece, Streamed},
    reply, websocket,
};

/// A simulator that several connections share.
pub type Shared = Arc<Mutex<Sim>>;

/// A server; dropping it ends it.
#[derive(Debug)]
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

/// Serves the PVE API under `/api2/`, and the daemons of guests under their
/// public host names. The simulator's time becomes the real one.
pub async fn serve(sim: Shared, port: u16) -> io::Result<Server> {
    listen(sim, port, None).await
}

/// Serves one guest's daemon at a port of its own.
pub async fn serve_execd(sim: Shared, vmid: u32, port: u16) -> io::Result<Server> {
    listen(sim, port, Some(vmid)).await
}

/// The simulator, with its clock at the real time.
pub fn lock(sim: &Shared) -> MutexGuard<'_, Sim> {
    let mut sim = sim.lock().unwrap_or_else(PoisonError::into_inner);
    sim.advance_to(OffsetDateTime::now_utc());
    sim
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn listen(sim: Shared, port: u16, vmid: Option<u32>) -> io::Result<Server> {
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    let address = listener.local_addr()?;
    let task = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let sim = sim.clone();
            let service = service_fn(move |request| answer(sim.clone(), vmid, request));
            let connection =
                http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades();
            tokio::spawn(async move { drop(connection.await) });
        }
    });
    Ok(Server { address, task })
}

/// An answer as it is sent.
pub(crate) type Chunked = Response<StreamBody<Chunks>>;

type Chunks = std::pin::Pin<Box<dyn Stream<Item = Result<Frame<Bytes>, io::Error>> + Send>>;

async fn answer(
    sim: Shared,
    vmid: Option<u32>,
    mut request: Request<Incoming>,
) -> io::Result<Response<StreamBody<Chunks>>> {
    let wants = request.headers().contains_key(http::header::UPGRADE).then(|| upgrade::on(&mut request));
    let (parts, body) = request.into_parts();
    let body = match Limited::new(body, 4 << 20).collect().await {
        Ok(body) => body.to_bytes().to_vec(),
        Err(_) => return Ok(response(413, "", HeaderMap::new(), once(Vec::new()))),
    };
    let request = Request::from_parts(parts, body);
    let host = request.headers().get(http::header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("");
    let host = host.split(':').next().unwrap_or("").to_owned();
    let guest = vmid.or_else(|| lock(&sim).guest_of_host(&host));
    Ok(match guest {
        Some(vmid) => exec(sim, vmid, request).await,
        None => return api(sim, request, wants).await,
    })
}

async fn api(
    sim: Shared,
    request: Request<Vec<u8>>,
    wants: Option<OnUpgrade>,
) -> io::Result<Response<StreamBody<Chunks>>> {
    let wants = wants.filter(|_| websocket::is_wanted(&request));
    let arrived = OffsetDateTime::now_utc();
    loop {
        let answer = lock(&sim).answer(&request, arrived);
        match answer {
            Ok(reply) => {
                tokio::time::sleep(reply.delay.try_into().unwrap_or_default()).await;
                let Some(wants) = wants else {
                    return Ok(response(reply.status, &reply.reason, reply.headers, once(reply.body)));
                };
                return join(&sim, &request, wants, reply);
            }
            Err(blocked) => {
                let wait = Duration::try_from(blocked.until - OffsetDateTime::now_utc()).unwrap_or_default();
                tokio::time::sleep(wait.max(Duration::from_millis(1))).await;
            }
        }
    }
}

/// What a request for a websocket gets.
fn join(
    sim: &Shared,
    request: &Request<Vec<u8>>,
    wants: OnUpgrade,
    reply: Reply,
) -> io::Result<Response<StreamBody<Chunks>>> {
    let (version, now) = {
        let sim = lock(sim);
        (sim.setup().version, sim.now())
    };
    let reply = match websocket::shaken(request.headers()) {
        Err(text) => reply::plain(501, &text, &text, version).dated(now),
        Ok(headers) if reply.status == 200 => {
            websocket::join(sim, request, wants)?;
            Reply { status: 101, reason: String::new(), headers, body: Vec::new(), delay: reply.delay }
        }
        Ok(_) => reply,
    };
    Ok(response(reply.status, &reply.reason, reply.headers, once(reply.body)))
}

/// What a reverse proxy says when nobody listens behind it.
async fn exec(sim: Shared, vmid: u32, request: Request<Vec<u8>>) -> Response<StreamBody<Chunks>> {
    let admitted = lock(&sim).execd_admit(vmid, &request);
    let streamed = match admitted {
        Admitted::Refused => {
            return response(502, "", HeaderMap::new(), once(b"<html>bad gateway</html>".to_vec()));
        }
        Admitted::Answered(answer) => answer,
        Admitted::Runs(job) => match tokio::task::spawn_blocking(move || job.run()).await {
            Ok(streamed) => streamed,
            Err(_) => return response(500, "", HeaderMap::new(), once(Vec::new())),
        },
    };
    chunked(streamed)
}

/// In the pieces in which it arrives.
pub(crate) fn chunked(streamed: Streamed) -> Chunked {
    let Streamed { status, headers, pieces } = streamed;
    response(status, "", headers, chunks(pieces))
}

fn chunks(pieces: Vec<Piece>) -> Chunks {
    let frames = stream::iter(pieces).filter_map(|piece| async {
        match piece {
            Piece::Bytes(bytes) => Some(Ok(Frame::data(Bytes::from(bytes)))),
            Piece::Cut => Some(Err(io::Error::from(io::ErrorKind::ConnectionReset))),
            Piece::Wait(wait) => {
                tokio::time::sleep(wait).await;
                None
            }
        }
    });
    Box::pin(frames)
}

fn once(body: Vec<u8>) -> Chunks {
    Box::pin(stream::iter([Ok(Frame::data(Bytes::from(body)))]))
}

fn response(status: u16, reason: &str, headers: HeaderMap, body: Chunks) -> Response<StreamBody<Chunks>> {
    let mut response = Response::new(StreamBody::new(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    *response.headers_mut() = headers;
    if let (false, Ok(reason)) = (reason.is_empty(), ReasonPhrase::try_from(reason.as_bytes().to_vec())) {
        response.extensions_mut().insert(reason);
    }
    response
}
