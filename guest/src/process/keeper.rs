//! What the daemon and the keeper of a process say to each other.
//!
//! The first thing is the [`Order`], over the keeper's standard input, answered by an [`Answer`]; the keeper holds that
//! stream until the command has taken the input that came with the order. Later ones go over the
//! socket in the process's folder: a line of JSON for each [`Request`] and each [`Answer`].

use std::{fs::File, io, time::Duration};

use pve_edge_guest_protocol::{
    answer::{Code, Refusal},
    process::{Bytes, Scope, Size, StdinTaken},
};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::timeout,
};

use super::{
    folder::{Description, Folder},
    launch::Launch,
    log::Log,
};

/// Bytes that a line may have.
pub(crate) const LONGEST_LINE: usize = 128 << 10;

/// Time in which a keeper answers. One that does not is stopped, or stuck.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a keeper is to run, and how.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) launch: Launch,
    pub(crate) description: Description,
    pub(crate) timeout_ms: Option<u64>,
    /// How many bytes of standard input come behind the order, if they are given.
    pub(crate) input: Option<usize>,
    /// Milliseconds without a follower after which the process ends, if it is to end so.
    pub(crate) hangup_ms: Option<u64>,
    /// Milliseconds after which a follower that does not read is waited for no more.
    pub(crate) stall_ms: u64,
    pub(crate) folder: Folder,
    pub(crate) log: Log,
}

/// What a keeper is asked.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// How the process stands: [`Answer::Standing`].
    Stand,
    /// Tell how far the output has come, whenever there is more: [`Answer::News`], again and again. The asker sends the
    /// place up to which it has read, a number in a line, whenever it has read on.
    Follow(u64),
    /// Write to standard input: [`Answer::Taken`].
    Stdin {
        /// Bytes that were written before; without it, however many those are: the answer is [`Answer::Typed`] then.
        at: Option<u64>,
        /// Bytes to write.
        data: Bytes,
        /// Whether they are the last ones.
        end: bool,
    },
    /// Send a signal by its number: [`Answer::Done`].
    Signal(i32, Scope),
    /// Change the terminal's size: [`Answer::Done`].
    Resize(Size),
    /// End the process and all its descendants: [`Answer::Done`], as soon as it has begun.
    Kill,
}

/// What a keeper answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Answer {
    Done,
    Standing {
        cursor: u64,
        stdin: Option<StdinTaken>,
    },
    News {
        /// Bytes of output that have come.
        cursor: u64,
        /// Whether the process has ended, which its folder then tells.
        ended: bool,
    },
    Taken(StdinTaken),
    /// So many of the bytes were written.
    Typed(usize),
    Refused(Refusal),
}

/// Connection to a keeper.
pub(crate) struct Keeper {
    lines: BufReader<OwnedReadHalf>,
    to: OwnedWriteHalf,
    /// What has come of the next line.
    line: Vec<u8>,
}

impl Keeper {
    /// Connects to the keeper of a process.
    pub(crate) async fn connect(folder: &Folder) -> io::Result<Self> {
        let opened: File = folder.open()?;
        let stream = UnixStream::connect(Folder::socket(&opened)).await?;
        Ok(Self::over(stream))
    }

    pub(crate) fn over(stream: UnixStream) -> Self {
        let (from, to) = stream.into_split();
        Self { lines: BufReader::new(from), to, line: Vec::new() }
    }

    /// Asks, and returns the answer. It is not waited for for long.
    pub(crate) async fn ask(&mut self, request: &impl Serialize) -> Result<Answer, Refusal> {
        timeout(PATIENCE, self.ask_patiently(request)).await.unwrap_or_else(|_| Err(silent()))
    }

    /// The same, however long it takes.
    pub(crate) async fn ask_patiently(&mut self, request: &impl Serialize) -> Result<Answer, Refusal> {
        let answer = async {
            self.send(request).await?;
            self.answer().await
        };
        obeyed(answer.await)
    }

    /// Tells a keeper what to run, and what that is to read.
    pub(crate) async fn order(&mut self, order: &Order, input: &[u8]) -> Result<Answer, Refusal> {
        let answer = async {
            self.send(order).await?;
            self.to.write_all(input).await?;
            self.answer().await
        };
        obeyed(answer.await)
    }

    pub(crate) async fn send(&mut self, message: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(message)?;
        line.push(b'\n');
        self.to.write_all(&line).await
    }

    /// The next answer; `None` if the keeper has ended. Nothing is lost if this is given up.
    pub(crate) async fn answer(&mut self) -> io::Result<Option<Answer>> {
        self.lines.read_until(b'\n', &mut self.line).await?;
        let line = std::mem::take(&mut self.line);
        if line.is_empty() { Ok(None) } else { Ok(Some(serde_json::from_slice(&line)?)) }
    }

    /// Tells the keeper how far its output was read; whether it could be told at once.
    pub(crate) fn try_read_until(&self, cursor: u64) -> io::Result<bool> {
        // A stream of the guest takes a short line as a whole, or nothing of it.
        match self.to.try_write(format!("{cursor}\n").as_bytes()) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            written => written.map(|_| true),
        }
    }

    /// The same, as soon as it can be told. Nothing is told if this is given up.
    pub(crate) async fn read_until(&self, cursor: u64) -> io::Result<()> {
        while !self.try_read_until(cursor)? {
            self.to.writable().await?;
        }
        Ok(())
    }
}

fn obeyed(answer: io::Result<Option<Answer>>) -> Result<Answer, Refusal> {
    match answer {
        Ok(Some(Answer::Refused(refusal))) => Err(refusal),
        Ok(Some(answer)) => Ok(answer),
        Ok(None) | Err(_) => Err(gone()),
    }
}

/// The refusal of what needs a keeper that is gone.
pub(crate) fn gone() -> Refusal {
    Refusal::new(Code::ProcessGone, "the process has ended")
}

/// The refusal of what a keeper does not answer.
pub(crate) fn silent() -> Refusal {
    Refusal::new(Code::Failed, "what keeps the process does not answer")
}

/// The refusal that an error of the system is, where nothing was run.
pub(crate) fn refusal(what: &str, error: &io::Error) -> Refusal {
    use io::ErrorKind::{
        OutOfMemory, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull, WouldBlock,
    };
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    let code = match error.kind() {
        StorageFull | QuotaExceeded | ReadOnlyFilesystem => Code::DiskFull,
        WouldBlock | OutOfMemory => Code::TooManyProcesses,
        PermissionDenied => Code::NotPermitted,
        _ if matches!(error.raw_os_error(), Some(ENFILE | EMFILE)) => Code::TooManyProcesses,
        _ => Code::Failed,
    };
    Refusal::new(code, format!("{what}: {error}"))
}
