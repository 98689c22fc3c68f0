//! The time to live of a sandbox: one rule, which reads, lists, quotas, power calls and the sweep all follow
//! (rule S5.2).
//!
//! A sandbox has a span, the last `ttlSeconds` that was given, and an expiry.
//!
//! - While it runs, its expiry ends it: it is deleted, stopped or paused.
//! - While it is stopped or paused it is kept until the later of its expiry and
//!   the moment of stopping + `EDGE_STOPPED_MAX_SECONDS`. That is no running time.
//! - Start and resume give the span again, and never less than was left when it
//!   was stopped, up to `EDGE_MAX_TTL_SECONDS` from now.

use super::quota::Limits;
use crate::error::Error;

const DEFAULT_TTL: u32 = 3600;

/// About 30 years: further away is a mistake, or `null`.
const LONGEST_TTL: u64 = 1_000_000_000;

/// Seconds that a sandbox lives, in the contract.
#[cfg(feature = "contract")]
pub struct TtlSeconds;

#[cfg(feature = "contract")]
schema!(TtlSeconds {
    "type": "integer",
    "description": "The span of its time, from now on: kept, and given again by start, resume and extend. null = never, where the deployment has no maximum.",
    "minimum": 1,
    "maximum": LONGEST_TTL
});

/// Time to live of a sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ttl(Option<u32>);

impl Ttl {
    /// The time to live of a sandbox that was asked for without one: an hour, or less where the deployment allows less.
    pub fn default(limits: &Limits) -> Self {
        Self(Some(limits.max_ttl_seconds.map_or(DEFAULT_TTL, |most| most.min(DEFAULT_TTL))))
    }

    /// Parses seconds, or `None` for no expiry, within the deployment's limits.
    pub fn parse(seconds: Option<u64>, limits: &Limits) -> Result<Self, Error> {
        let most = limits.max_ttl_seconds;
        match (seconds, most) {
            (Some(0), _) => Err(Error::field("ttlSeconds", "must be at least 1; DELETE ends a sandbox")),
            (Some(it), Some(most)) if it > u64::from(most) => {
                Err(Error::field("ttlSeconds", format!("this deployment allows at most {most}")))
            }
            (None, Some(most)) => Err(Error::field(
                "ttlSeconds",
                format!("this deployment lets no sandbox live for ever; at most {most}"),
            )),
            (Some(it), None) if it > LONGEST_TTL => {
                Err(Error::field("ttlSeconds", format!("must be at most {LONGEST_TTL}, or null for ever")))
            }
            (Some(it), _) => Ok(Self(u32::try_from(it).ok())),
            (None, None) => Ok(Self(None)),
        }
    }

    /// The time to live that a mark or a record keeps; `None` for no expiry.
    pub fn of(seconds: Option<u32>) -> Self {
        Self(seconds)
    }

    /// Seconds of the time to live; `None` for no expiry.
    pub fn seconds(&self) -> Option<u32> {
        self.0
    }

    /// Expiry of a time to live that begins `now`, in Unix seconds.
    pub fn after(&self, now: i64) -> Option<i64> {
        self.0.map(|seconds| now + i64::from(seconds))
    }
}

/// Expiry that a start or resume gives, in Unix seconds: `now` and the longer of the span and the seconds that were `left`
/// (`None`: no expiry), up to the deployment's maximum.
pub fn expiry_after_start(span: Ttl, left: Option<i64>, now: i64, limits: &Limits) -> Option<i64> {
    let given = span.seconds().map(i64::from).zip(left).map(|(span, left)| span.max(left));
    cap_ttl(given, limits).map(|it| now.saturating_add(it))
}

/// Expiry that an extension by the span gives, in Unix seconds; never earlier than the present one.
pub fn expiry_after_extension(span: Ttl, expires: Option<i64>, now: i64, limits: &Limits) -> Option<i64> {
    let again = cap_ttl(span.seconds().map(i64::from), limits).map(|it| now + it);
    again.zip(expires).map(|(again, expires)| again.max(expires))
}

/// Caps seconds at the deployment's maximum.
pub fn cap_seconds(seconds: i64, limits: &Limits) -> i64 {
    limits.max_ttl_seconds.map_or(seconds, |most| seconds.min(i64::from(most)))
}

/// Caps seconds, where `None` is no expiry, at the deployment's maximum.
pub(crate) fn cap_ttl(seconds: Option<i64>, limits: &Limits) -> Option<i64> {
    let most = limits.max_ttl_seconds.map(i64::from);
    match (seconds, most) {
        (Some(seconds), Some(most)) => Some(seconds.min(most)),
        (seconds, most) => seconds.or(most),
    }
}
