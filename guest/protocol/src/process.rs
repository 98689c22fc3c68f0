//! Processes: how one is started, what is told of it, and its output.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use crate::{Unique, call::Digest256};

/// Bytes that [`Spec::input`] may have.
pub const LARGEST_INPUT: usize = 1 << 20;

/// Arguments of `start`; the body is the JSON of a [`Spec`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Start {
    /// Name of the process, which the edge has chosen. A start of a process that exists starts nothing, and answers how
    /// it stands.
    pub process: Unique,
    /// Digest of what the client asked under an `Idempotency-Key`: it is noted on the disk before the process runs, and
    /// outlives a restart of the guest. Another digest for the same name is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keyed: Option<Digest256>,
}

/// What to run. Its JSON may have [`crate::call::LARGEST_BODY`] bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Spec {
    /// Line for `bash -c`, or `sh -c` where there is no bash; or else `argv`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Program and its arguments: no shell is between.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub argv: Option<Vec<String>>,
    /// Working directory; the user's home if it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// Environment variables, besides HOME, USER, LOGNAME, SHELL and PATH, which come from the user.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Name or number of the user; root if it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Whether standard input can be written to; else it is empty.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub stdin: bool,
    /// All of standard input, of at most [`LARGEST_INPUT`] bytes: it is closed behind them. Nothing else is written to it,
    /// and the process has no terminal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<Bytes>,
    /// Terminal of this size, for all three streams.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pty: Option<Size>,
    /// Milliseconds after which the process and its descendants are killed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Text by which a client finds it again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// Whether the process and its descendants are killed once nobody has followed it for 30 seconds.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub hangup: bool,
}

/// Size of a terminal, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Size {
    /// Columns.
    pub cols: u16,
    /// Rows.
    pub rows: u16,
}

/// Arguments that only name a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Named {
    /// Name of the process.
    pub process: Unique,
}

/// Arguments of `follow`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Follow {
    /// Name of the process.
    pub process: Unique,
    /// Where to begin.
    pub after: After,
    /// Milliseconds after which the answer ends; it ends as soon as something was told and nothing more is there. If it
    /// is absent, the answer ends with the exit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_ms: Option<u64>,
    /// Bytes of output after which the answer ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most: Option<u64>,
}

/// Place in the output of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum After {
    /// Before the first byte.
    Start,
    /// After the last byte that has come.
    End,
    /// After so many bytes, of both streams together. A place behind all output is refused, if it is known how much came.
    Cursor(u64),
}

/// Arguments of `stdin`; the body is the bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stdin {
    /// Name of the process.
    pub process: Unique,
    /// Bytes that were written before these. Bytes that were taken already are passed over, so that it may be sent again.
    pub at: u64,
    /// Whether these bytes are the last ones.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub end: bool,
}

/// Answer to `stdin`: fewer bytes than were sent are taken while the process does not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StdinTaken {
    /// Bytes that were written in all.
    pub at: u64,
    /// Whether standard input is closed.
    pub closed: bool,
}

/// Arguments of `signal`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signal {
    /// Name of the process.
    pub process: Unique,
    /// Name of the signal without `SIG`, such as `TERM`.
    pub signal: String,
    /// Who gets it.
    pub scope: Scope,
}

/// Who gets a signal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// The process and all its descendants.
    #[default]
    Tree,
    /// The process alone.
    Process,
}

/// Arguments of `resize`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resize {
    /// Name of the process.
    pub process: Unique,
    /// Size that its terminal gets.
    pub size: Size,
}

/// Arguments of `terminal`, which is a `GET` that opens a websocket: binary messages are bytes of the terminal, text ones
/// the JSON of a [`ToTerminal`] and a [`FromTerminal`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Terminal {
    /// Name of the process.
    pub process: Unique,
    /// Where its output begins.
    pub after: After,
    /// Whether the process ends with the websocket.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hangup: bool,
}

/// Text message to a terminal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum ToTerminal {
    /// Change the terminal's size; one without columns or rows changes nothing.
    Resize(Size),
}

/// Text message from a terminal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FromTerminal {
    /// The process runs; the first message.
    Started(Process),
    /// Output was dropped before it was sent.
    Gap {
        /// Number of bytes.
        bytes: u64,
    },
    /// The process has ended; the last message.
    Exit(Exit),
    /// The keeper of the process is gone; the last message.
    Lost {},
}

/// Answer about all processes of this boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Processes {
    /// Processes, the oldest first.
    pub processes: Vec<Process>,
}

/// How a process stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    /// Name, which the edge has chosen.
    pub process: Unique,
    /// State.
    pub state: State,
    /// Boot of the guest in which it was started.
    pub boot: Unique,
    /// Number of the process in the guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Text that its start gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// What runs, cut after 4,096 bytes: of a `command`, the shell and the line.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub argv: Vec<String>,
    /// Working directory at the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// User.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Whether it has a terminal.
    #[serde(default)]
    pub pty: bool,
    /// Standard input, if it can be written to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<StdinTaken>,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<Exit>,
    /// Bytes of output that it has written, of both streams together.
    #[serde(default)]
    pub cursor: u64,
    /// Milliseconds since its start.
    #[serde(default)]
    pub age_ms: u64,
}

/// State of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It has been taken, and does not run yet.
    Starting,
    /// It runs.
    Running,
    /// It has ended, and how is known.
    Exited,
    /// Its keeper was killed, or the guest was restarted: it may have ended, and its output is cut.
    Lost,
}

/// How a process ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Exit {
    /// Exit code; of a process that a signal has ended, 128 and its number; 127 if there is no such program,
    /// and 126 if it could not be started for another reason.
    pub exit_code: i32,
    /// Name of the signal that has ended it, without `SIG`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    /// Whether it was killed because its time was over.
    #[serde(default)]
    pub timed_out: bool,
    /// Whether the kernel has killed something of it for want of memory.
    #[serde(default)]
    pub oom_killed: bool,
    /// Why it could not be started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Line of the answer to `follow`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    /// Place in the output behind this event, for [`After::Cursor`].
    pub cursor: u64,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

impl Line {
    /// Number of bytes of output in it.
    pub fn bytes(&self) -> usize {
        if let Event::Out { data, .. } = &self.event { data.0.len() } else { 0 }
    }
}

/// What happened to a process that is followed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Event {
    /// It runs; the first event.
    Started {
        /// Number of the process in the guest.
        pid: u32,
    },
    /// It has written.
    Out {
        /// Stream.
        stream: Stream,
        /// Bytes.
        data: Bytes,
    },
    /// Output was dropped before it was read.
    Gap {
        /// Number of bytes.
        bytes: u64,
    },
    /// Nothing has happened for a while.
    Alive,
    /// It has ended; the last event.
    Exit(Exit),
    /// Its keeper is gone; the last event.
    Lost,
}

/// Stream of output. A terminal has `Stdout` alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Bytes, in base64 with padding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        STANDARD.decode(String::deserialize(deserializer)?).map(Self).map_err(D::Error::custom)
    }
}
