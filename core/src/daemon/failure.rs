//! Failures of a call to the daemon in a guest, and how a client is told of them.

use pve_edge_guest_protocol::answer::{Code as Refused, Refusal};

use crate::{
    error::{Code, Error},
    io::{Failure, NetError, Sent},
};

/// Failure of a call.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CallFailure {
    /// The call was certainly not executed.
    #[error("{0}")]
    NotSent(NetError),
    /// No answer came, or not all of it: the call may have been executed.
    #[error("{0}")]
    Unanswered(NetError),
    /// The daemon has refused it, and has changed nothing, unless its code is [`Refused::Failed`].
    #[error("{}", .0.detail)]
    Refused(Refusal),
    /// The answer is not the daemon's: the call may have been executed.
    #[error("status {status} came instead of the daemon's answer")]
    Foreign {
        /// Status of the answer.
        status: u16,
    },
    /// The daemon obeys none of the deployment's keys; nothing was sent.
    #[error("the daemon knows none of this deployment's keys")]
    NoKey,
    /// The call does not fit into its header; nothing was sent.
    #[error("the path is too long")]
    TooLarge,
    /// The guest was restarted, and the call was for the boot before; it was not executed.
    #[error("the guest was restarted")]
    Restarted,
    /// The platform allows no more requests; nothing was sent.
    #[error("the platform allows no more requests")]
    Budget,
    /// The way to the sandbox was not opened, for this reason; nothing was sent.
    #[error("{}", .0.detail())]
    NoWay(Box<Error>),
}

impl CallFailure {
    /// The failure of a request without an answer.
    pub(super) fn of(error: NetError) -> Self {
        match error.sent {
            Sent::Never => Self::NotSent(error),
            Sent::Maybe => Self::Unanswered(error),
        }
    }

    /// The failure of a call that was not sent, because the question before it failed: a proxy that finds nobody behind it
    /// answers in the daemon's place.
    pub fn before_a_call(self) -> Self {
        let unsent = |failure, detail| Self::NotSent(NetError { sent: Sent::Never, failure, detail });
        match self {
            Self::Unanswered(error) => unsent(error.failure, error.detail),
            Self::Foreign { .. } => unsent(Failure::Unknown, self.to_string()),
            failure => failure,
        }
    }

    /// Whether the same call, if it may be made again, can succeed soon: the way is cut, or the daemon is restarted.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::NotSent(_) | Self::Unanswered(_) | Self::Foreign { .. } => true,
            Self::Refused(refusal) => refusal.code == Refused::Busy,
            Self::NoWay(error) => error.code().row().3,
            Self::NoKey | Self::TooLarge | Self::Restarted | Self::Budget => false,
        }
    }

    /// Whether it is proved that the call was not executed.
    pub fn is_never_executed(&self) -> bool {
        match self {
            Self::NotSent(_)
            | Self::NoKey
            | Self::TooLarge
            | Self::Restarted
            | Self::Budget
            | Self::NoWay(_) => true,
            Self::Refused(refusal) => refusal.code != Refused::Failed,
            Self::Unanswered(_) | Self::Foreign { .. } => false,
        }
    }
}

impl From<CallFailure> for Error {
    fn from(failure: CallFailure) -> Self {
        match failure {
            CallFailure::NotSent(cause) => {
                Error::new(Code::ExecUnreachable, format!("the sandbox's daemon was not reached: {cause}"))
                    .retry_after(2)
            }
            CallFailure::Unanswered(cause) => {
                Error::new(Code::ExecCut, format!("{cause}; the call may or may not have been executed"))
            }
            CallFailure::Foreign { .. } => {
                Error::new(Code::ExecCut, format!("{failure}; the call may or may not have been executed"))
            }
            CallFailure::Refused(refusal) => refused(&refusal),
            CallFailure::NoWay(error) => *error,
            CallFailure::NoKey => Error::new(
                Code::GuestKeys,
                "the sandbox's daemon obeys none of the keys that EDGE_SECRET gives: was the secret that its \
                 template knows removed?",
            ),
            CallFailure::TooLarge => Error::field("path", "is too long for a call"),
            CallFailure::Restarted => Error::new(
                Code::ExecCut,
                "the guest was restarted: the command may have been run, and does not run any more",
            ),
            CallFailure::Budget => {
                Error::new(Code::BudgetExhausted, "the platform allows no more outgoing requests")
            }
        }
    }
}

/// The error of a client whose call the daemon has refused.
fn refused(refusal: &Refusal) -> Error {
    let code = match refusal.code {
        Refused::BadCall
        | Refused::WrongBody
        | Refused::NoSuchSignal
        | Refused::BadPath
        | Refused::BadArchive => Code::InvalidRequest,
        Refused::Unauthorized => Code::GuestKeys,
        Refused::NotHere => Code::GuestIdentity,
        Refused::NoSuchProcess => Code::NoSuchProcess,
        Refused::OtherRequest => Code::IdempotencyConflict,
        Refused::ProcessGone => Code::ProcessGone,
        Refused::StdinClosed => Code::StdinClosed,
        Refused::StdinOffset => Code::StdinOffset,
        Refused::NoTerminal | Refused::Unsupported => Code::Unsupported,
        Refused::NoSuchUser => Code::NoSuchUser,
        Refused::TooManyProcesses | Refused::TooManyKeys | Refused::Busy => Code::TooManyProcesses,
        Refused::NoSuchFile => Code::NoSuchFile,
        Refused::NotAFile | Refused::NotADirectory => Code::NotAFile,
        Refused::Exists => Code::FileExists,
        Refused::Changed => Code::PreconditionFailed,
        Refused::NotPermitted => Code::FileForbidden,
        Refused::DiskFull => Code::DiskFull,
        Refused::RangeNotSatisfiable => Code::RangeNotSatisfiable,
        // The edge made the session, the call and the stage itself: a client sees these when the guest goes on changing.
        Refused::Session | Refused::Seen | Refused::NoSuchStage | Refused::OtherBytes | Refused::Failed => {
            Code::ExecFailed
        }
    };
    let error = Error::new(code, refusal.detail.clone());
    let error = if code == Code::TooManyProcesses { error.retry_after(2) } else { error };
    match (refusal.at, refusal.size) {
        (Some(at), _) => error.member("at", at),
        (None, Some(size)) => error.member("size", size),
        (None, None) => error,
    }
}
