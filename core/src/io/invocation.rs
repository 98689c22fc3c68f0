//! The invocation: one request's clock, its time, and how many outgoing requests are left.

use std::{
    sync::atomic::{AtomicI64, AtomicU32, Ordering},
    time::Duration,
};

use http::{Method, Request};
use time::OffsetDateTime;

use super::{Failure, Io, NetError, Platform, Whole, date::date, fetch};

/// Answers are read up to this (rule P4.3): 10,000 guests of PVE are about 5 MB.
const ANSWER_CAP: usize = 16 << 20;

/// A write waits up to 10 s for a lock inside PVE.
const WRITE: Duration = Duration::from_secs(15);

/// A node that is silently dead keeps its neighbour waiting for 30 s.
const READ: Duration = Duration::from_secs(8);

/// When the last call and the undo must be over (rule P4.1): API Gateway gives up at 29 s.
const INVOCATION: Duration = Duration::from_secs(28);

/// No answer has told yet what time it is for PVE.
const UNKNOWN: i64 = i64::MAX;

/// What one request may use of the world.
pub struct Invocation<I> {
    /// The world.
    pub io: I,
    /// The platform.
    pub platform: Platform,
    /// Fresh random bytes.
    pub seed: [u8; 32],
    /// The API that is asked, for logs.
    api: &'static str,
    born: OffsetDateTime,
    left: AtomicU32,
    ahead: AtomicI64,
}

/// Why a call has no answer.
#[derive(Clone, Debug)]
pub enum Lost {
    /// There came none.
    Net(NetError),
    /// The platform allows no more requests: it was not sent.
    Budget,
}

impl<I: Io> Invocation<I> {
    /// For one request.
    pub fn new(io: I, api: &'static str, platform: Platform, seed: [u8; 32]) -> Self {
        let born = io.now();
        let (left, ahead) = (AtomicU32::new(platform.requests), AtomicI64::new(UNKNOWN));
        Self { io, api, platform, seed, born, left, ahead }
    }

    /// By how many seconds PVE's clock is ahead of ours, as its last answer said.
    /// An edge before PVE says what its own clock does.
    pub fn pve_ahead(&self) -> Option<i64> {
        Some(self.ahead.load(Ordering::Relaxed)).filter(|it| *it != UNKNOWN)
    }

    /// What time it is.
    pub fn now(&self) -> OffsetDateTime {
        self.io.now()
    }

    /// When the request came.
    pub fn born(&self) -> OffsetDateTime {
        self.born
    }

    /// Until when an operation may wait that was asked to wait so long.
    pub fn deadline(&self, wait: Duration) -> OffsetDateTime {
        self.born + wait.min(self.platform.max_wait)
    }

    /// When everything must be over.
    pub fn end(&self) -> OffsetDateTime {
        self.born + INVOCATION
    }

    /// Outgoing requests that the platform still allows.
    pub fn left(&self) -> u32 {
        self.left.load(Ordering::Relaxed)
    }

    /// Takes `count` outgoing requests from what is left, if they are there.
    pub fn spend(&self, count: u32) -> bool {
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |it| it.checked_sub(count)).is_ok()
    }

    /// Waits, but not past `deadline`.
    pub async fn sleep(&self, duration: Duration, deadline: OffsetDateTime) {
        let left = (deadline - self.now()).max(time::Duration::ZERO).unsigned_abs();
        self.io.sleep(duration.min(left)).await;
    }

    /// Sends a request and reads its answer; what may be sent twice is, when nothing came back.
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
