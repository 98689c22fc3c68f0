//! Standard input of a process: bytes are taken in order, each once.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use pve_edge_guest_protocol::{
    answer::{Code, Refusal},
    process::StdinTaken,
};

/// Character that ends the input of a terminal, at the beginning of a line.
const END_OF_INPUT: u8 = 4;

/// Standard input, as its writer sees it.
#[derive(Debug)]
pub(super) struct Stdin {
    to: Option<File>,
    is_terminal: bool,
    taken: u64,
    /// Last byte that a terminal has got.
    last: Option<u8>,
}

impl Stdin {
    /// Standard input through a pipe, or a terminal; neither blocks.
    pub(super) fn new(to: OwnedFd, is_terminal: bool) -> Self {
        Self { to: Some(to.into()), is_terminal, taken: 0, last: None }
    }

    pub(super) fn state(&self) -> StdinTaken {
        StdinTaken { at: self.taken, closed: self.to.is_none() }
    }

    /// What is to be waited for before more can be taken.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.to.as_ref().map(AsFd::as_fd)
    }

    /// Takes bytes that begin at some place; those that were taken before are passed over. Returns whether all are taken:
    /// the rest can be offered again once the process has read.
    pub(super) fn take(&mut self, at: u64, data: &[u8], end: bool) -> Result<bool, Refusal> {
        let before = self.taken.checked_sub(at).ok_or_else(|| self.offset())?;
        let new = usize::try_from(before).ok().and_then(|it| data.get(it..)).unwrap_or_default();
        if self.add(new)? < new.len() {
            return Ok(false);
        }
        if end { self.end() } else { Ok(true) }
    }

    /// Adds bytes behind those that were taken, as far as they have room; returns how many.
    pub(super) fn add(&mut self, data: &[u8]) -> Result<usize, Refusal> {
        let mut added = 0;
        while let Some(left) = data.get(added..).filter(|it| !it.is_empty()) {
            match self.write(left)? {
                0 => break,
                written => added += written,
            }
        }
        Ok(added)
    }

    /// Writes what has room.
    fn write(&mut self, data: &[u8]) -> Result<usize, Refusal> {
        let to = self.to.as_mut().ok_or_else(closed)?;
        let written = match to.write(data) {
            Ok(written) => written,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(_) => {
                self.to = None;
                return Err(closed());
            }
        };
        self.taken += written as u64;
        self.last = written.checked_sub(1).and_then(|it| data.get(it)).copied().or(self.last);
        Ok(written)
    }

    /// Ends it: closes the pipe, or types what ends a terminal's input, twice if a line has begun. Whether it had room.
    fn end(&mut self) -> Result<bool, Refusal> {
        let is_begun = self.last.is_some_and(|it| it != b'\n' && it != b'\r');
        let typed: &[u8] = if is_begun { &[END_OF_INPUT; 2] } else { &[END_OF_INPUT] };
        if let (true, Some(terminal)) = (self.is_terminal, &mut self.to)
            && let Err(error) = terminal.write_all(typed)
            && error.kind() == io::ErrorKind::WouldBlock
        {
            return Ok(false);
        }
        self.to = None;
        Ok(true)
    }

    fn offset(&self) -> Refusal {
        let detail = format!("bytes are missing: {} were taken", self.taken);
        Refusal { at: Some(self.taken), ..Refusal::new(Code::StdinOffset, detail) }
    }
}

/// The refusal of bytes for an input that takes none.
pub(super) fn closed() -> Refusal {
    Refusal::new(Code::StdinClosed, "standard input is closed")
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use rustix::io::ioctl_fionbio;

    use super::*;

    fn pipe() -> (std::io::PipeReader, Stdin) {
        let (from, to) = std::io::pipe().unwrap();
        ioctl_fionbio(&to, true).unwrap();
        (from, Stdin::new(to.into(), false))
    }

    #[test]
    fn bytes_are_taken_once_and_in_order() {
        let (mut from, mut stdin) = pipe();
        assert_eq!(stdin.take(0, b"abc", false), Ok(true));
        assert_eq!(stdin.take(0, b"abc", false), Ok(true));
        assert_eq!(stdin.take(1, b"bcd", false), Ok(true));
        let refusal = stdin.take(5, b"x", false).unwrap_err();
        assert_eq!((refusal.code, refusal.at), (Code::StdinOffset, Some(4)));
        assert_eq!(stdin.take(4, b"e", true), Ok(true));
        assert_eq!(stdin.take(4, b"e", true), Ok(true), "it was ended by the same bytes");
        assert_eq!(stdin.take(5, b"f", false).unwrap_err().code, Code::StdinClosed);
        assert_eq!(stdin.state(), StdinTaken { at: 5, closed: true });
        let mut read = String::new();
        from.read_to_string(&mut read).unwrap();
        assert_eq!(read, "abcde");
    }

    #[test]
    fn a_full_pipe_takes_a_part() {
        let (mut from, mut stdin) = pipe();
        let bytes = vec![7; 100_000];
        assert_eq!(stdin.take(0, &bytes, true), Ok(false));
        let taken = stdin.state();
        assert!(taken.at < 100_000 && !taken.closed);
        let mut read = vec![0; 65536];
        from.read_exact(&mut read).unwrap();
        assert_eq!(stdin.take(0, &bytes, true), Ok(true));
        assert_eq!(stdin.state(), StdinTaken { at: 100_000, closed: true });
    }

    #[test]
    fn an_input_that_nobody_reads_is_closed() {
        let (from, mut stdin) = pipe();
        drop(from);
        assert_eq!(stdin.take(0, b"a", false).unwrap_err().code, Code::StdinClosed);
    }
}
