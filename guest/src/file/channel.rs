//! What the daemon and a process `file` say to each other, over the socket that is the process's standard input.
//!
//! The daemon sends a [`Request`] in a line, and for `write` and `stage` the content behind it. The process answers with
//! a [`Head`] in a line, and all but a refusal is followed by the content. Content is sent in frames, each with its
//! length in four bytes before it; an empty frame is its end. So neither takes content that was cut for a whole one.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::PathBuf,
};

use pve_edge_guest_protocol::{answer::Refusal, call::Operation, file::Entry};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Bytes that a line may have.
pub(super) const LONGEST_LINE: usize = 256 << 10;

/// Bytes of content in a frame that this side sends.
pub(super) const FRAME: usize = 128 << 10;

/// Bytes of a frame's length.
pub(super) const LENGTH: usize = 4;

/// What is asked of a process.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    /// Folder of `passwd` and `group`.
    pub(super) etc: PathBuf,
    /// Home of the daemon's own user, instead of the one in `passwd`.
    pub(super) home: Option<PathBuf>,
    /// Folder that stands for [`OWN_FOLDER`](crate::layout::OWN_FOLDER).
    pub(super) own: Option<PathBuf>,
    /// What is to be done.
    pub(super) operation: Operation,
}

/// How an answer begins.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Head {
    /// It is refused; nothing follows.
    Refused(Refusal),
    /// The content can come; nothing follows.
    Ready,
    /// JSON follows.
    Json,
    /// Lines of JSON follow.
    Lines,
    /// Bytes follow.
    Bytes {
        /// How many, if that is known.
        length: Option<u64>,
        /// The file whose content they are.
        entry: Option<Box<Entry>>,
    },
}

/// The process's side.
pub(super) struct Channel {
    input: BufReader<UnixStream>,
    /// The frame that is being filled; its length stands before it.
    frame: Vec<u8>,
    filled: usize,
    /// Bytes that are still to come of the frame that is read.
    coming: usize,
    is_answered: bool,
}

impl Channel {
    pub(super) fn new(socket: UnixStream) -> Self {
        let (frame, filled) = (vec![0; LENGTH + FRAME], LENGTH);
        Self { input: BufReader::with_capacity(FRAME, socket), frame, filled, coming: 0, is_answered: false }
    }

    /// The socket.
    pub(super) fn socket(&self) -> &UnixStream {
        self.input.get_ref()
    }

    /// Reads a line; `None` if there is none any more.
    pub(super) fn line<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        let mut line = Vec::new();
        (&mut self.input).take(LONGEST_LINE as u64).read_until(b'\n', &mut line)?;
        match line.last() {
            None => Ok(None),
            Some(b'\n') => Ok(Some(serde_json::from_slice(&line)?)),
            Some(_) => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Begins an answer.
    pub(super) fn head(&mut self, head: &Head) -> io::Result<()> {
        let mut line = serde_json::to_vec(head)?;
        line.push(b'\n');
        self.is_answered = !matches!(head, Head::Ready);
        self.socket().write_all(&line)
    }

    /// Refuses what was asked. An answer that has begun cannot be taken back: it is cut.
    pub(super) fn refuse(&mut self, refusal: Refusal) -> io::Result<()> {
        if self.is_answered {
            return Err(io::ErrorKind::Other.into());
        }
        self.head(&Head::Refused(refusal))
    }

    /// Answers in JSON.
    pub(super) fn json(&mut self, value: &impl Serialize) -> io::Result<()> {
        self.head(&Head::Json)?;
        serde_json::to_writer(&mut *self, value)?;
        self.end()?;
        self.is_answered = false;
        Ok(())
    }

    /// Adds a line of JSON to the content.
    pub(super) fn add_line(&mut self, value: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut *self, value)?;
        self.write_all(b"\n")
    }

    /// Adds at most so many bytes that are read from somewhere; answers how many.
    pub(super) fn add_from(&mut self, from: &mut impl Read, most: u64) -> io::Result<usize> {
        let room = self.frame.get_mut(self.filled..).unwrap_or_default();
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(room.len());
        let count = from.read(room.get_mut(..most).unwrap_or_default())?;
        self.filled += count;
        if self.filled == self.frame.len() {
            self.flush()?;
        }
        Ok(count)
    }

