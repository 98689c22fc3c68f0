//! Events of a process or a command, as clients are told them.

use base64::{Engine, engine::general_purpose::STANDARD};
use pve_edge_guest_protocol::{
    Unique,
    process::{self, Stream},
};
use serde::{Deserialize, Serialize};

use super::Cursor;
use crate::sandbox::command::Line;

/// Form in which a client gets output, and sends input, as JSON strings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// As text; of a byte that is no UTF-8, U+FFFD is told, and `lossy`.
    #[default]
    Text,
    /// All bytes, in base64 with padding.
    Base64,
}

impl std::str::FromStr for Encoding {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "text" => Ok(Self::Text),
            "base64" => Ok(Self::Base64),
            _ => Err(()),
        }
    }
}

/// Event, and the place in the output behind it, where the way to the sandbox knows places.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Event {
    /// Name of the event.
    pub(crate) event: &'static str,
    /// Content of the event.
    #[serde(flatten)]
    pub(crate) told: Told,
    /// Place behind it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cursor: Option<Cursor>,
}

/// What an event tells.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Told {
    /// The process runs.
    Started(Started),
    /// It has written to its standard output.
    Stdout(Written),
    /// It has written to its standard error.
    Stderr(Written),
    /// Output is missing.
    Gap(Gap),
    /// Some of its output is left out, because it came as one line that is too long.
    TooLong,
    /// The daemon says what went wrong.
    Message(Message),
    /// It has ended.
    Exit(Exit),
}

/// The start of a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
pub struct Started {
    /// Name of the process, for `GET …/processes/{process}/output`.
    #[cfg_attr(feature = "contract", schemars(with = "super::ProcessId"))]
    pub(crate) process: Unique,
    /// Number of the process in the sandbox.
    pub(crate) pid: u32,
}

/// Output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema), schemars(rename = "Output"))]
pub struct Written {
    /// What was written: text, or base64 if that was asked for. By cmux-execd it is a line with its newline; by a VM's
    /// agent, all output at once.
    #[cfg_attr(feature = "contract", schemars(with = "String"))]
    pub(crate) data: Data,
    /// Whether U+FFFD stands for bytes that are no UTF-8.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[cfg_attr(feature = "contract", schemars(extend("const" = true)))]
    pub(crate) lossy: bool,
}

/// Output as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Data {
    Text(String),
    Bytes(Vec<u8>),
}

impl Serialize for Data {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => serializer.serialize_str(text),
            Self::Bytes(bytes) => serializer.serialize_str(&STANDARD.encode(bytes)),
        }
    }
}

/// Output that was dropped before anybody read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
pub struct Gap {
    /// Number of bytes that are missing, of both streams together.
    pub(crate) bytes: u64,
}

/// Message of the daemon that runs a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Message {
    /// What went wrong.
    pub(crate) message: String,
}

/// End of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
pub struct Exit {
    /// Exit code; of a process that a signal has ended, 128 and its number. 127: there is no such program; 126: it could not be started for another reason. 124: it took
    /// too long, where the sandbox has no pve-edge-guest.
    pub(crate) exit_code: i32,
    /// Name of the signal that has ended it, without `SIG`, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "contract", schemars(with = "String"))]
    pub(crate) signal: Option<String>,
    /// Whether it was ended because its time was over.
    pub(crate) timed_out: bool,
    /// Whether something of it was killed for want of memory.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[cfg_attr(feature = "contract", schemars(extend("const" = true)))]
    pub(crate) oom_killed: bool,
    /// Why it could not be started.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "contract", schemars(with = "String"))]
    pub(crate) error: Option<String>,
}

impl Event {
    /// An event with its place.
    pub(super) fn at(told: Told, cursor: &Cursor) -> Self {
        Self { event: told.name(), told, cursor: Some(cursor.clone()) }
    }
}

/// Lines of a way that knows no places.
impl From<Line> for Event {
    fn from(line: Line) -> Self {
        let written = |text| Written { data: Data::Text(text), lossy: false };
        let told = match line {
            Line::Stdout(text) => Told::Stdout(written(text)),
            Line::Stderr(text) => Told::Stderr(written(text)),
            Line::Error(message) => Told::Message(Message { message }),
            Line::TooLong => Told::TooLong,
            Line::Exit(exit_code) => Told::Exit(Exit { exit_code, ..Exit::default() }),
        };
        Self { event: told.name(), told, cursor: None }
    }
}

impl Told {
    fn name(&self) -> &'static str {
        match self {
            Self::Started(_) => "started",
            Self::Stdout(_) => "stdout",
            Self::Stderr(_) => "stderr",
            Self::Gap(_) => "gap",
            Self::TooLong | Self::Message(_) => "error",
            Self::Exit(_) => "exit",
        }
    }

    /// Output of a stream.
    pub(super) fn written(stream: Stream, data: Data, lossy: bool) -> Self {
        let written = Written { data, lossy };
        if stream == Stream::Stdout { Self::Stdout(written) } else { Self::Stderr(written) }
    }
}

impl From<process::Exit> for Exit {
    fn from(exit: process::Exit) -> Self {
        let process::Exit { exit_code, signal, timed_out, oom_killed, error } = exit;
        Self { exit_code, signal, timed_out, oom_killed, error }
    }
}

/// Event of a process, in a page of its output: which members it has depends on `event`.
#[cfg(feature = "contract")]
#[derive(Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "ProcessEvent")]
pub(crate) struct InPage {
    /// Name of the event.
    event: EventName,
    /// Place behind it.
    cursor: Cursor,
    /// Of `started`: name of the process.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "super::ProcessId")]
    process: Option<()>,
    /// Of `started`: number of the process in the sandbox.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32")]
    pid: Option<()>,
    /// Of `stdout` and `stderr`: what was written, as `encoding` says.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    data: Option<()>,
    /// Of `stdout` and `stderr`: whether U+FFFD stands for bytes that are no UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool", extend("const" = true))]
    lossy: Option<()>,
    /// Of `gap`: number of bytes that are missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u64")]
    bytes: Option<()>,
    /// Of `exit`: exit code, as in Exit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i32")]
    exit_code: Option<()>,
    /// Of `exit`: name of the signal that has ended it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    signal: Option<()>,
    /// Of `exit`: whether it was ended because its time was over.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    timed_out: Option<()>,
    /// Of `exit`: whether something of it was killed for want of memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool", extend("const" = true))]
    oom_killed: Option<()>,
    /// Of `exit`: why it could not be started.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    error: Option<()>,
}

/// Name of an event in a page of output.
#[cfg(feature = "contract")]
#[derive(Serialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
#[expect(dead_code, reason = "it is written as `Told::name` has it")]
enum EventName {
    /// The process runs.
    Started,
    /// It has written to its standard output, or its terminal.
    Stdout,
    /// It has written to its standard error.
    Stderr,
    /// Output was dropped before anybody read it.
    Gap,
    /// It has ended: the last event.
    Exit,
}
