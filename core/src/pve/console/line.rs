//! Lines of the hub: requests to it, and its replies.
//!
//! The console may lose any bytes, so each line tells by itself whether it is whole: a request by its sum, or by saying
//! everything twice, a reply by saying everything twice, or by its length and its place before and behind it.

use base64::{Engine, engine::general_purpose::STANDARD};
use pve_edge_guest_protocol::{Unique, process::Stream};
use sha2::{Digest, Sha256};

/// Bytes of input that one request carries.
pub(super) const PIECE: usize = 2048;
/// Bytes that a line of the hub may have; a longer one is none.
const LONGEST: usize = 8 << 10;
/// Bytes of the most that is kept of a reply's text.
const WORD: usize = 64;

/// Reply of the hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// It has started, in this boot of the guest.
    Ready(Version, Unique),
    /// The guest has no such program, without which it cannot work.
    Lacks(String),
    /// It is there: answer to a request of this name.
    Here(String, Version, Unique),
    /// A piece of a file of a process is in place.
    Put(Unique, File, u64),
    /// A client has got its turn to send so many requests of a process.
    Turn(Unique, u32),
    /// The process was started by this request, or was before, or is not: its files are not what was sent.
    Run(Unique, Started),
    /// There is no such process.
    None(Unique),
    /// The process was killed, and is forgotten.
    Gone(Unique),
    /// No room is left in the guest: what was asked for a process was not done.
    Full(Unique),
    /// Bytes of a process's output.
    Frame(Unique, Frame),
    /// How a process stands.
    Stands(Unique, Stands),
}

impl Reply {
    /// The process that it is about.
    pub(super) fn process(&self) -> Option<Unique> {
        match self {
            Self::Put(process, ..)
            | Self::Turn(process, _)
            | Self::Run(process, _)
            | Self::None(process)
            | Self::Gone(process)
            | Self::Full(process)
            | Self::Frame(process, _)
            | Self::Stands(process, _) => Some(*process),
            Self::Ready(..) | Self::Lacks(_) | Self::Here(..) => None,
        }
    }
}

/// Version of a hub: the beginning of its script's digest.
pub(super) type Version = String;

/// File of a process that requests write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum File {
    /// What is run.
    Script,
    /// Its standard input.
    Input,
}

/// What came of a request to start a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Started {
    /// It was started now.
    Now,
    /// It was started before.
    Before,
    /// It was not: its files are not what they are to be.
    Not,
}

/// Bytes of output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) stream: Stream,
    /// Bytes of the stream before these.
    pub(super) offset: u64,
    pub(super) data: Vec<u8>,
}

/// How a process stands: the end of the answer to one question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stands {
    /// Number of the question.
    pub(super) question: u32,
    /// Number of the process in the guest; 0 while it does not run yet.
    pub(super) pid: u32,
    /// Bytes that are there.
    pub(super) sizes: Sizes,
    pub(super) end: Option<End>,
}

/// Bytes of standard output and of standard error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sizes {
    pub(super) stdout: u64,
    pub(super) stderr: u64,
}

impl Sizes {
    /// Those of one stream.
    pub(super) fn of(&mut self, stream: Stream) -> &mut u64 {
        if stream == Stream::Stdout { &mut self.stdout } else { &mut self.stderr }
    }

    /// Whether of each stream so many are there.
    pub(super) fn reach(self, others: Self) -> bool {
        self.stdout >= others.stdout && self.stderr >= others.stderr
    }

    /// How many more they are, of each stream.
    pub(super) fn beyond(self, others: Self) -> Self {
        let more = |these: u64, those| these.saturating_sub(those);
        Self { stdout: more(self.stdout, others.stdout), stderr: more(self.stderr, others.stderr) }
    }

    /// These, but of each stream no more than so many.
    pub(super) fn at_most(self, most: u64) -> Self {
        Self { stdout: self.stdout.min(most), stderr: self.stderr.min(most) }
    }

    fn read(stdout: &str, stderr: &str) -> Option<Self> {
        Some(Self { stdout: stdout.parse().ok()?, stderr: stderr.parse().ok()? })
    }
}

/// End of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    Exit(Exit),
    /// Its keeper is gone.
    Lost,
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Exit {
    pub(super) code: i32,
    /// Bytes of each output until the end: what a process that it has left behind writes is not counted.
    pub(super) sizes: Sizes,
    /// What the keeper or the script has noted: why it ended, or why it could not be started.
    pub(super) why: Option<String>,
    /// Bytes of each output that were dropped behind what is kept.
    pub(super) dropped: [u64; 2],
}

