//! The deadline of an operation: the clock, and the outgoing requests that are left.

use std::time::Duration;

use time::OffsetDateTime;

use super::{
    Io,
    invocation::Invocation,
    pace::{Pace, Wait},
};

/// Deadline of an operation or of a part of it: it is over at a moment, and before that when no more outgoing requests
/// are left than it reserves for the work after it (rule S10.5).
pub struct Deadline<'i, I> {
    invocation: &'i Invocation<I>,
    at: OffsetDateTime,
    reserve: u32,
}

impl<I> Clone for Deadline<'_, I> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<I> Copy for Deadline<'_, I> {}

impl<'i, I: Io> Deadline<'i, I> {
    /// A deadline at this moment, which reserves one request.
    pub fn new(invocation: &'i Invocation<I>, at: OffsetDateTime) -> Self {
        Self { invocation, at, reserve: 1 }
    }

    /// The same moment, with so many requests reserved.
    #[must_use]
    pub fn keeping(self, reserve: u32) -> Self {
        Self { reserve, ..self }
    }

    /// The deadline, but not later than `at`.
    #[must_use]
    pub fn at_most(self, at: OffsetDateTime) -> Self {
        Self { at: self.at.min(at), ..self }
    }

    /// The deadline, but not before `other`.
    #[must_use]
    pub fn at_least(self, other: Self) -> Self {
        Self { at: self.at.max(other.at), ..self }
    }

    /// Whether its moment has come.
    pub fn has_passed(self) -> bool {
        self.invocation.now() >= self.at
    }

    /// Whether its moment has come, or only the reserved requests are left.
    pub fn is_over(self) -> bool {
        self.has_passed() || self.invocation.left() <= self.reserve
    }

    /// Sleeps for `duration`, but not past its moment; tells whether more requests are left than it reserves.
    pub async fn pause(self, duration: Duration) -> bool {
        let left = (self.at - self.invocation.now()).max(time::Duration::ZERO).unsigned_abs();
        self.invocation.io.sleep(duration.min(left)).await;
        self.invocation.left() > self.reserve
    }

    /// Waits until it is over, at this pace.
    pub fn paced(self, pace: Pace) -> Wait<'i, I> {
        Wait::new(self, pace)
    }

    /// The time now.
    pub(super) fn now(self) -> OffsetDateTime {
        self.invocation.now()
    }
}
