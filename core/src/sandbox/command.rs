//! Commands: requests to run one, and the output as it comes.

#[cfg(test)]
mod clock;
pub mod events;
pub mod limit;
mod lines;
pub mod request;
#[cfg(test)]
mod shells;

use futures_util::{Stream, StreamExt};
use http::{Request, header};
use serde::Serialize;
use time::OffsetDateTime;

pub(crate) use self::limit::limit_output;
pub use self::{
    events::events,
    lines::{Line, Lines},
    request::{ExecBody, ExecRequest},
};
use crate::io::{Failure, Io, NetError, RequestBody, Sent};

/// Error of a command: it was not run, or its output did not come to an end.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ExecError {
    /// The request was certainly not executed, so the command was not run.
    #[error("{0}")]
    NotSent(NetError),
    /// No answer came; the command may have been run.
    #[error("{0}")]
    Unanswered(NetError),
    /// The token is wrong; the command was not run.
    #[error("execd answers 401")]
    Unauthorized,
    /// The answer was not output.
    #[error("status {status}")]
    Refused {
        /// HTTP status of the answer.
        status: u16,
    },
    /// The output ended before the exit code.
    #[error("the output was cut")]
    Cut,
}

/// A command that was taken, and its output as it comes.
pub struct Opened<L> {
    /// What it prints, and last how it ended.
    pub lines: L,
}

/// Lines of a command's output, or the error that ends them.
pub type Output = Result<Vec<Line>, NetError>;

/// Outcome of a command that has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// Exit code; 124: the command timed out; 127: it could not be started.
    pub exit_code: i32,
    /// Output of the command: UTF-8, whole lines.
    pub stdout: String,
    /// Output of errors: UTF-8, whole lines.
    pub stderr: String,
    /// Whether the command was ended because its time was over.
    pub timed_out: bool,
    /// Message of the exec daemon, or that the command's time was over.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "contract", schemars(with = "String"))]
    pub error: Option<String>,
    /// Whether output was left out, because there was more than the platform lets through; streamed output is complete.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[cfg_attr(feature = "contract", schemars(extend("const" = true)))]
    pub truncated: bool,
}

/// Sends the request that runs a command, once, and returns its output as it comes: `lines` reads it from an answer of
/// the type `content`.
pub(crate) async fn send_command<I: Io>(
    io: &I,
    request: Request<Vec<u8>>,
    deadline: OffsetDateTime,
    content: &str,
    mut lines: Lines,
) -> Result<Opened<impl Stream<Item = Output> + Unpin + use<I>>, ExecError> {
    let answer =
        io.open(request.map(RequestBody::Whole), deadline).await.map_err(|error| match error.sent {
            Sent::Never => ExecError::NotSent(error),
            Sent::Maybe => ExecError::Unanswered(error),
        })?;
    let kind = answer.headers.get(header::CONTENT_TYPE).and_then(|it| it.to_str().ok()).unwrap_or_default();
    match answer.status {
        200 if kind.contains(content) => {
            let lines = answer.body.map(move |chunk| chunk.map(|bytes| lines.push(&bytes)));
            Ok(Opened { lines })
        }
        401 => Err(ExecError::Unauthorized),
        // Cloudflare's edge or the tunnel had no connection to send the request on.
        status @ (521 | 523 | 525 | 526 | 530) => Err(ExecError::NotSent(NetError {
            sent: Sent::Never,
            failure: Failure::Connect,
            detail: format!("status {status}: the way to the sandbox is down"),
        })),
        status => Err(ExecError::Refused { status }),
    }
}

/// Collects all output of a command; of each stream at most `cap` bytes are kept.
pub async fn collect_output(
    mut opened: Opened<impl Stream<Item = Output> + Unpin>,
    cap: usize,
) -> Result<Outcome, ExecError> {
    let mut outcome = Outcome::default();
    while let Some(lines) = opened.lines.next().await {
        for line in lines.map_err(|_| ExecError::Cut)? {
            match line {
                Line::Stdout(text) => outcome.truncated |= !keep(&mut outcome.stdout, &text, cap),
                Line::Stderr(text) => outcome.truncated |= !keep(&mut outcome.stderr, &text, cap),
                Line::Error(message) => {
                    outcome.timed_out |= message.starts_with("timeout");
                    outcome.error = Some(message);
                }
                Line::TooLong => outcome.truncated = true,
                Line::Exit(code) => {
                    outcome.exit_code = code;
                    return Ok(outcome);
                }
            }
        }
    }
    Err(ExecError::Cut)
}

/// Appends what fits, at a character's boundary.
fn keep(kept: &mut String, text: &str, cap: usize) -> bool {
    let room = cap.saturating_sub(kept.len());
    if text.len() <= room {
        kept.push_str(text);
        return true;
    }
    let mut at = room;
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    kept.push_str(text.get(..at).unwrap_or_default());
    false
}
