//! Connections: how many there are, and how long one may keep the daemon waiting.

use std::{
    collections::BTreeMap,
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use hyper::{
    body::{Frame, SizeHint},
    server::conn::http1,
    service::service_fn,
};
use rustix::net::sockopt::{set_socket_keepalive, set_tcp_user_timeout};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{AbortHandle, yield_now},
    time::{Instant, sleep, sleep_until},
};

use super::{call, operations::Daemon, stream::Stream};
use crate::{answer::Body, log::log};

/// Connections on which no call was obeyed yet. One more ends the oldest of them, if that had its time, so that many of
/// them, or slow ones, keep nobody out who can sign.
const MOST_UNSIGNED: usize = 64;

/// Time that each of them has in any case, unless there are [`MOST_YOUNG`] of them.
const CHANCE: Duration = Duration::from_secs(1);

/// Connections without a call that there are at most, while they have not had their time.
const MOST_YOUNG: usize = 512;

/// Connections in all.
const MOST: usize = 1_024;

/// How long the head of a request may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a connection on which a call was obeyed may be idle: a little longer than proxies keep one, so that it is not
/// they who find it closed.
const IDLE: Duration = Duration::from_secs(120);

/// Bytes of a request or an answer that are in memory; the head of a request is not larger either.
const BUFFER: usize = 64 << 10;

