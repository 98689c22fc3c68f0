//! The invocation: the clock and the time of one request to the API, and the number of outgoing requests that are left.

use std::{
    sync::atomic::{AtomicI64, AtomicU32, Ordering},
    time::Duration,
};

use http::{Method, Request};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use super::{Failure, Io, NetError, Platform, Whole, date::date, deadline::Deadline, fetch};

/// Bytes up to which an answer is read (rule P4.3): a listing of 10,000 guests of PVE has about 5 MB.
const ANSWER_CAP: usize = 16 << 20;

/// Time for a write: inside PVE it waits up to 10 s for a lock.
const WRITE: Duration = Duration::from_secs(15);

/// Time for a read: a node that is silently dead keeps its neighbour waiting for 30 s.
const READ: Duration = Duration::from_secs(8);

/// Time after which the last call and the undo must be over (rule P4.1): API Gateway gives up at 29 s.
const INVOCATION: Duration = Duration::from_secs(28);

/// Value of `ahead` while no answer has told PVE's clock.
const UNKNOWN: i64 = i64::MAX;

/// Invocation by one request to the API: the world as it may use it.
pub struct Invocation<I> {
    /// World that the adapter gives.
    pub io: I,
    /// Limits of the platform.
    pub platform: Platform,
    /// Fresh random bytes.
    pub seed: [u8; 32],
    /// URL below which the client that asks has found the API's paths; `None` where nobody asks, or no host is told.
    pub asked_at: Option<String>,
    /// Name of the API that calls go to, for logs.
    api: &'static str,
    born: OffsetDateTime,
    left: AtomicU32,
    /// Number of names that were drawn.
    drawn: AtomicU32,
    ahead: AtomicI64,
}

/// Reason why a call has no answer.
#[derive(Clone, Debug)]
pub enum Lost {
    /// No answer came, or not all of it.
    Net(NetError),
    /// The platform allows no more requests: the call was not sent.
    Budget,
}

impl<I: Io> Invocation<I> {
    /// The invocation of one request, which begins now.
    pub fn new(io: I, api: &'static str, platform: Platform, seed: [u8; 32]) -> Self {
        let born = io.now();
        let (left, drawn) = (AtomicU32::new(platform.requests), AtomicU32::new(0));
        Self { io, api, platform, seed, asked_at: None, born, left, drawn, ahead: AtomicI64::new(UNKNOWN) }
    }

    /// The same, for a client that has found the API at `asked_at`.
    #[must_use]
    pub fn asked_at(self, asked_at: Option<String>) -> Self {
        Self { asked_at, ..self }
    }

    /// Seconds that PVE's clock is ahead of ours, by the `Date` of its last answer; `None` before the first one. A proxy
    /// before PVE may put its own `Date` there.
    pub fn pve_ahead(&self) -> Option<i64> {
        Some(self.ahead.load(Ordering::Relaxed)).filter(|it| *it != UNKNOWN)
    }

    /// The time now.
    pub fn now(&self) -> OffsetDateTime {
        self.io.now()
    }

    /// Time at which the request came.
    pub fn born(&self) -> OffsetDateTime {
        self.born
    }

    /// Deadline of an operation that a client lets wait for `wait`.
    pub fn deadline(&self, wait: Duration) -> Deadline<'_, I> {
        Deadline::new(self, self.born + wait.min(self.platform.max_wait))
    }

    /// Deadline of an operation that does what can be done at once.
    pub fn at_once(&self) -> Deadline<'_, I> {
        Deadline::new(self, self.now())
    }

    /// Draws a name that occurs once: 16 bytes that nobody can guess.
    pub fn draw(&self) -> [u8; 16] {
        let number = self.drawn.fetch_add(1, Ordering::Relaxed);
        let hash = Sha256::new().chain_update(self.seed).chain_update(number.to_be_bytes()).finalize();
        hash.first_chunk().copied().unwrap_or_default()
    }

    /// The invocation of an answer that streams on after the request was handled: it has what is left, and draws names
    /// of its own.
    pub fn detached(&self) -> Self {
        let Self { platform, api, born, .. } = *self;
        let (left, drawn) = (AtomicU32::new(self.left()), AtomicU32::new(0));
        let seed = Sha256::digest(self.draw()).into();
        let (io, asked_at, ahead) = (self.io.clone(), self.asked_at.clone(), AtomicI64::new(UNKNOWN));
        Self { io, api, platform, seed, asked_at, born, left, drawn, ahead }
    }

    /// The same as [`Invocation::detached`], for calls to another API, of this name.
    pub fn toward(&self, api: &'static str) -> Self {
        Self { api, ..self.detached() }
    }

    /// The same as [`Invocation::detached`], with all of its time before it.
    pub fn renewed(&self) -> Self {
        Self { born: self.now(), ..self.detached() }
    }

    /// Time at which everything must be over.
    pub fn end(&self) -> OffsetDateTime {
        self.born + INVOCATION
    }

    /// Number of outgoing requests that the platform still allows.
    pub fn left(&self) -> u32 {
        self.left.load(Ordering::Relaxed)
    }

    /// Takes `count` outgoing requests from those that are left; `false` when there are fewer.
    pub fn spend(&self, count: u32) -> bool {
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |it| it.checked_sub(count)).is_ok()
    }

    /// Sends a request and reads its whole answer. A read whose connection failed is sent once more.
    pub async fn exchange(
        &self,
        request: Request<Vec<u8>>,
        template: &'static str,
        is_read: bool,
    ) -> Result<Whole, Lost> {
        let again = is_read.then(|| request.clone());
        match (self.attempt(request, template).await, again) {
            (Err(Lost::Net(error)), Some(request))
                if error.failure != Failure::Timeout && self.now() + READ < self.end() =>
            {
                self.attempt(request, template).await
            }
            (result, _) => result,
        }
    }

    async fn attempt(&self, request: Request<Vec<u8>>, template: &'static str) -> Result<Whole, Lost> {
        if !self.spend(1) {
            return Err(Lost::Budget);
        }
        let start = self.now();
        let method = request.method().clone();
        let most = if method == Method::GET { READ } else { WRITE };
        let whole = fetch(&self.io, request, (start + most).min(self.end()), ANSWER_CAP).await;
        let ms = (self.now() - start).whole_milliseconds() as i64;
        let status = whole.as_ref().map_or(0, |it| it.status);
        if let Some(date) = whole.as_ref().ok().and_then(|it| date(&it.headers)) {
            self.ahead.store((date - self.now()).whole_seconds(), Ordering::Relaxed);
        }
        let failure = whole.as_ref().err().map(|it| it.failure);
        let api = self.api;
        tracing::info!(api, method = method.as_str(), path = template, status, ms, failure = ?failure, "call");
        whole.map_err(Lost::Net)
    }
}
