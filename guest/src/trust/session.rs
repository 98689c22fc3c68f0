//! Sessions: the time in which a call is valid, and the calls that were taken in it.

use std::{collections::HashSet, time::Duration};

use pve_edge_guest_protocol::Unique;

use super::NotObeyed;

/// How long a session is the current one. It is valid for the same time again.
pub(super) const PERIOD: Duration = Duration::from_secs(300);

/// Calls after which a session is no longer the current one.
pub(super) const MOST_CALLS: usize = 16_384;

/// The two sessions that are valid.
#[derive(Clone, Debug)]
pub struct Sessions {
    current: Session,
    previous: Option<Session>,
    since: Duration,
}

#[derive(Clone, Debug)]
struct Session {
    name: Unique,
    taken: HashSet<Unique>,
}

impl Session {
    fn new(name: Unique) -> Self {
        Self { name, taken: HashSet::new() }
    }
}

impl Sessions {
    /// One new session alone.
    pub fn new(now: Duration, drawn: Unique) -> Self {
        Self { current: Session::new(drawn), previous: None, since: now }
    }

    /// Ends what is over by now. Periods follow each other without a gap however seldom this is asked, so that no call
    /// is valid for longer than two of them.
    pub fn pass(&mut self, now: Duration, draw: impl FnOnce() -> Unique) {
        let age = now.saturating_sub(self.since);
        if age >= 2 * PERIOD {
            self.previous = None;
            self.current = Session::new(draw());
            self.since = now;
        } else if age >= PERIOD {
            self.next(draw());
            self.since += PERIOD;
        } else if self.current.taken.len() >= MOST_CALLS {
            self.next(draw());
            self.since = now;
        }
    }

    fn next(&mut self, drawn: Unique) {
        self.previous = Some(std::mem::replace(&mut self.current, Session::new(drawn)));
    }

    /// The session that a new call is to name.
    pub fn current(&self) -> Unique {
        self.current.name
    }

    /// Takes a call of a session, unless it was taken before.
    pub fn take(&mut self, session: Unique, call: Unique) -> Result<(), NotObeyed> {
        let valid = [Some(&mut self.current), self.previous.as_mut()];
        let mut valid = valid.into_iter().flatten();
        let session = valid.find(|it| it.name == session).ok_or(NotObeyed::OtherSession)?;
        if session.taken.len() >= MOST_CALLS {
            return Err(NotObeyed::OtherSession);
        }
        if session.taken.insert(call) { Ok(()) } else { Err(NotObeyed::Seen) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: u32) -> Unique {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        Unique(bytes)
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_session_is_valid_for_two_periods_and_a_call_once() {
        let mut sessions = Sessions::new(at(50), name(1));
        assert_eq!(sessions.take(name(1), name(100)), Ok(()));
        assert_eq!(sessions.take(name(1), name(100)), Err(NotObeyed::Seen));
        sessions.pass(at(349), || panic!("the period is not over"));
        sessions.pass(at(649), || name(2));
        assert_eq!(sessions.current(), name(2));
        assert_eq!(sessions.take(name(1), name(100)), Err(NotObeyed::Seen));
        assert_eq!(sessions.take(name(1), name(101)), Ok(()));
        assert_eq!(sessions.take(name(2), name(100)), Ok(()), "a session has calls of its own");
        // Though it was first looked at late, the second period is over, too.
        sessions.pass(at(650), || name(3));
        assert_eq!(sessions.take(name(1), name(102)), Err(NotObeyed::OtherSession));
        assert_eq!(sessions.take(name(2), name(102)), Ok(()));
        sessions.pass(at(5_000), || name(4));
        for old in 1..4 {
            assert_eq!(sessions.take(name(old), name(103)), Err(NotObeyed::OtherSession));
        }
    }

    #[test]
    fn many_calls_end_a_session_and_take_no_more_room() {
        let mut sessions = Sessions::new(at(0), name(1));
        let mut refused = 0;
        for call in 0..100_000 {
            sessions.pass(at(1), || name(call));
            refused += usize::from(sessions.take(sessions.current(), name(call)).is_err());
            refused += usize::from(sessions.take(name(1), name(call + 100_000)).is_err());
            let held = sessions.current.taken.len();
            let held = held + sessions.previous.as_ref().map_or(0, |it| it.taken.len());
            assert!(held <= 2 * MOST_CALLS);
        }
        assert_eq!(refused, 100_000 - MOST_CALLS / 2, "only those of the session that is over");
    }
}