impl File {
    fn letter(self) -> &'static str {
        match self {
            Self::Script => "c",
            Self::Input => "i",
        }
    }
}

/// The beginning of a digest, as the hub compares it.
pub(super) fn sum(bytes: &[u8]) -> String {
    let mut digits = hex::encode(Sha256::digest(bytes));
    digits.truncate(16);
    digits
}

/// A request that changes something: it has its sum behind it.
pub(super) fn summed(words: &str) -> Vec<u8> {
    let line = format!("#{words}");
    let sum = sum(format!("{line}\n").as_bytes());
    format!("{line} {sum}\n").into_bytes()
}

/// A request that may be executed any number of times: it says everything twice.
pub(super) fn doubled(words: &str) -> Vec<u8> {
    format!("#{words} . {words}\n").into_bytes()
}

/// A request to put a piece of a file of a process in place.
pub(super) fn put(process: Unique, file: File, number: u64, piece: &[u8]) -> Vec<u8> {
    summed(&format!("{process} put {} {number} {}", file.letter(), STANDARD.encode(piece)))
}

/// Splitter of what the terminal shows into replies.
#[derive(Debug, Default)]
pub(super) struct Replies {
    rest: Vec<u8>,
    is_too_long: bool,
}

impl Replies {
    /// Takes bytes, and returns the replies that they complete. What others type, and what is not whole, is passed over.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<Reply> {
        let mut found = Vec::new();
        for piece in bytes.split_inclusive(|it| *it == b'\n') {
            let is_end = piece.ends_with(b"\n");
            self.is_too_long |= self.rest.len() + piece.len() > LONGEST;
            if self.is_too_long {
                self.rest.clear();
            } else {
                self.rest.extend_from_slice(piece);
            }
            if is_end {
                found.extend(parse(&self.rest).filter(|_| !self.is_too_long));
                self.rest.clear();
                self.is_too_long = false;
            }
        }
        found
    }
}

/// The reply in a line, behind its last `@`.
fn parse(line: &[u8]) -> Option<Reply> {
    let at = line.iter().rposition(|it| *it == b'@')?;
    let text = std::str::from_utf8(line.get(at + 1..)?).ok()?.trim_ascii_end();
    if let Some((once, twice)) = text.split_once(" . ") {
        return (once == twice).then(|| said(once)).flatten();
    }
    frame(text)
}

/// A reply that says everything twice.
fn said(text: &str) -> Option<Reply> {
    let words: Vec<_> = text.split(' ').collect();
    Some(match words[..] {
        ["-", "ready", version, boot] => Reply::Ready(short(version)?, boot.parse().ok()?),
        ["-", "lacks", program] => Reply::Lacks(short(program)?),
        [name, "hi", version, boot] => Reply::Here(short(name)?, short(version)?, boot.parse().ok()?),
        [process, "put", "c", number] => put_reply(process, File::Script, number)?,
        [process, "put", "i", number] => put_reply(process, File::Input, number)?,
        [process, "run", started] => Reply::Run(
            process.parse().ok()?,
            match started {
                "new" => Started::Now,
                "old" => Started::Before,
                "bad" => Started::Not,
                _ => return None,
            },
        ),
        [process, "turn", requests] => Reply::Turn(process.parse().ok()?, requests.parse().ok()?),
        [process, "none"] => Reply::None(process.parse().ok()?),
        [process, "gone"] => Reply::Gone(process.parse().ok()?),
        [process, "full"] => Reply::Full(process.parse().ok()?),
        [process, "s", question, pid, stdout, stderr, ref end @ ..] => {
            let stands = Stands {
                question: question.parse().ok()?,
                pid: pid.parse().ok()?,
                sizes: Sizes::read(stdout, stderr)?,
                end: end_of(end)?,
            };
            Reply::Stands(process.parse().ok()?, stands)
        }
        _ => return None,
    })
}

fn put_reply(process: &str, file: File, number: &str) -> Option<Reply> {
    Some(Reply::Put(process.parse().ok()?, file, number.parse().ok()?))
}

pub(super) fn end_of(words: &[&str]) -> Option<Option<End>> {
    Some(match words {
        ["+"] => None,
        ["lost"] => Some(End::Lost),
        [code, stdout, stderr, why, out_dropped, err_dropped] => Some(End::Exit(Exit {
            code: code.parse().ok()?,
            sizes: Sizes::read(stdout, stderr)?,
            why: (*why != "-").then(|| short(why)).flatten(),
            dropped: [out_dropped.parse().ok()?, err_dropped.parse().ok()?],
        })),
        _ => return None,
    })
}

