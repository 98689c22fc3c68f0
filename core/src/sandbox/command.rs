//! Commands: requests to run one, and the output as it comes.

#[cfg(test)]
mod clock;
pub mod events;
pub mod limit;
mod lines;
mod outcome;
pub mod request;
#[cfg(test)]
mod shells;

use futures_util::{Stream, StreamExt};
use http::{Request, header};
use time::OffsetDateTime;

pub use self::{
    events::events,
    lines::{Line, Lines},
    outcome::Outcome,
    request::{ExecBody, ExecRequest},
};
pub(crate) use self::{limit::limit_output, outcome::OutputRoom};
use crate::{
    error::{Code, Error},
    io::{Io, NetError, RequestBody, Sent, Way, proxy},
    sandbox::process::Event,
};

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

/// Sends the request that runs a command, once, and returns its output as it comes: `lines` reads it from an answer of
/// the type `content`.
pub(crate) async fn send_command<I: Io>(
    io: &I,
    request: Request<Vec<u8>>,
    deadline: OffsetDateTime,
    content: &str,
    mut lines: Lines,
) -> Result<Opened<impl Stream<Item = Output> + Unpin + use<I>>, ExecError> {
    let unanswered = |error: NetError| match error.sent {
        Sent::Never => ExecError::NotSent(error),
        Sent::Maybe => ExecError::Unanswered(error),
    };
    let way = request.extensions().get().copied().unwrap_or(Way::Public);
    let answer = io.open(request.map(RequestBody::Whole), deadline).await.map_err(unanswered)?;
    if let Some(fault) = proxy::fault(way, answer.status, &answer.headers) {
        return Err(unanswered(fault));
    }
    let kind = answer.headers.get(header::CONTENT_TYPE).and_then(|it| it.to_str().ok()).unwrap_or_default();
    match answer.status {
        200 if kind.contains(content) => {
            let lines = answer.body.map(move |chunk| chunk.map(|bytes| lines.push(&bytes)));
            Ok(Opened { lines })
        }
        401 => Err(ExecError::Unauthorized),
        status => Err(ExecError::Refused { status }),
    }
}

impl<L: Stream<Item = Output> + Unpin> Opened<L> {
    /// What clients are told of it.
    pub(crate) fn events(self) -> impl Stream<Item = Result<Vec<Event>, Error>> + Unpin + use<L> {
        self.lines.map(|output| match output {
            Ok(lines) => Ok(lines.into_iter().map(Event::from).collect()),
            Err(_) => Err(cut()),
        })
    }
}

/// The error of output that ended before the exit code.
pub(crate) fn cut() -> Error {
    let text = "the output ended before the exit code: the command may have ended, may run on, or was killed";
    Error::new(Code::ExecCut, text)
}

/// Collects all output of a command; of each stream at most `cap` bytes are kept.
pub async fn collect_output(
    opened: Opened<impl Stream<Item = Output> + Unpin>,
    cap: usize,
) -> Result<Outcome, ExecError> {
    Outcome::collect(opened.events(), OutputRoom::new(cap)).await.map_err(|_| ExecError::Cut)
}
