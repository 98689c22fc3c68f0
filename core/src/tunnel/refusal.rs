//! Errors of calls to Cloudflare's API: no answer, a refusal, or an answer that is not the API's.

use http::header::RETRY_AFTER;
use serde::Deserialize;
use serde_json::Value;

use super::api::Right;
use crate::{
    error::{Code, Error},
    io::{Failure, NetError, Sent, Whole, invocation::Lost},
};

/// Number of characters of Cloudflare's texts that an error repeats.
const DETAIL: usize = 160;

/// Seconds for which all calls of a user are blocked who has sent too many.
const BLOCK: u32 = 300;

/// A name that is taken: of a tunnel; of a record, by another, by the same, by one with the same settings.
const TAKEN: [u32; 4] = [1013, 81053, 81057, 81058];
/// A tunnel with connections.
const CONNECTED: u32 = 1022;
/// Things that are not there: a tunnel, a record.
const MISSING: [u32; 2] = [1003, 81044];
/// Too many calls.
const BUSY: [u32; 2] = [971, 10429];
/// Tokens that are no tokens, are not known, or have expired.
const UNAUTHORIZED: [u32; 5] = [1000, 1001, 6003, 6111, 9106];
/// A permission that is missing, or a token that is wrong: the API does not tell which.
const FORBIDDEN: [u32; 2] = [9109, 10000];
/// Ids of accounts or zones that there are not.
const UNROUTED: [u32; 2] = [7000, 7003];

/// Error of a call to Cloudflare's API.
#[derive(Debug)]
pub(super) enum CloudflareError {
    /// No answer came, or not all of it.
    Net(NetError),
    /// The API refused the call, which needs this permission.
    Refused {
        status: u16,
        codes: Vec<u32>,
        /// Its words, shortened.
        said: String,
        after: Option<u32>,
        right: Right,
    },
    /// The answer, of this status, is not the API's.
    Stranger(u16),
    /// The API's answer is not what the call answers.
    Shape(String),
    /// A list has so many pages.
    Long(u32),
    /// The platform allows this invocation no more requests; the call was not sent.
    Budget,
}

impl CloudflareError {
    /// Whether the call may have been executed, although nothing tells.
    pub(super) fn may_be_executed(&self) -> bool {
        match self {
            Self::Net(error) => error.sent == Sent::Maybe,
            Self::Refused { status, .. } => *status >= 500,
            // What refuses with less has not passed the call on: a firewall, a login.
            Self::Stranger(status) => *status >= 500 || *status < 300,
            Self::Shape(_) => true,
            Self::Long(_) | Self::Budget => false,
        }
    }

    fn has(&self, known: &[u32]) -> bool {
        matches!(self, Self::Refused { codes, .. } if codes.iter().any(|it| known.contains(it)))
    }

    fn status(&self) -> u16 {
        match self {
            Self::Refused { status, .. } => *status,
            _ => 0,
        }
    }

    /// Whether another thing of that name is there already.
    pub(super) fn is_taken(&self) -> bool {
        self.has(&TAKEN) || (self.status() == 409 && !self.is_connected())
    }

    /// Whether clients are connected to the tunnel that was to be deleted.
    pub(super) fn is_connected(&self) -> bool {
        self.has(&[CONNECTED])
    }

    /// Whether the thing that was named is not there.
    pub(super) fn is_missing(&self) -> bool {
        !self.has(&UNROUTED) && (self.status() == 404 || self.has(&MISSING))
    }

    /// Whether a look tells more than the error: somebody else, or this very call, may have done what was asked.
    pub(super) fn asks_for_a_look(&self) -> bool {
        self.is_taken() || self.is_missing() || self.may_be_executed()
    }
}

impl From<Lost> for CloudflareError {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::Net(error) => Self::Net(error),
            Lost::Budget => Self::Budget,
        }
    }
}

/// What is around every answer of the API.
#[derive(Deserialize)]
struct Envelope {
    success: bool,
    #[serde(default)]
    errors: Option<Vec<Said>>,
    #[serde(default)]
    result: Value,
    #[serde(default)]
    result_info: Option<Paged>,
}

#[derive(Deserialize)]
struct Said {
    code: u32,
    #[serde(default)]
    message: String,
}

#[derive(Deserialize)]
struct Paged {
    #[serde(default)]
    total_pages: Option<u32>,
    #[serde(default)]
    total_count: Option<u32>,
    #[serde(default)]
    per_page: Option<u32>,
}

