//! Standard input that was given at the start: written as the command takes it, and then closed.

use std::os::unix::net::UnixStream;

use super::{Kept, stdin::Stdin};

/// Input that was given.
pub(super) struct Given {
    bytes: Vec<u8>,
    /// Its end tells the daemon that nothing is held any more.
    channel: Option<UnixStream>,
}

impl Given {
    pub(super) fn new(bytes: Vec<u8>, channel: UnixStream) -> Self {
        Self { bytes, channel: Some(channel) }
    }

    /// Whether some of it waits for room.
    pub(super) fn is_waiting(&self) -> bool {
        self.channel.is_some()
    }

    /// Writes what has room. What a command that reads no more does not take is gone.
    fn give(&mut self, stdin: &mut Stdin) {
        if self.is_waiting() && stdin.take(0, &self.bytes, true) != Ok(false) {
            self.bytes = Vec::new();
            self.channel = None;
        }
    }
}

impl Kept {
    /// Writes what has room of the input that was given.
    pub(super) fn give(&mut self) {
        if let (Some(given), Some(stdin)) = (&mut self.given, &mut self.streams.stdin) {
            given.give(stdin);
        }
    }
}