/// Answers all connections.
pub(super) async fn accept(listener: TcpListener, daemon: Arc<Daemon>) {
    let connections = Arc::new(Mutex::new(Connections::default()));
    let mut is_told = false;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                begin(stream, &daemon, &connections);
                // What has come already is read before another one needs room.
                yield_now().await;
            }
            // The guest has no file or memory left: there will be some again.
            Err(error) => {
                if !std::mem::replace(&mut is_told, true) {
                    log(format_args!("cannot accept connections: {error}"));
                }
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

fn begin(stream: TcpStream, daemon: &Arc<Daemon>, connections: &Arc<Mutex<Connections>>) {
    let mut all = locked(connections);
    if !all.make_room() {
        return;
    }
    let number = all.next;
    all.next += 1;
    let place = Arc::new(Place {
        number,
        connections: connections.clone(),
        until: watch::channel(Some(Instant::now() + PATIENCE)).0,
    });
    // The task runs no earlier than this function returns: its place is taken by then.
    let task = tokio::spawn(converse(stream, daemon.clone(), place));
    all.unsigned.insert(number, Unsigned { since: Instant::now(), task: task.abort_handle() });
}

async fn converse(stream: TcpStream, daemon: Arc<Daemon>, place: Arc<Place>) {
    let _ = (stream.set_nodelay(true), set_socket_keepalive(&stream, true));
    // One who takes nothing, or is gone without a word, ends the connection.
    let _ = set_tcp_user_timeout(&stream, daemon.client_ms);
    let service = service_fn(|request| {
        let (daemon, waiting) = (daemon.clone(), Waiting(place.clone()));
        let _ = place.until.send_replace(None);
        async move {
            let answer = call::answer(daemon, request, || waiting.0.sign()).await;
            Ok::<_, std::convert::Infallible>(answer.map(|body| Told { body, _waiting: waiting }))
        }
    });
    let connection =
        http1::Builder::new().max_buf_size(BUFFER).serve_connection(Stream(stream), service).with_upgrades();
    tokio::select! {
        _ = pin!(connection) => {}
        () = place.is_late() => {}
    }
}

/// All connections.
#[derive(Default)]
struct Connections {
    next: u64,
    signed: usize,
    unsigned: BTreeMap<u64, Unsigned>,
}

/// Connection on which no call was obeyed yet.
struct Unsigned {
    since: Instant,
    task: AbortHandle,
}

impl Connections {
    /// Makes room for one more.
    fn make_room(&mut self) -> bool {
        while self.unsigned.len() >= MOST_UNSIGNED
            && self.unsigned.first_key_value().is_some_and(|(_, it)| it.since.elapsed() >= CHANCE)
        {
            self.end_oldest();
        }
        let is_full = self.signed + self.unsigned.len() >= MOST || self.unsigned.len() >= MOST_YOUNG;
        !is_full || self.end_oldest()
    }

    fn end_oldest(&mut self) -> bool {
        let oldest = self.unsigned.pop_first();
        oldest.iter().for_each(|(_, it)| it.task.abort());
        oldest.is_some()
    }
}

fn locked(connections: &Mutex<Connections>) -> MutexGuard<'_, Connections> {
    connections.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Place of a connection among all.
struct Place {
    number: u64,
    connections: Arc<Mutex<Connections>>,
    /// When the connection ends, if no head of a request has come.
    until: watch::Sender<Option<Instant>>,
}

impl Place {
    /// A call was obeyed on it.
    fn sign(&self) {
        let mut all = locked(&self.connections);
        if all.unsigned.remove(&self.number).is_some() {
            all.signed += 1;
        }
    }

    async fn is_late(&self) {
        let mut changes = self.until.subscribe();
        loop {
            let until = *changes.borrow_and_update();
            tokio::select! {
                () = async { match until {
                    Some(until) => sleep_until(until).await,
                    None => std::future::pending().await,
                } } => return,
                _ = changes.changed() => {}
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut all = locked(&self.connections);
        if all.unsigned.remove(&self.number).is_none() {
            all.signed = all.signed.saturating_sub(1);
        }
    }
}

/// From its drop on, the next request is waited for.
struct Waiting(Arc<Place>);

impl Drop for Waiting {
    fn drop(&mut self) {
        let is_signed = !locked(&self.0.connections).unsigned.contains_key(&self.0.number);
        let _ = self.0.until.send_replace(Some(Instant::now() + if is_signed { IDLE } else { PATIENCE }));
    }
}

/// Body of an answer, which ends when it is dropped.
struct Told {
    body: Body,
    _waiting: Waiting,
}

impl hyper::body::Body for Told {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<std::io::Result<Frame<Bytes>>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, net::SocketAddr};

    use http::{Request, Response};
    use http_body_util::{BodyExt, Full};
    use hyper::{body::Incoming, client::conn::http1};
    use hyper_util::rt::TokioIo;
    use pve_edge_guest_protocol::{
        CALL, SIGNATURE, Unique,
        call::{Body, Call, Operation},
        identity::HardwareAddress,
        keys::EdgeKey,
    };
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::{arguments::Options, boot::Boot, layout::Layout, serve};

    /// A daemon in this process, so that its clock is the test's.
    async fn daemon(folder: &tempfile::TempDir) -> (Arc<Daemon>, SocketAddr) {
        let path = |name| folder.path().join(name);
        let layout =
            Layout { keys: path("keys"), run: path("run"), state: path("state"), ..Layout::default() };
        fs::write(&layout.keys, format!("{}\n", key().line("home"))).unwrap();
        Boot::begin(&layout, false, serve::draw).unwrap();
        fs::create_dir_all(path("cards/eth0")).unwrap();
        fs::write(path("cards/eth0/address"), HardwareAddress::of("home", "x").to_string()).unwrap();
        let options = Options { layout, cards: Some(path("cards")), ..Options::default() };
        let daemon = Arc::new(serve::daemon(options).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(accept(listener, daemon.clone()));
        (daemon, address)
    }

    fn key() -> EdgeKey {
        EdgeKey::new(&[7; 32])
    }

    fn hello(daemon: &Daemon, call: u8) -> Request<Full<Bytes>> {
        let session = daemon.trust().session();
        let (call, operation) = (Unique([call; 16]), Operation::Hello {});
        let call = Call { to: "x".into(), session, call, operation, body: Some(Body::of(b"")) };
        let signed = call.sign(&key()).unwrap();
        let request =
            Request::post("/v1/hello").header(CALL, signed.call).header(SIGNATURE, signed.signature);
        request.body(Full::default()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_comes_slowly_ends_its_connection() {
        let folder = tempfile::tempdir().unwrap();
        let (_, address) = daemon(&folder).await;
        for pause in [Duration::from_secs(3), Duration::from_secs(60)] {
            let begin = Instant::now();
            let mut stream = TcpStream::connect(address).await.unwrap();
            let (mut read, mut write) = stream.split();
            tokio::select! {
                it = read.read_u8() => assert!(it.is_err(), "nothing is answered"),
                () = async { loop {
                    let _ = write.write_all(b"G").await;
                    sleep(pause).await;
                } } => {}
            }
            assert_eq!(begin.elapsed().as_secs(), PATIENCE.as_secs(), "{pause:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_was_obeyed_may_be_idle_for_longer() {
        let folder = tempfile::tempdir().unwrap();
        let (daemon, address) = daemon(&folder).await;
        let stream = TcpStream::connect(address).await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        let connection = tokio::spawn(connection);
        for call in 0..3 {
            sender.ready().await.unwrap();
            let answer: Response<Incoming> = sender.send_request(hello(&daemon, call)).await.unwrap();
            assert_eq!(answer.status(), 200);
            answer.into_body().collect().await.unwrap();
            sleep(IDLE - Duration::from_secs(1)).await;
        }
        let begin = Instant::now();
        let _ = connection.await.unwrap();
        assert_eq!(begin.elapsed().as_secs(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn unsigned_connections_make_room_after_their_time_and_signed_ones_do_not() {
        let mut all = Connections { signed: MOST, ..Connections::default() };
        assert!(!all.make_room());
        all.signed = 0;
        let task = tokio::spawn(std::future::pending::<()>());
        let mut next = 0;
        let mut fill = |all: &mut Connections, most: usize| {
            while all.unsigned.len() < most {
                assert!(all.make_room());
                all.unsigned.insert(next, Unsigned { since: Instant::now(), task: task.abort_handle() });
                next += 1;
            }
        };
        fill(&mut all, MOST_YOUNG);
        assert!(all.make_room());
        assert_eq!(all.unsigned.keys().next(), Some(&1), "the oldest is gone");
        sleep(CHANCE).await;
        assert!(all.make_room());
        assert_eq!(all.unsigned.len(), MOST_UNSIGNED - 1);
        fill(&mut all, MOST_UNSIGNED + 9);
        all.signed = MOST - all.unsigned.len();
        assert!(all.make_room());
        assert_eq!(all.unsigned.len(), MOST_UNSIGNED + 8);
        assert!(task.await.unwrap_err().is_cancelled());
    }
}
