//! Connections to a keeper: lines of JSON.

use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

use serde::{Serialize, de::DeserializeOwned};

use crate::process::keeper::LONGEST_LINE;

/// Connection of the daemon.
pub(super) struct Connection {
    pub(super) stream: UnixStream,
    bytes: Vec<u8>,
    pub(super) follower: Option<Follower>,
    pub(super) waiting: Option<Waiting>,
    pub(super) is_over: bool,
}

/// Follower of the output.
pub(super) struct Follower {
    /// Place up to which it has read.
    pub(super) read: u64,
    /// When it has read on.
    pub(super) moved: Instant,
    /// What it was told last.
    pub(super) told: Option<(u64, bool)>,
}

impl Follower {
    /// When it is waited for no more, of a command that waits since some time; never, if it has read all that has come.
    pub(super) fn stalls_at(&self, cursor: u64, since: Instant, stall: Duration) -> Option<Instant> {
        self.moved.max(since).checked_add(stall).filter(|_| self.read < cursor)
    }
}

/// Bytes for standard input that wait for room.
pub(super) struct Waiting {
    pub(super) at: Option<u64>,
    /// How many of the bytes were written already, if they have no place of their own.
    pub(super) typed: usize,
    pub(super) data: Vec<u8>,
    pub(super) end: bool,
    pub(super) until: Instant,
}

impl Connection {
    pub(super) fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self { stream, bytes: Vec::new(), follower: None, waiting: None, is_over: false })
    }

    /// Reads what has come.
    pub(super) fn fill(&mut self) {
        let mut buffer = [0; 4096];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => break self.is_over = true,
                Ok(length) => self.bytes.extend(buffer.iter().take(length)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break self.is_over = true,
            }
            if self.bytes.len() > LONGEST_LINE {
                break self.is_over = true;
            }
        }
    }

    /// The next line that has come whole; one that cannot be read ends the connection.
    pub(super) fn line<T: DeserializeOwned>(&mut self) -> Option<T> {
        let end = self.bytes.iter().position(|it| *it == b'\n')?;
        let line: Vec<u8> = self.bytes.drain(..=end).collect();
        if self.bytes.is_empty() {
            self.bytes = Vec::new();
        }
        let read = serde_json::from_slice(&line).ok();
        self.is_over |= read.is_none();
        read
    }

    /// Sends a line. The connection of a daemon that does not read is ended.
    pub(super) fn send(&mut self, message: &impl Serialize) {
        let mut line = serde_json::to_vec(message).unwrap_or_default();
        line.push(b'\n');
        self.is_over |= self.stream.write_all(&line).is_err();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::process::keeper::Request;

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let (mut theirs, ours) = UnixStream::pair().unwrap();
            theirs.write_all(&bytes).unwrap();
            theirs.write_all(b"\n\"Stand\"\n").unwrap();
            let mut connection = Connection::new(ours).unwrap();
            connection.fill();
            while !connection.is_over && connection.line::<Request>().is_some() {}
            prop_assert!(connection.is_over);
        }
    }

    #[test]
    fn a_follower_that_has_read_everything_is_not_waited_for() {
        let (moved, stall) = (Instant::now(), Duration::from_secs(60));
        let follower = Follower { read: 7, moved, told: None };
        let later = moved + stall;
        assert_eq!(follower.stalls_at(8, moved, stall), Some(later));
        assert_eq!(follower.stalls_at(8, later, stall), Some(later + stall));
        assert_eq!(follower.stalls_at(7, later, stall), None);
    }

    #[test]
    fn a_line_without_end_is_not_kept() {
        let (mut theirs, ours) = UnixStream::pair().unwrap();
        let mut connection = Connection::new(ours).unwrap();
        while !connection.is_over {
            theirs.write_all(&[b'x'; 10_000]).unwrap();
            connection.fill();
        }
        assert!(connection.bytes.len() <= LONGEST_LINE + 4096);
    }
}
