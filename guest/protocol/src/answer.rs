//! Answers of the daemon that are not about one process or one file.

use serde::{Deserialize, Serialize};

use crate::{Unique, keys::KeyId};

/// Answer to `GET /healthz`, which nobody has signed, and to `renew`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Version of the daemon.
    pub version: String,
    /// Names of the keys that it obeys.
    pub keys: Vec<String>,
    /// Drawn when the guest started.
    pub boot: Unique,
    /// The session that a call is to name.
    pub session: Unique,
}

impl Health {
    /// Whether the daemon obeys a key.
    pub fn knows(&self, key: &KeyId) -> bool {
        self.keys.iter().any(|it| it == key.as_str())
    }
}

/// Answer to `hello`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Version of the daemon.
    pub version: String,
    /// Drawn when the guest started.
    pub boot: Unique,
    /// The content of the file of keys.
    pub keys: String,
}

/// Answer without content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {}

/// Answer to `metrics`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metrics {
    /// Processors that the guest may use, such as 1.5.
    pub cpus: f64,
    /// Microseconds of processor time that the guest has used since its start.
    pub cpu_used_us: u64,
    /// Milliseconds since the guest's start, by the clock that `cpu_used_us` goes with.
    pub uptime_ms: u64,
    /// Bytes of memory that the guest may use.
    pub memory_total: u64,
    /// Bytes of memory that are in use, without what the kernel can give back.
    pub memory_used: u64,
    /// Bytes that the kernel caches and can give back.
    pub memory_cached: u64,
    /// Bytes of the root file system.
    pub disk_total: u64,
    /// Bytes of it that are in use.
    pub disk_used: u64,
    /// Processes in the guest.
    pub processes: u64,
    /// Times that the kernel has killed for want of memory since the guest's start.
    pub oom_kills: u64,
}

/// Refusal: the body of each answer whose status is not 200. Nothing was changed, unless `code` is [`Code::Failed`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Refusal {
    /// Kind.
    pub code: Code,
    /// What happened, in words.
    pub detail: String,
    /// The present session, with [`Code::Session`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Unique>,
    /// The present boot, with [`Code::Session`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<Unique>,
    /// Bytes of standard input that were taken, with [`Code::StdinOffset`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<u64>,
    /// Size of the file, with [`Code::RangeNotSatisfiable`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
}

impl Refusal {
    /// A refusal with nothing but a code and words.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), session: None, boot: None, at: None, size: None }
    }
}

/// Kinds of refusals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// The request is no call, or its arguments are wrong.
    BadCall,
    /// The call is not signed by a key of this guest.
    Unauthorized,
    /// This guest is not the sandbox that the call is for.
    NotHere,
    /// The call names a session that is over: it was not executed.
    Session,
    /// The call was taken before: it was not executed again.
    Seen,
    /// The body is larger than announced or allowed, or is not what was signed.
    WrongBody,
    /// No process has this name.
    NoSuchProcess,
    /// A process of this name was started by another request.
    OtherRequest,
    /// The process has ended, or its keeper is gone.
    ProcessGone,
    /// Standard input is closed, or was never open.
    StdinClosed,
    /// Bytes between those that were taken and these are missing.
    StdinOffset,
    /// The process has no terminal.
    NoTerminal,
    /// The signal has no such name.
    NoSuchSignal,
    /// The guest has no such user.
    NoSuchUser,
    /// The guest has no room for another process.
    TooManyProcesses,
    /// The guest has noted as many starts with a key as it can: there will be room within an hour after one has ended.
    TooManyKeys,
    /// Nothing is at the path.
    NoSuchFile,
    /// What is at the path is not a regular file.
    NotAFile,
    /// What is at the path is not a folder.
    NotADirectory,
    /// Something is at the path already, or the folder is not empty.
    Exists,
    /// The file is not the one that `if_match` names.
    Changed,
    /// The user may not do it, or the file system is read-only.
    NotPermitted,
    /// The path is no path, or too long, or leads through too many links.
    BadPath,
    /// No room is left on the disk, or no inodes.
    DiskFull,
    /// The range begins behind the end of the file.
    RangeNotSatisfiable,
    /// Nothing is staged under this name.
    NoSuchStage,
    /// The staged bytes have another digest.
    OtherBytes,
    /// The archive cannot be unpacked: it is broken, or leads out of the folder.
    BadArchive,
    /// Too many calls are under way.
    Busy,
    /// The guest cannot do this.
    Unsupported,
    /// It went wrong half way.
    Failed,
}

impl Code {
    /// Status of the answer.
    pub fn status(self) -> u16 {
        match self {
            Self::BadCall | Self::BadPath | Self::WrongBody | Self::NoSuchSignal => 400,
            Self::Unauthorized => 401,
            Self::NotPermitted => 403,
            Self::NoSuchProcess | Self::NoSuchFile | Self::NoSuchStage => 404,
            Self::Session
            | Self::Seen
            | Self::OtherRequest
            | Self::ProcessGone
            | Self::StdinClosed
            | Self::StdinOffset
            | Self::NoTerminal
            | Self::Exists => 409,
            Self::Changed => 412,
            Self::RangeNotSatisfiable => 416,
            Self::NotHere => 421,
            Self::NoSuchUser
            | Self::NotAFile
            | Self::NotADirectory
            | Self::OtherBytes
            | Self::BadArchive
            | Self::Unsupported => 422,
            Self::TooManyProcesses | Self::TooManyKeys | Self::Busy => 503,
            Self::DiskFull => 507,
            Self::Failed => 500,
        }
    }
}
