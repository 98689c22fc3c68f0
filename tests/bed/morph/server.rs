//! The stand-in over loopback, in real time, for programs that are not Rust.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use http::Request;
use http_body_util::{BodyExt, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use time::OffsetDateTime;
use tokio::{net::TcpListener, task::JoinHandle};

use super::Morph;
use crate::sim::server::{Chunked, chunked};

/// A server; dropping it ends it.
#[derive(Debug)]
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Serves its API under `/api`.
pub async fn serve(morph: Morph, port: u16) -> std::io::Result<Server> {
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    let address = listener.local_addr()?;
    let morph = Arc::new(Mutex::new(morph));
    let task = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let morph = morph.clone();
            let service = service_fn(move |request| answer(morph.clone(), request));
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            tokio::spawn(async move { drop(connection.await) });
        }
    });
    Ok(Server { address, task })
}

async fn answer(morph: Arc<Mutex<Morph>>, request: Request<Incoming>) -> Result<Chunked, Infallible> {
    let (parts, body) = request.into_parts();
    let body = Limited::new(body, 4 << 20).collect().await.map(|it| it.to_bytes().to_vec());
    let request = Request::from_parts(parts, body.unwrap_or_default());
    // A command may take its time; this serves tests that run one at a time.
    let answered = tokio::task::spawn_blocking(move || {
        morph.lock().unwrap_or_else(PoisonError::into_inner).answer(&request, OffsetDateTime::now_utc())
    });
    Ok(match answered.await {
        Ok(streamed) => chunked(streamed),
        Err(_) => chunked(crate::sim::execd::Streamed {
            status: 500,
            headers: Default::default(),
            pieces: Vec::new(),
        }),
    })
}