    /// Ends the content.
    pub(super) fn end(&mut self) -> io::Result<()> {
        self.flush()?;
        self.socket().write_all(&[0; LENGTH])
    }
}

/// Content that is sent, in frames.
impl Write for Channel {
    fn write(&mut self, mut bytes: &[u8]) -> io::Result<usize> {
        self.add_from(&mut bytes, u64::MAX)
    }

    fn flush(&mut self) -> io::Result<()> {
        let length = self.filled.saturating_sub(LENGTH);
        if length == 0 {
            return Ok(());
        }
        let bytes = u32::try_from(length).unwrap_or_default().to_le_bytes();
        if let Some(place) = self.frame.first_chunk_mut() {
            *place = bytes;
        }
        let frame = self.frame.get(..self.filled).unwrap_or_default();
        self.input.get_ref().write_all(frame)?;
        self.filled = LENGTH;
        Ok(())
    }
}

/// Content that comes, out of its frames. Its end is what the daemon says is the end, else it is an error.
impl Read for Channel {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.coming == 0 {
            let mut length = [0; LENGTH];
            self.input.read_exact(&mut length)?;
            self.coming = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
            if self.coming == 0 {
                return Ok(0);
            }
        }
        let most = self.coming.min(into.len());
        let count = self.input.read(into.get_mut(..most).unwrap_or_default())?;
        if count == 0 && most > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.coming -= count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use proptest::prelude::*;

    use super::*;

    /// What a process gets of what the daemon has sent before it went away.
    fn received(sent: Vec<u8>) -> io::Result<Vec<u8>> {
        let (mut ours, theirs) = UnixStream::pair()?;
        let sender = thread::spawn(move || ours.write_all(&sent));
        let mut content = Vec::new();
        let read = Channel::new(theirs).read_to_end(&mut content);
        let _ = sender.join();
        read.map(|_| content)
    }

    fn frames(parts: &[Vec<u8>]) -> Vec<u8> {
        let frame = |it: &Vec<u8>| [&u32::try_from(it.len()).unwrap().to_le_bytes()[..], it].concat();
        parts.iter().filter(|it| !it.is_empty()).flat_map(frame).chain([0; LENGTH]).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn content_comes_as_it_was_sent_or_is_known_to_be_cut(
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..5),
            at in any::<prop::sample::Index>(),
        ) {
            let sent = frames(&parts);
            prop_assert_eq!(received(sent.clone()).unwrap(), parts.concat());
            prop_assert!(received(sent[..at.index(sent.len())].to_vec()).is_err());
        }

        #[test]
        fn what_is_added_is_sent_in_frames(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..100_000), 0..4)) {
            let (mut ours, theirs) = UnixStream::pair().unwrap();
            let added = parts.clone();
            let sender = thread::spawn(move || {
                let mut channel = Channel::new(theirs);
                for part in added {
                    channel.write_all(&part).unwrap();
                }
                channel.end().unwrap();
            });
            let mut sent = Vec::new();
            ours.read_to_end(&mut sent).unwrap();
            sender.join().unwrap();
            prop_assert_eq!(received(sent).unwrap(), parts.concat());
        }

        #[test]
        fn any_line_is_read_without_a_panic(line in "(?s).{0,100}") {
            let (mut ours, theirs) = UnixStream::pair().unwrap();
            ours.write_all(line.as_bytes()).unwrap();
            drop(ours);
            let read = Channel::new(theirs).line::<serde_json::Value>();
            if let Ok(Some(value)) = read {
                let first = line.split_inclusive('\n').next().unwrap();
                prop_assert_eq!(serde_json::from_str::<serde_json::Value>(first).unwrap(), value);
            }
        }
    }

    #[test]
    fn a_line_without_an_end_is_not_read_for_ever() {
        assert!(received(vec![b'x'; 3]).is_err());
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let sender = thread::spawn(move || while ours.write_all(&[b'x'; 4096]).is_ok() {});
        assert!(Channel::new(theirs).line::<serde_json::Value>().is_err());
        sender.join().unwrap();
    }
}