fn frame(text: &str) -> Option<Reply> {
    let words: Vec<_> = text.split(' ').collect();
    let [process, which, before, length, data, behind] = words[..] else { return None };
    let stream = match which {
        "o" => Stream::Stdout,
        "e" => Stream::Stderr,
        _ => return None,
    };
    let data = STANDARD.decode(data).ok()?;
    // All of it stands behind the data again: a line that was joined of two by a loss does not pass.
    let is_whole =
        behind == format!("{process}.{which}.{before}.{length}") && length.parse() == Ok(data.len());
    let frame = Frame { stream, offset: before.parse().ok()?, data };
    is_whole.then_some(Reply::Frame(process.parse().ok()?, frame))
}

fn short(word: &str) -> Option<String> {
    (word.len() <= WORD).then(|| word.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PROCESS: Unique = Unique([7; 16]);

    fn frame_line(offset: u64, data: &[u8]) -> String {
        let (length, data) = (data.len(), STANDARD.encode(data));
        format!("@{PROCESS} o {offset} {length} {data} {PROCESS}.o.{offset}.{length}\r\n")
    }

    #[test]
    fn replies_are_read_from_among_what_others_type() {
        let boot = "0a".repeat(16);
        let text = format!(
            "ls\r\n# what is this@- ready v1 {boot} . - ready v1 {boot}\r\n{}@{PROCESS} s 3 7 3 0 + . {PROCESS} s 3 7 3 0 +\n",
            frame_line(0, b"abc")
        );
        let frame = Frame { stream: Stream::Stdout, offset: 0, data: b"abc".to_vec() };
        let stands = Stands { question: 3, pid: 7, sizes: Sizes { stdout: 3, stderr: 0 }, end: None };
        let wanted = [
            Reply::Ready("v1".into(), boot.parse().unwrap()),
            Reply::Frame(PROCESS, frame),
            Reply::Stands(PROCESS, stands),
        ];
        for size in [1, 7, 4096] {
            let mut replies = Replies::default();
            let read: Vec<_> = text.as_bytes().chunks(size).flat_map(|it| replies.push(it)).collect();
            assert_eq!(read, wanted, "{size}");
        }
    }

    /// Two lines of two processes, of which as many bytes are lost in between as one line has.
    #[test]
    fn a_line_that_was_joined_of_two_is_passed_over() {
        let other = Unique([8; 16]);
        let first = frame_line(0, &[b'a'; 60]);
        let second = frame_line(0, &[b'b'; 60]).replace(&PROCESS.to_string(), &other.to_string());
        for at in 1..first.len() {
            let joined = [&first.as_bytes()[..at], &second.as_bytes()[at..]].concat();
            let read = Replies::default().push(&joined);
            // Where all but what both have is of one of them, it is that one.
            let wholes = [&first, &second].map(|it| Replies::default().push(it.as_bytes()));
            assert!(read.is_empty() || wholes.contains(&read), "{at}: {read:?}");
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_passed_over() {
        let mut replies = Replies::default();
        let long = "x".repeat(LONGEST);
        let text = format!("{long}{}{}", frame_line(0, b"a"), frame_line(1, b"b"));
        assert_eq!(replies.push(text.as_bytes()).len(), 1);
    }

    proptest! {
        /// Whatever bytes a line loses: it is passed over, or tells what it was to tell.
        #[test]
        fn what_is_lost_is_noticed(
            data in prop::collection::vec(any::<u8>(), 1..400),
            offset in 0_u64..1_000_000,
            from in any::<prop::sample::Index>(),
            length in 1_usize..200,
        ) {
            let stands = format!("{PROCESS} s 12 345 {offset} {} 0 {offset} 0 - 0 0", data.len());
            for line in [frame_line(offset, &data), format!("@{stands} . {stands}\r\n")] {
                let whole = Replies::default().push(line.as_bytes());
                prop_assert_eq!(whole.len(), 1);
                let mut bytes = line.clone().into_bytes();
                // Its end is not lost, or it would be joined with the next.
                let from = from.index(bytes.len() - 2);
                let to = (from + length).min(bytes.len() - 2);
                bytes.drain(from..to);
                for read in Replies::default().push(&bytes) {
                    prop_assert_eq!(&read, &whole[0]);
                }
            }
        }

        #[test]
        fn anything_may_be_shown(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Replies::default().push(&bytes);
        }
    }
}
