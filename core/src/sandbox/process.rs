//! Processes in a sandbox: requests to start one, how one stands, and its output from any place on.

mod cursor;
mod decoder;
pub mod event;
pub mod request;

use std::str::FromStr;

use pve_edge_guest_protocol::{
    Unique, answer,
    process::{self, StdinTaken},
};
use serde::{Deserialize, Serialize};

pub(crate) use self::decoder::{Decoder, End, Foreign, Heard};
pub use self::{
    cursor::{After, Cursor, Place},
    event::{Encoding, Event, Exit},
    request::{ProcessBody, ProcessRequest, SizeBody},
};
use crate::error::{Code, Error, cut};

/// Name of a process, which the edge has given it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessId(pub Unique);

#[cfg(feature = "contract")]
schema!(ProcessId {
    "type": "string",
    "description": "Name of a process in its sandbox.",
    "pattern": "^[0-9a-f]{32}$"
});

impl FromStr for ProcessId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let id = text.parse().map(Self);
        id.map_err(|_| Error::new(Code::NoSuchProcess, format!("there is no process {}", cut(text))))
    }
}

/// State of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema), schemars(rename = "ProcessState"))]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It was taken, and does not run yet.
    Starting,
    /// It runs.
    Running,
    /// It has ended, and `exit` tells how.
    Exited,
    /// Its keeper in the sandbox was killed, or the sandbox was restarted: it may have ended, and its output is cut.
    Lost,
}

/// Process in a sandbox.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Process {
    /// Name of the process.
    #[cfg_attr(feature = "contract", schemars(with = "ProcessId"))]
    pub process: Unique,
    /// State.
    pub state: State,
    /// Number of the process in the sandbox; null while there is none.
    pub pid: Option<u32>,
    /// Text that its start gave it.
    pub tag: Option<String>,
    /// What runs, cut after 4,096 bytes: of a `command`, the shell and the line.
    pub argv: Vec<String>,
    /// Working directory at its start.
    pub cwd: Option<String>,
    /// User who runs it.
    pub user: Option<String>,
    /// Whether it has a terminal.
    pub pty: bool,
    /// Standard input; null: it cannot be written to.
    pub stdin: Option<Stdin>,
    /// How it ended; null while it runs.
    pub exit: Option<Exit>,
    /// Place behind the output that it has written.
    pub cursor: Cursor,
    /// Milliseconds since its start.
    pub age_ms: u64,
}

/// Processes of a sandbox, on one page.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Processes {
    /// The processes, the oldest first.
    pub items: Vec<Process>,
    /// Cursor of the next page: always null, there is none.
    pub next_cursor: (),
}

/// Standard input of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
pub struct Stdin {
    /// Bytes that it has taken in all: `at` of the next ones.
    pub at: u64,
    /// Whether it is closed.
    pub closed: bool,
}

/// Signal to send.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct SignalBody {
    /// Name of the signal, such as `TERM` or `SIGTERM`.
    #[cfg_attr(feature = "contract", schemars(regex(pattern = r"^[A-Z][A-Z0-9+-]{1,15}$")))]
    signal: String,
    /// Who gets it; `tree` by default.
    #[cfg_attr(feature = "contract", schemars(with = "Scope"))]
    scope: Option<Scope>,
}

/// Who gets a signal.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema), schemars(rename = "SignalScope"))]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// The process and all its descendants.
    #[default]
    Tree,
    /// The process alone.
    Process,
}

impl SignalBody {
    /// The signal's name without `SIG`, and who gets it.
    pub(crate) fn parse(&self) -> Result<(String, process::Scope), Error> {
        let name = self.signal.strip_prefix("SIG").unwrap_or(&self.signal);
        let is_name = (1..=16).contains(&name.len())
            && name.bytes().all(|it| it.is_ascii_uppercase() || it.is_ascii_digit() || b"+-".contains(&it));
        if !is_name {
            return Err(Error::field("signal", "must be the name of a signal, such as TERM"));
        }
        let scope = match self.scope.unwrap_or_default() {
            Scope::Tree => process::Scope::Tree,
            Scope::Process => process::Scope::Process,
        };
        Ok((name.to_owned(), scope))
    }
}

/// Output of a process from some place on, as far as it has come.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
pub struct OutputPage {
    /// State of the process.
    pub(crate) state: State,
    /// Where to go on.
    pub(crate) cursor: Cursor,
    /// What has happened since the place that was asked for.
    #[cfg_attr(feature = "contract", schemars(with = "Vec<event::InPage>"))]
    pub(crate) events: Vec<Event>,
    /// How it ended, once it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "contract", schemars(with = "Exit"))]
    pub(crate) exit: Option<Exit>,
}

/// What a sandbox uses.
#[derive(Clone, Copy, Debug, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Metrics {
    /// Processors that it may use, such as 1.5.
    cpus: f64,
    /// Microseconds of processor time that it has used since its start.
    cpu_used_us: u64,
    /// Milliseconds since its start, by the clock that `cpuUsedUs` goes with.
    uptime_ms: u64,
    /// Bytes of memory that it may use.
    memory_total: u64,
    /// Bytes of memory in use, without what the kernel can give back.
    memory_used: u64,
    /// Bytes of memory that the kernel caches and can give back.
    memory_cached: u64,
    /// Bytes of the root file system.
    disk_total: u64,
    /// Bytes of it that are in use.
    disk_used: u64,
    /// Number of processes.
    processes: u64,
    /// Times that the kernel has killed for want of memory since the start.
    oom_kills: u64,
}

impl From<answer::Metrics> for Metrics {
    fn from(of: answer::Metrics) -> Self {
        let answer::Metrics { cpus, cpu_used_us, uptime_ms, .. } = of;
        let answer::Metrics { memory_total, memory_used, memory_cached, .. } = of;
        let answer::Metrics { disk_total, disk_used, processes, oom_kills, .. } = of;
        Self {
            cpus,
            cpu_used_us,
            uptime_ms,
            memory_total,
            memory_used,
            memory_cached,
            disk_total,
            disk_used,
            processes,
            oom_kills,
        }
    }
}

impl From<StdinTaken> for Stdin {
    fn from(StdinTaken { at, closed }: StdinTaken) -> Self {
        Self { at, closed }
    }
}

impl From<process::State> for State {
    fn from(state: process::State) -> Self {
        match state {
            process::State::Starting => Self::Starting,
            process::State::Running => Self::Running,
            process::State::Exited => Self::Exited,
            process::State::Lost => Self::Lost,
        }
    }
}

impl From<process::Process> for Process {
    fn from(of: process::Process) -> Self {
        Self {
            process: of.process,
            state: of.state.into(),
            pid: of.pid,
            tag: of.tag,
            argv: of.argv,
            cwd: of.cwd,
            user: of.user,
            pty: of.pty,
            stdin: of.stdin.map(Stdin::from),
            exit: of.exit.map(Exit::from),
            cursor: Cursor::at(Place { all: of.cursor, stderr: 0 }),
            age_ms: of.age_ms,
        }
    }
}
