//! Client of the daemon in the guest that runs commands: `POST /exec` answers
//! JSON lines `stdout`, `stderr`, `error`, and last `exit`.

#[cfg(test)]
mod clock;
mod events;
mod limit;
mod lines;
mod request;
#[cfg(test)]
mod shells;

use futures_util::{Stream, StreamExt};
use http::{HeaderValue, Method, Request, header};
use serde::Serialize;
use time::OffsetDateTime;

pub use self::{
    events::events,
    lines::{Line, Lines},
    request::{ExecBody, ExecRequest},
};
pub(crate) use self::{
    limit::{limited, timed_out},
    request::quote,
};
use crate::{
    io::{Failure, Io, NetError, Sent, Way},
    secret::Secret,
};

/// Answers that are not output are read up to this.
const SMALL: usize = 64 << 10;

/// Why there is no output, or not all of it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ExecError {
    /// Proved not to have been taken.
    #[error("{0}")]
    NotSent(NetError),
    /// No answer; the command may have been run.
    #[error("{0}")]
    Unanswered(NetError),
    /// The token is wrong; the command was not run.
    #[error("execd answers 401")]
    Unauthorized,
    /// Something answered that is not output.
    #[error("status {status}")]
    Refused {
        /// HTTP status.
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

/// Some lines of a command's output, or that there are no more.
pub type Output = Result<Vec<Line>, NetError>;

/// The whole output of a command.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// 124 when it timed out, 127 when it could not be started.
    pub exit_code: i32,
    /// As execd delivers it: UTF-8, whole lines.
    pub stdout: String,
    /// As `stdout`.
    pub stderr: String,
    /// Whether `timeoutMs` ended it.
    pub timed_out: bool,
    /// What execd says went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Whether output beyond the platform's limit was left out.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
}

/// Sends a command, once.
pub async fn open<I: Io>(
    io: &I,
    request: Request<Vec<u8>>,
    deadline: OffsetDateTime,
) -> Result<Opened<impl Stream<Item = Output> + Unpin + use<I>>, ExecError> {
    written(io, request, deadline, "json", Lines::default()).await
}

/// The same, of output that comes as another kind of content.
pub(crate) async fn written<I: Io>(
    io: &I,
    request: Request<Vec<u8>>,
    deadline: OffsetDateTime,
    content: &str,
    mut lines: Lines,
) -> Result<Opened<impl Stream<Item = Output> + Unpin + use<I>>, ExecError> {
    let answer = io.open(request, deadline).await.map_err(|error| match error.sent {
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
        // The edge or the tunnel had no connection to send it on.
        status @ (521 | 523 | 525 | 526 | 530) => Err(ExecError::NotSent(NetError {
            sent: Sent::Never,
            failure: Failure::Connect,
            detail: format!("status {status}: the way to the sandbox is down"),
        })),
        status => Err(ExecError::Refused { status }),
    }
}

/// Reads all output; of each stream at most `cap` bytes are kept.
pub async fn collect(
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

/// How an exec daemon stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Refuses a wrong token and takes ours.
    Ready,
    /// Not there yet, or something else answers for it: what came instead.
    NotYet(String),
    /// Takes a wrong token.
    Open,
    /// Refuses ours.
    WrongToken,
    /// Takes ours, and what the sandbox needs first fails in it.
    Unable,
}

/// Whether the daemon refuses a wrong token and takes ours. `/healthz` would
/// prove nothing: it needs no token, and a daemon without one lets everyone in.
/// `first` is run with our token alone. Each request ends at `deadline`, and `spend` takes each of the two requests from what the platform allows.
pub async fn probe<I: Io>(
    io: &I,
    base: &str,
    way: Way,
    (token, first): (&Secret, &ExecRequest),
    wrong: &Secret,
    deadline: impl Fn() -> OffsetDateTime,
    spend: impl Fn() -> bool,
) -> Probe {
    let nothing = ExecRequest::nothing();
    let ask = async |token, run: &ExecRequest| match open(io, run.request(base, token, way), deadline()).await
    {
        Ok(opened) => collect(opened, SMALL).await.map(|outcome| outcome.exit_code == 0),
        Err(error) => Err(error),
    };
    let unasked = || Probe::NotYet("the platform allows no more requests to ask it".into());
    if !spend() {
        return unasked();
    }
    match ask(wrong, &nothing).await {
        Ok(_) => return Probe::Open,
        Err(ExecError::Unauthorized) => {}
        Err(error) => return Probe::NotYet(error.to_string()),
    }
    if !spend() {
        return unasked();
    }
    match ask(token, first).await {
        Ok(true) => Probe::Ready,
        Ok(false) => Probe::Unable,
        Err(ExecError::Unauthorized) => Probe::WrongToken,
        Err(error) => Probe::NotYet(error.to_string()),
    }
}

fn post(base: &str, token: &Secret, way: Way, body: Vec<u8>) -> Request<Vec<u8>> {
    let mut request = Request::new(Vec::new());
    *request.method_mut() = Method::POST;
    *request.uri_mut() = format!("{base}/exec").parse().unwrap_or_default();
    let headers = request.headers_mut();
    if let Ok(mut bearer) = HeaderValue::from_str(&format!("Bearer {}", token.expose())) {
        bearer.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, bearer);
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    *request.body_mut() = body;
    request.extensions_mut().insert(way);
    request
}
