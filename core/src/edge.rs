//! What one request works with: the world, the settings, and how much of both is left.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use serde::de::DeserializeOwned;
use time::OffsetDateTime;

use crate::{
    io::{Io, Platform, fetch},
    pve::{Call, Pve, PveError},
    settings::Settings,
};

/// Answers of PVE are read up to this: 10,000 guests are about 5 MB.
const ANSWER_CAP: usize = 16 << 20;
/// A write waits up to 10 s for a lock inside PVE.
const CALL: Duration = Duration::from_secs(15);
/// When the last call and the undo must be over: API Gateway gives up at 29 s.
const INVOCATION: Duration = Duration::from_secs(28);

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
}

impl<'a, I: Io> Edge<'a, I> {
    /// For one request.
    pub fn new(io: I, settings: &'a Settings, pve: &'a Pve, platform: Platform, seed: [u8; 32]) -> Self {
        let born = io.now();
        Self { io, settings, pve, platform, seed, born, left: AtomicU32::new(platform.requests) }
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
        let again = call.is_read().then(|| call.request.clone());
        match (self.exchange(&call, call.request.clone()).await, again) {
            (Err(PveError::Net(_)), Some(request)) if self.now() + CALL < self.end() => {
                self.exchange(&call, request).await
            }
            (result, _) => result,
        }
    }

    async fn exchange<T: DeserializeOwned>(
        &self,
        call: &Call<T>,
        request: http::Request<Vec<u8>>,
    ) -> Result<T, PveError> {
        if !self.spend(1) {
            return Err(PveError::Budget);
        }
        let start = self.now();
        let whole = fetch(&self.io, request, (start + CALL).min(self.end()), ANSWER_CAP).await;
        let took = (self.now() - start).whole_milliseconds() as i64;
        let method = call.request.method().as_str();
        match &whole {
            Ok(whole) => {
                tracing::info!(method, path = call.template, status = whole.status, ms = took, "pve");
            }
            Err(error) => {
                tracing::warn!(method, path = call.template, failure = ?error.failure, ms = took, "pve");
            }
        }
        Call::<T>::decode(&whole.map_err(PveError::Net)?)
    }
}
