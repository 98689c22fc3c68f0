//! Sessions: the time in which a call is valid, and the calls that were taken in it.

use std::{collections::HashSet, time::Duration};

use pve_edge_guest_protocol::Unique;

use super::NotObeyed;

/// How long a session is the current one. It is valid for the same time again.
pub(super) const PERIOD: Duration = Duration::from_secs(300);

/// Calls after which a session is no longer the current one.
pub(super) const MOST_CALLS: usize = 16_384;

/// The two sessions that are valid.
pub struct Sessions {
    current: Session,
    previous: Option<Session>,
    since: Duration,
}

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
    pub fn pass(&mut self, now: Duration, draw: &mut impl FnMut() -> Unique) {
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
