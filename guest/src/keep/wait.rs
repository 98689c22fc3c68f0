//! Waiting: for output, for the ends of children, for the daemon, and for time to pass.

use std::{
    os::fd::AsFd,
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{Kept, given::Given};

/// Connections that a keeper has at most.
const MOST_CONNECTIONS: usize = 512;

/// What a keeper can go on with.
#[derive(Debug, Default)]
pub(super) struct Ready {
    pub(super) child: bool,
    pub(super) listener: bool,
    /// Numbers of the streams that can be read.
    pub(super) out: Vec<usize>,
    /// Numbers of the connections that have something for it.
    pub(super) connections: Vec<usize>,
}

/// Who is waited for.
#[derive(Clone, Copy)]
enum Who {
    Child,
    Listener,
    Out(usize),
    Stdin,
    Connection(usize),
}

impl Kept {
    /// Waits until something can be gone on with.
    pub(super) fn wait(&mut self) -> Ready {
        let now = Instant::now();
        let unread = self.unread();
        let may_write = self.log.is_ready(unread);
        self.blocked = if may_write { None } else { self.blocked.or(Some(now)) };
        let (mut polled, mut who) = (Vec::new(), Vec::new());
        let mut add = |it, fd, flags| {
            who.push(it);
            polled.push(PollFd::from_borrowed_fd(fd, flags));
        };
        add(Who::Child, self.ends.as_fd(), PollFlags::IN);
        if self.connections.len() < MOST_CONNECTIONS {
            add(Who::Listener, self.listener.as_fd(), PollFlags::IN);
        }
        for (index, source) in self.streams.out.iter().enumerate().filter(|_| may_write) {
            add(Who::Out(index), source.fd(), PollFlags::IN);
        }
        for (index, connection) in self.connections.iter().enumerate() {
            add(Who::Connection(index), connection.stream.as_fd(), PollFlags::IN);
        }
        let stdin = self.streams.stdin.as_ref().and_then(|it| it.fd());
        let is_given = self.given.as_ref().is_some_and(Given::is_waiting);
        if let Some(stdin) =
            stdin.filter(|_| is_given || self.connections.iter().any(|it| it.waiting.is_some()))
        {
            add(Who::Stdin, stdin, PollFlags::OUT);
        }
        let timeout = self.next_time().map(|at| at.saturating_duration_since(now));
        let timeout = timeout.and_then(|it| Timespec::try_from(it + Duration::from_millis(1)).ok());
        // An interruption is as good as a time that has passed.
        let _ = poll(&mut polled, timeout.as_ref());
        if self.is_followed() {
            self.followed = Instant::now();
        }
        let mut ready = Ready::default();
        for (who, _) in who.into_iter().zip(&polled).filter(|(_, it)| !it.revents().is_empty()) {
            match who {
                Who::Child => ready.child = true,
                Who::Listener => ready.listener = true,
                Who::Out(index) => ready.out.push(index),
                Who::Connection(index) => ready.connections.push(index),
                // Bytes that wait for it are offered again in any case.
                Who::Stdin => {}
            }
        }
        ready
    }

    /// The first place that an attached follower has not read.
    pub(super) fn unread(&self) -> u64 {
        let followers = self.connections.iter().filter_map(|it| it.follower.as_ref());
        followers.map(|it| it.read).min().unwrap_or(u64::MAX)
    }

    fn is_followed(&self) -> bool {
        self.connections.iter().any(|it| it.follower.is_some())
    }

    /// When the command ends because nobody follows it.
    pub(super) fn hangs_up_at(&self) -> Option<Instant> {
        self.followed.checked_add(self.hangup?).filter(|_| !self.is_followed())
    }

    /// When something is due next.
    fn next_time(&self) -> Option<Instant> {
        let waiting = self.connections.iter().filter_map(|it| it.waiting.as_ref()).map(|it| it.until);
        let stalled = self.blocked.into_iter().flat_map(|since| {
            let followers = self.connections.iter().filter_map(|it| it.follower.as_ref());
            followers.filter_map(move |it| it.stalls_at(self.log.cursor(), since, self.stall))
        });
        let due = self.deadline.into_iter().chain(self.hangs_up_at());
        due.chain(self.kill_at).chain(waiting).chain(stalled).min()
    }

    /// Waits no more for followers that have not read on for long, while the command waits for them.
    pub(super) fn pass_stalled(&mut self, now: Instant) {
        let Some(since) = self.blocked else { return };
        let (cursor, stall) = (self.log.cursor(), self.stall);
        for connection in &mut self.connections {
            let stalls_at = connection.follower.as_ref().and_then(|it| it.stalls_at(cursor, since, stall));
            connection.is_over |= stalls_at.is_some_and(|it| it <= now);
        }
        self.connections.retain(|it| !it.is_over);
    }
}
