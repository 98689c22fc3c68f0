//! Core's `Io` that counts, and on a tape: what was answered once, answered again.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use futures_util::{Stream, StreamExt, stream};
use http::HeaderMap;
use pve_edge_core::io::{Answer, Io, NetError, RequestBody, Way};
use pve_edge_lambda::{body::Upload, net::Net};
use time::OffsetDateTime;

/// The network, which counts what goes to PVE, and records all that comes.
#[derive(Clone)]
pub(crate) struct Recorder {
    net: Net,
    pve: Arc<AtomicU32>,
    tape: Arc<Mutex<Tape>>,
}

/// All that one operation learned of the world, in order.
#[derive(Default)]
pub(crate) struct Tape {
    answers: Vec<Recorded>,
    clock: Vec<OffsetDateTime>,
}

#[derive(Clone)]
struct Recorded {
    status: u16,
    reason: String,
    headers: HeaderMap,
    chunks: Vec<Vec<u8>>,
}

/// A world that answers at once what it answered before.
#[derive(Clone)]
pub(crate) struct Player {
    tape: Arc<Mutex<Tape>>,
    at: Arc<(AtomicU32, AtomicU32)>,
}

type Chunks = Pin<Box<dyn Stream<Item = Result<Vec<u8>, NetError>> + Send>>;

impl Recorder {
    pub(crate) fn new(net: Net) -> Self {
        Self { net, pve: Arc::default(), tape: Arc::default() }
    }

    /// Requests to PVE so far.
    pub(crate) fn requests(&self) -> u32 {
        self.pve.load(Ordering::Relaxed)
    }

    /// A world that answers the same again.
    pub(crate) fn player(&self) -> Player {
        Player { tape: self.tape.clone(), at: Arc::default() }
    }
}

impl Io for Recorder {
    type Body = Chunks;
    type Upload = Upload;
    type Link = pve_edge_core::io::NoLink;

    async fn open(
        &self,
        request: http::Request<RequestBody<Upload>>,
        deadline: OffsetDateTime,
    ) -> Result<Answer<Self::Body>, NetError> {
        if request.extensions().get() == Some(&Way::Pve) {
            self.pve.fetch_add(1, Ordering::Relaxed);
        }
        let Answer { status, reason, headers, body } = self.net.open(request, deadline).await?;
        let chunks: Vec<_> = body.collect().await;
        let chunks = chunks.into_iter().collect::<Result<Vec<_>, _>>()?;
        let recorded = Recorded { status, reason, headers, chunks };
        lock(&self.tape).answers.push(recorded.clone());
        Ok(recorded.answer())
    }

    async fn sleep(&self, duration: Duration) {
        self.net.sleep(duration).await;
    }

    fn now(&self) -> OffsetDateTime {
        let now = self.net.now();
        lock(&self.tape).clock.push(now);
        now
    }
}

impl Io for Player {
    type Body = Chunks;
    type Upload = Upload;
    type Link = pve_edge_core::io::NoLink;

    async fn open(
        &self,
        _: http::Request<RequestBody<Upload>>,
        _: OffsetDateTime,
    ) -> Result<Answer<Self::Body>, NetError> {
        let at = self.at.0.fetch_add(1, Ordering::Relaxed) as usize;
        let recorded = lock(&self.tape).answers.get(at).cloned();
        Ok(recorded.expect("the same questions as before").answer())
    }

    async fn sleep(&self, _: Duration) {}

    fn now(&self) -> OffsetDateTime {
        let at = self.at.1.fetch_add(1, Ordering::Relaxed) as usize;
        *lock(&self.tape).clock.get(at).expect("as often as before")
    }
}

impl Recorded {
    fn answer(self) -> Answer<Chunks> {
        let Self { status, reason, headers, chunks } = self;
        Answer { status, reason, headers, body: Box::pin(stream::iter(chunks.into_iter().map(Ok))) }
    }
}

fn lock(tape: &Mutex<Tape>) -> MutexGuard<'_, Tape> {
    tape.lock().unwrap_or_else(PoisonError::into_inner)
}
