//! How long is waited for PVE and for guests, by the kind of work: the one place that says so.
//!
//! A task that is asked too early costs a request more, and one that is asked too late keeps its
//! caller waiting. The first wait is what the work takes as a rule, those after it are short.

use std::time::Duration;

use time::OffsetDateTime;

use super::{Io, invocation::Invocation};

/// How often something is asked that takes its time: a first wait, then others that grow.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    first: u32,
    then: u32,
    factor: f64,
    longest: u32,
}

/// A linked clone.
pub const CLONE: Pace = Pace::of(520, 520, 1.2, 2500);
/// A container or VM that is shut down, or stopped hard.
pub const SHUTDOWN: Pace = Pace::of(1000, 240, 1.2, 4000);
/// A guest that is stopped and destroyed.
pub const DESTROY: Pace = Pace::of(1550, 500, 1.2, 4000);
/// A disk that grows: at once, or some 22 s where e2fsck and resize2fs wait for ext4's multi-mount
/// protection.
pub const RESIZE: Pace = Pace::of(400, 600, 1.5, 3000);
/// Any other task.
pub const TASK: Pace = Pace::of(1000, 1000, 1.4, 4000);
/// The end of a snapshot of ours, which PVE removes after its answer.
pub const OWN_END: Pace = Pace::of(250, 500, 2.0, 2000);
/// What PVE refuses for now: another one's work on the guest, a lock, a cut connection.
pub const AGAIN: Pace = Pace::of(400, 500, 1.3, 2500);
/// A container that boots, from probe to probe. A connection to one that has no address yet is
/// tried again by the kernel after a second, so a short probe hears of it sooner than a long one.
pub const CONTAINER: Pace = Pace::of(600, 400, 1.0, 400);
/// The same, once it takes longer than a container does as a rule.
pub const SLOW_CONTAINER: Pace = Pace::of(600, 600, 1.3, 2500);
/// A VM that boots. Asking an agent that is not there yet keeps one of PVE's workers for 3 s.
pub const MACHINE: Pace = Pace::of(1500, 1000, 1.3, 2500);

/// How long the first look at a template is put off, so that of requests that come together one
/// begins and the others see that it has; `chance` is between 0 and 1.
pub fn arrival(chance: f64) -> Duration {
    Duration::from_secs_f64(0.06 * chance)
}

/// How long somebody leaves a template alone that others clone, of which PVE makes one at a time, in
/// about a second. At first whoever came together is spread over a few clones; then the longer
/// somebody has waited, the more often it looks, so that who waits longest goes first.
pub fn queue(is_first: bool, waited: f64, chance: f64) -> Duration {
    Duration::from_secs_f64(match is_first {
        true => 0.95 + 2.2 * chance,
        false => (2.5 - 0.2 * waited).clamp(0.55, 2.5) * (0.9 + 0.2 * chance),
    })
}

impl Pace {
    /// How often a task of this kind is looked at.
    pub fn of_task(kind: &str) -> Self {
        match kind {
            "vzclone" | "qmclone" => CLONE,
            "vzshutdown" | "qmshutdown" | "vzstop" | "qmstop" => SHUTDOWN,
            "vzdestroy" | "qmdestroy" => DESTROY,
            "resize" => RESIZE,
            _ => TASK,
        }
    }

    /// In milliseconds.
    const fn of(first: u32, then: u32, factor: f64, longest: u32) -> Self {
        Self { first, then, factor, longest }
    }
}

/// A wait that ends: by the clock, or when the requests that the platform allows are nearly used up
/// (rule S10.5).
pub struct Wait<'e, I> {
    invocation: &'e Invocation<I>,
    deadline: OffsetDateTime,
    reserve: u32,
    next: f64,
    then: f64,
    pace: Pace,
}

impl<'e, I: Io> Wait<'e, I> {
    /// Until `deadline`; one request is kept for what comes after it.
    pub fn new(invocation: &'e Invocation<I>, pace: Pace, deadline: OffsetDateTime) -> Self {
        Self { invocation, deadline, reserve: 1, next: pace.first.into(), then: pace.then.into(), pace }
    }

    /// With so many requests kept for what comes after it.
    #[must_use]
    pub fn keeping(self, reserve: u32) -> Self {
        Self { reserve, ..self }
    }

    /// Goes on at another pace, from its second wait.
    pub fn turn(&mut self, pace: Pace) {
        (self.next, self.then, self.pace) = (pace.then.into(), pace.then.into(), pace);
    }

    /// Whether nothing is asked any more.
    pub fn is_over(&self) -> bool {
        self.invocation.now() >= self.deadline || self.invocation.left() <= self.reserve
    }

    /// How long the next pause is.
    pub fn step(&self) -> Duration {
        Duration::from_millis(self.next as u64)
    }

    /// Pauses, but not past the end; whether there is time to ask once more.
    pub async fn pause(&mut self) -> bool {
        self.pause_since(self.invocation.now()).await
    }

    /// As [`Wait::pause`], counted from `began`: a question that was itself long in coming back is
    /// followed by a short pause.
    pub async fn pause_since(&mut self, began: OffsetDateTime) -> bool {
        if self.is_over() {
            return false;
        }
        let passed = (self.invocation.now() - began).max(time::Duration::ZERO).unsigned_abs();
        let pause = self.step().saturating_sub(passed);
        self.next = self.then;
        self.then = (self.then * self.pace.factor).min(self.pace.longest.into());
        self.invocation.sleep(pause, self.deadline).await;
        self.invocation.left() > self.reserve
    }
}
