//! Errors of calls to Morph: no answer, Morph's refusal, or an answer that is not Morph's.

use http::header::RETRY_AFTER;
use serde_json::Value;

use crate::{
    error::{Code, Error},
    io::{Failure, NetError, Sent, Whole, invocation::Lost},
};

/// Number of characters of Morph's texts that an error repeats.
const DETAIL: usize = 160;

/// Error of a call to Morph.
#[derive(Clone, Debug, thiserror::Error)]
pub enum MorphError {
    /// No answer came, or not all of it.
    #[error("no answer from Morph: {0}")]
    Net(NetError),
    /// Morph refused the call.
    #[error("Morph refused: {status} {detail}")]
    Refused {
        /// HTTP status of the answer.
        status: u16,
        /// The answer's `detail`, shortened; empty where that was no text.
        detail: String,
        /// Seconds of the answer's `Retry-After`.
        after: Option<u32>,
    },
    /// The answer is not Morph's.
    #[error("not Morph's answer: {0}")]
    NotMorph(String),
    /// The platform allows this invocation no more requests; the call was not sent.
    #[error("no outgoing requests left")]
    Budget,
}

impl MorphError {
    /// Whether the call may have been executed, although nothing tells.
    pub fn may_be_executed(&self) -> bool {
        match self {
            Self::Net(error) => error.sent == Sent::Maybe,
            Self::NotMorph(_) => true,
            // A proxy before Morph answers so too.
            Self::Refused { status, .. } => *status >= 500,
            Self::Budget => false,
        }
    }

    fn status(&self) -> u16 {
        match self {
            Self::Refused { status, .. } => *status,
            _ => 0,
        }
    }

    /// Whether Morph has nothing of that id.
    pub fn is_missing(&self) -> bool {
        matches!(self.status(), 404 | 410)
    }

    /// Whether the account has nothing of the id that a read names: Morph has no such thing, or says that this is no id
    /// (422). 403 is about the account, and tells nothing of the id.
    pub fn is_unknown_id(&self) -> bool {
        self.is_missing() || self.status() == 422
    }

    /// Whether the state of the instance or snapshot does not allow the call.
    pub fn is_conflict(&self) -> bool {
        self.status() == 409
    }

    /// Whether the same call would certainly be refused again.
    pub fn is_final(&self) -> bool {
        (400..500).contains(&self.status()) && !matches!(self.status(), 408 | 409 | 429)
    }
}

impl From<Lost> for MorphError {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::Net(error) => Self::Net(error),
            Lost::Budget => Self::Budget,
        }
    }
}

/// Reads Morph's data from an answer; null where the answer has no body.
pub fn decode(whole: &Whole) -> Result<Value, MorphError> {
    let status = whole.status;
    let body = match serde_json::from_slice::<Value>(&whole.body) {
        Ok(body) => Some(body),
        Err(_) if whole.body.iter().all(u8::is_ascii_whitespace) => Some(Value::Null),
        Err(_) => None,
    };
    match (status, body) {
        (200..=299, Some(body)) => Ok(body),
        (400..=599, Some(body)) => {
            let detail = body.get("detail").and_then(Value::as_str).unwrap_or_default();
            let after = whole.headers.get(RETRY_AFTER).and_then(|it| it.to_str().ok()?.parse().ok());
            Err(MorphError::Refused { status, detail: shorten(detail), after })
        }
        _ => Err(MorphError::NotMorph(format!("status {status}, and the body is not Morph's JSON"))),
    }
}

fn shorten(text: &str) -> String {
    text.chars().filter(|it| !it.is_control()).take(DETAIL).collect()
}

impl From<MorphError> for Error {
    fn from(error: MorphError) -> Self {
        match error {
            MorphError::Budget => {
                let text =
                    "the platform allows one request a bounded number of calls to Morph; ask again to go on";
                Error::new(Code::BudgetExhausted, text).retry_after(1)
            }
            MorphError::NotMorph(what) => {
                let text = format!("{what}; check MORPH_BASE_URL");
                Error::new(Code::MorphUnreachable, text).retry_after(5)
            }
            MorphError::Net(error) => network_error(&error),
            MorphError::Refused { status, detail, after } => refusal_error(status, &detail, after),
        }
    }
}

fn network_error(error: &NetError) -> Error {
    let (code, fix) = match (error.failure, error.sent) {
        (Failure::Timeout, _) => (Code::MorphTimeout, "Morph or the way to it is slow; ask again"),
        (Failure::Tls, _) | (_, Sent::Never) => (Code::MorphUnreachable, "is MORPH_BASE_URL right?"),
        _ => (Code::MorphTimeout, "the connection ended before Morph answered; ask again"),
    };
    Error::new(code, format!("{}; {fix}", error.detail)).retry_after(5)
}

fn refusal_error(status: u16, detail: &str, after: Option<u32>) -> Error {
    let said = format!("Morph answered {status}: {detail}");
    match status {
        401 => Error::new(Code::MorphUnauthorized, "Morph answered 401: check MORPH_API_KEY"),
        404 | 410 => Error::new(Code::NotFound, said),
        409 => Error::new(Code::Conflict, said).retry_after(2),
        429 => Error::new(Code::MorphBusy, said).retry_after(after.unwrap_or(5).max(1)),
        503 if after.is_some() => Error::new(Code::MorphBusy, said).retry_after(after.unwrap_or(5).max(1)),
        _ => Error::new(Code::MorphError, said),
    }
}

/// The error of an answer that lacks something it must have.
pub fn bad_answer(what: &str) -> Error {
    Error::new(Code::MorphError, format!("Morph's answer shows no {what}"))
}