impl Paged {
    fn pages(&self) -> u32 {
        match (self.total_pages, self.total_count, self.per_page) {
            (Some(pages), ..) => pages,
            (None, Some(count), Some(page)) if page > 0 => count.div_ceil(page),
            _ => 1,
        }
    }
}

/// Reads the result from an answer, and how many pages it has. Success is both a status of it and the envelope's word.
pub(super) fn decode(whole: &Whole, right: Right) -> Result<(Value, u32), CloudflareError> {
    let status = whole.status;
    let envelope: Envelope = match serde_json::from_slice(&whole.body) {
        Ok(envelope) => envelope,
        // The limiter before the API answers without one.
        Err(_) if status == 429 => {
            Envelope { success: false, errors: None, result: Value::Null, result_info: None }
        }
        Err(_) => return Err(CloudflareError::Stranger(status)),
    };
    if envelope.success && (200..300).contains(&status) {
        return Ok((envelope.result, envelope.result_info.map_or(1, |it| it.pages())));
    }
    let errors = envelope.errors.unwrap_or_default();
    let said: Vec<_> = errors.iter().map(|it| format!("{} ({})", it.message, it.code)).collect();
    Err(CloudflareError::Refused {
        status,
        codes: errors.iter().map(|it| it.code).collect(),
        said: said.join("; ").chars().filter(|it| !it.is_control()).take(DETAIL).collect(),
        after: whole.headers.get(RETRY_AFTER).and_then(|it| it.to_str().ok()?.trim().parse().ok()),
        right,
    })
}

impl From<CloudflareError> for Error {
    fn from(error: CloudflareError) -> Self {
        match &error {
            CloudflareError::Budget => {
                let text = "the platform allows one request a bounded number of calls; ask again to go on";
                Error::new(Code::BudgetExhausted, text).retry_after(1)
            }
            CloudflareError::Stranger(status) => {
                let text = format!("what answered with status {status} is not Cloudflare's API; ask again");
                Error::new(Code::CloudflareUnreachable, text).retry_after(10)
            }
            CloudflareError::Net(error) => network_error(error),
            CloudflareError::Shape(what) => Error::new(
                Code::CloudflareError,
                format!("Cloudflare's answer has an unexpected shape: {what}"),
            ),
            CloudflareError::Long(pages) => {
                let text =
                    format!("a list at Cloudflare has {pages} pages: is the zone one for guests alone?");
                Error::new(Code::CloudflareError, text)
            }
            CloudflareError::Refused { status, said, after, right, .. } => {
                refusal_error(&error, (*status, said), *after, *right)
            }
        }
    }
}

fn network_error(error: &NetError) -> Error {
    let (code, fix) = match (error.failure, error.sent) {
        (Failure::Timeout, _) => (Code::CloudflareTimeout, "ask again: it goes on where it was"),
        (Failure::Tls, _) | (_, Sent::Never) => (Code::CloudflareUnreachable, "ask again"),
        _ => (
            Code::CloudflareTimeout,
            "the connection ended before the answer; ask again: it goes on where it was",
        ),
    };
    Error::new(code, format!("{}; {fix}", error.detail)).retry_after(5)
}

fn refusal_error(
    error: &CloudflareError,
    (status, said): (u16, &str),
    after: Option<u32>,
    right: Right,
) -> Error {
    let told = format!("Cloudflare answered {status}: {said}");
    if status == 429 || error.has(&BUSY) {
        let text = "Cloudflare takes no more calls of this user now: it allows 1,200 in five minutes, over all tokens \
                    and the dashboard";
        return Error::new(Code::CloudflareBusy, text).retry_after(after.unwrap_or(BLOCK).max(1));
    }
    if error.has(&UNROUTED) {
        return Error::new(Code::CloudflareError, format!("{told}; are CF_ACCOUNT_ID and CF_ZONE_ID right?"));
    }
    if status == 401 || error.has(&UNAUTHORIZED) {
        let text = format!("{told}; check CF_API_TOKEN, and whether it has expired");
        return Error::new(Code::CloudflareUnauthorized, text);
    }
    if status == 403 || error.has(&FORBIDDEN) {
        let needed = right.name();
        let text =
            format!("{told}; the token needs {needed}; or it has expired, or is for another account or zone");
        return Error::new(Code::CloudflareForbidden, text).member("permission", needed);
    }
    Error::new(Code::CloudflareError, told)
}
