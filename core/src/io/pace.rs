//! Waits for PVE, Morph and guests: how long each kind of work is waited for. No other file says so.
//!
//! A look at a task that comes too early costs one more request, and a look that comes too late keeps its
//! caller waiting. So the first wait is as long as the work usually takes, and those after it are short.

use std::time::Duration;

use time::OffsetDateTime;

use super::{Io, deadline::Deadline};

/// Rhythm in which a slow thing is asked for again: a first wait, then others that grow; in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    first: u32,
    then: u32,
    factor: f64,
    longest: u32,
}

/// Rhythm for a linked clone.
pub const CLONE: Pace = Pace::millis(520, 520, 1.2, 2500);
/// Rhythm for a guest that is shut down, or stopped hard.
pub const SHUTDOWN: Pace = Pace::millis(1000, 240, 1.2, 4000);
/// Rhythm for a guest that is stopped and destroyed.
pub const DESTROY: Pace = Pace::millis(1550, 500, 1.2, 4000);
/// Rhythm for a disk that grows: at once, or in some 22 s where e2fsck and resize2fs wait for ext4's multi-mount
/// protection.
pub const RESIZE: Pace = Pace::millis(400, 600, 1.5, 3000);
/// Rhythm for any other task.
pub const TASK: Pace = Pace::millis(1000, 1000, 1.4, 4000);
/// Rhythm for the end of a snapshot of our own, which PVE removes after its answer.
pub const OWN_END: Pace = Pace::millis(250, 500, 2.0, 2000);
/// Rhythm for a request that PVE refuses for now: another task on the guest, a lock, a cut connection.
pub const RETRY: Pace = Pace::millis(400, 500, 1.3, 2500);
/// Rhythm for a container that boots, from probe to probe. The kernel repeats a connection to a container that has no
/// address yet after a second, so a short probe hears of it sooner than a long one.
pub const CONTAINER: Pace = Pace::millis(600, 400, 1.0, 400);
/// Rhythm for a container that takes longer to boot than containers usually do.
pub const SLOW_CONTAINER: Pace = Pace::millis(600, 600, 1.3, 2500);
/// Rhythm for a VM that boots. A question to an agent that is not there yet keeps one of PVE's workers for 3 s.
pub const MACHINE: Pace = Pace::millis(1500, 1000, 1.3, 2500);
/// Rhythm for a visitor who looks whether a sandbox has come up that somebody else starts.
pub const VISIT: Pace = Pace::millis(500, 600, 1.25, 2500);

/// Rhythm for an instance or a snapshot of Morph.
pub const MORPH: Pace = Pace::millis(500, 750, 1.5, 3000);

/// Delay before the first look at a template: of requests that come together one begins, and the others see that it has.
/// `chance` is between 0 and 1.
pub fn arrival_delay(chance: f64) -> Duration {
    Duration::from_secs_f64(0.06 * chance)
}

/// Delay before the next look at a template that others clone; PVE makes one clone of it at a time, in about a second.
/// The first delay spreads requests that came together over a few clones. Later ones get shorter the longer a request
/// has `waited` (in seconds), so that the one that has waited longest goes first. `chance` is between 0 and 1.
pub fn queue_delay(is_first: bool, waited: f64, chance: f64) -> Duration {
    Duration::from_secs_f64(match is_first {
        true => 0.95 + 2.2 * chance,
        false => (2.5 - 0.2 * waited).clamp(0.55, 2.5) * (0.9 + 0.2 * chance),
    })
}

impl Pace {
    /// Rhythm for a PVE task of this type.
    pub fn of_task(kind: &str) -> Self {
        match kind {
            "vzclone" | "qmclone" => CLONE,
            "vzshutdown" | "qmshutdown" | "vzstop" | "qmstop" => SHUTDOWN,
            "vzdestroy" | "qmdestroy" => DESTROY,
            "resize" => RESIZE,
            _ => TASK,
        }
    }

    /// A rhythm of waits in milliseconds.
    const fn millis(first: u32, then: u32, factor: f64, longest: u32) -> Self {
        Self { first, then, factor, longest }
    }
}

/// Wait with an end: a deadline, and pauses of one pace until then (rule S10.5).
pub struct Wait<'i, I> {
    deadline: Deadline<'i, I>,
    next: f64,
    then: f64,
    pace: Pace,
}

impl<'i, I: Io> Wait<'i, I> {
    /// A wait until `deadline`, at this pace.
    pub(super) fn new(deadline: Deadline<'i, I>, pace: Pace) -> Self {
        Self { deadline, next: pace.first.into(), then: pace.then.into(), pace }
    }

    /// Goes on at another pace, from that one's second wait.
    pub fn turn(&mut self, pace: Pace) {
        (self.next, self.then, self.pace) = (pace.then.into(), pace.then.into(), pace);
    }

    /// Whether the wait has come to its end.
    pub fn is_over(&self) -> bool {
        self.deadline.is_over()
    }

    /// Length of the next pause.
    pub fn step(&self) -> Duration {
        Duration::from_millis(self.next as u64)
    }

    /// Pauses, but not past the deadline; tells whether one more question may be asked.
    pub async fn pause(&mut self) -> bool {
        self.pause_since(self.deadline.now()).await
    }

    /// Pauses like [`Wait::pause`], counted from `began`: a question whose answer took long is followed by a short
    /// pause.
    pub async fn pause_since(&mut self, began: OffsetDateTime) -> bool {
        if self.is_over() {
            return false;
        }
        let passed = (self.deadline.now() - began).max(time::Duration::ZERO).unsigned_abs();
        let pause = self.step().saturating_sub(passed);
        self.next = self.then;
        self.then = (self.then * self.pace.factor).min(self.pace.longest.into());
        self.deadline.pause(pause).await
    }
}
