//! What one request works with: the world, the settings, and how much of both is left.

use std::{
    sync::atomic::{AtomicI64, AtomicU32, Ordering},
    time::Duration,
};

use http::Method;
use serde::de::DeserializeOwned;
use serde_json::Value;
use time::OffsetDateTime;

use crate::{
    date::date,
    io::{Failure, Io, Platform, fetch},
    pve::{self, Call, Pve, PveError},
    settings::Settings,
};

/// Answers of PVE are read up to this: 10,000 guests are about 5 MB.
const ANSWER_CAP: usize = 16 << 20;
/// A write waits up to 10 s for a lock inside PVE.
const WRITE: Duration = Duration::from_secs(15);
/// A node that is silently dead keeps its neighbour waiting for 30 s.
const READ: Duration = Duration::from_secs(8);
/// When the last call and the undo must be over: API Gateway gives up at 29 s.
const INVOCATION: Duration = Duration::from_secs(28);
/// No answer has told yet what time it is for PVE.
const UNKNOWN: i64 = i64::MAX;

/// One request's view of the world.
pub struct Edge<'a, I> {
    /// The world.
    pub io: I,
    /// The deployment.
    pub settings: &'a Settings,
    /// PVE.
    pub pve: &'a Pve,
    /// The platform.
    pub platform: Platform,
    /// Fresh random bytes.
    pub seed: [u8; 32],
    born: OffsetDateTime,
    left: AtomicU32,
    ahead: AtomicI64,
}

impl<'a, I: Io> Edge<'a, I> {
    /// For one request.
    pub fn new(io: I, settings: &'a Settings, pve: &'a Pve, platform: Platform, seed: [u8; 32]) -> Self {
        let born = io.now();
        let (left, ahead) = (AtomicU32::new(platform.requests), AtomicI64::new(UNKNOWN));
        Self { io, settings, pve, platform, seed, born, left, ahead }
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
    pub async fn pause(&self, duration: Duration, deadline: OffsetDateTime) {
        let left = (deadline - self.now()).max(time::Duration::ZERO).unsigned_abs();
        self.io.sleep(duration.min(left)).await;
    }

    /// Sends one call. A read that was not answered is sent once more; a write never is.
    pub async fn send<T: DeserializeOwned>(&self, call: Call<T>) -> Result<T, PveError> {
        let is_read = call.is_read();
        let data = self.exchange(call.request, call.template, is_read).await?;
        pve::shape(data)
    }

    /// Without the answer's type, so that there is one of it in a Worker's bundle.
    async fn exchange(
        &self,
        request: http::Request<Vec<u8>>,
        template: &'static str,
        is_read: bool,
    ) -> Result<Value, PveError> {
        let again = is_read.then(|| request.clone());
        match (self.attempt(request, template).await, again) {
            (Err(PveError::Net(error)), Some(request))
                if error.failure != Failure::Timeout && self.now() + READ < self.end() =>
            {
                self.attempt(request, template).await
            }
            (result, _) => result,
        }
    }

    async fn attempt(
        &self,
        request: http::Request<Vec<u8>>,
        template: &'static str,
    ) -> Result<Value, PveError> {
        if !self.spend(1) {
            return Err(PveError::Budget);
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
        tracing::info!(method = method.as_str(), path = template, status, ms, failure = ?failure, "pve");
        pve::decode(&whole.map_err(PveError::Net)?)
    }
}
