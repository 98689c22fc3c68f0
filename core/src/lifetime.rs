//! The time to live of a sandbox: one rule, which reads, lists, quotas, power
//! calls and the sweep all follow.
//!
//! A sandbox has a span, the last `ttlSeconds` that was given, and an expiry.
//!
//! - While it runs, its expiry ends it: it is deleted, stopped or paused.
//! - While it is stopped or paused it is kept until the later of its expiry and
//!   the moment of stopping + `EDGE_STOPPED_MAX_SECONDS`. That is no running time.
//! - Start and resume give the span again, and never less than was left when it
//!   was stopped, up to `EDGE_MAX_TTL_SECONDS` from now.

use time::OffsetDateTime;

use crate::{
    marks::{Mark, OnExpiry, Phase, Want},
    request::Ttl,
    settings::Settings,
};

/// How a sandbox stands with its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Time {
    /// It may run, or it is kept while it is stopped.
    Left,
    /// Its expiry has come: it is stopped or paused, or shall be, and is kept.
    Up,
    /// It is to be deleted, and is there for nobody any more.
    Over,
}

/// How the sandbox of this mark stands with its time; `kept` is `EDGE_STOPPED_MAX_SECONDS`.
pub fn time(mark: &Mark, now: OffsetDateTime, kept: u32) -> Time {
    match ends(mark, kept) {
        Some(end) if end <= now.unix_timestamp() => Time::Over,
        _ if mark.is_expired(now) => Time::Up,
        _ => Time::Left,
    }
}

/// From when on it is there for nobody, if ever, as long as nobody changes it.
pub fn ends(mark: &Mark, kept: u32) -> Option<i64> {
    let expires = mark.expires?;
    let kept = i64::from(kept);
    Some(match (mark.on_expiry, stopped_at(mark)) {
        (_, Some(at)) => expires.max(at.saturating_add(kept)),
        // Nothing was ever in what is half made.
        _ if mark.phase == Phase::Claimed => expires,
        (OnExpiry::Delete, None) => expires,
        (OnExpiry::Stop | OnExpiry::Pause, None) => expires.saturating_add(kept),
    })
}

/// When it was stopped or paused, if it is that. What has failed is neither.
pub fn stopped_at(mark: &Mark) -> Option<i64> {
    let is_stopped = matches!(mark.want, Want::Off | Want::Paused) && mark.phase != Phase::Error;
    is_stopped.then(|| mark.changed.unwrap_or_else(|| mark.birth().unix_timestamp()))
}

/// Gives a sandbox its time again because it is started or resumed; `said` is what its owner gives it.
pub fn start(mark: &mut Mark, said: Option<Ttl>, now: i64, settings: &Settings) {
    let span = said.unwrap_or_else(|| span(mark, settings));
    mark.expires = resumed(span, left(mark, now), now, settings);
    mark.span = span.seconds();
    mark.left = None;
}

/// The expiry at a start: the later of the span and what was `left` (`None`: all the time there
/// is), up to the deployment's maximum.
pub fn resumed(span: Ttl, left: Option<i64>, now: i64, settings: &Settings) -> Option<i64> {
    let given = span.seconds().map(i64::from).zip(left).map(|(span, left)| span.max(left));
    capped(given, settings).map(|it| now.saturating_add(it))
}

/// Gives the span again, where nothing is said, and never less than there is; else what is said.
pub fn extend(mark: &mut Mark, said: Option<Ttl>, now: i64, settings: &Settings) {
    let Some(ttl) = said else {
        let span = span(mark, settings);
        let again = capped(span.seconds().map(i64::from), settings);
        let longer = again.zip(left(mark, now)).map(|(again, left)| again.max(left));
        mark.left = longer.filter(|_| stopped_at(mark).is_some());
        mark.expires = extended(span, mark.expires, now, settings);
        return;
    };
    give(mark, ttl, now);
}

/// The expiry when the span is given again.
pub fn extended(span: Ttl, expires: Option<i64>, now: i64, settings: &Settings) -> Option<i64> {
    let again = capped(span.seconds().map(i64::from), settings).map(|it| now + it);
    again.zip(expires).map(|(again, expires)| again.max(expires))
}

/// Sets span and expiry, shorter too.
pub fn give(mark: &mut Mark, ttl: Ttl, now: i64) {
    mark.span = ttl.seconds();
    mark.expires = ttl.after(now);
    // No running time passes while it is stopped.
    mark.left = ttl.seconds().map(i64::from).filter(|_| stopped_at(mark).is_some());
}

/// Seconds that a sandbox has left, or had when it was stopped; `None` where it never expires.
fn left(mark: &Mark, now: i64) -> Option<i64> {
    let expires = mark.expires?;
    Some(match stopped_at(mark) {
        Some(at) => mark.left.unwrap_or(expires.saturating_sub(at)).max(0),
        None => expires.saturating_sub(now).max(0),
    })
}

/// Notes that an admin has emptied tell no span: then it is what is given where nobody says.
fn span(mark: &Mark, settings: &Settings) -> Ttl {
    match (mark.span, mark.expires) {
        (None, Some(_)) => Ttl::default(settings),
        (span, _) => Ttl::of(span),
    }
}

/// Seconds of life that may be given at once.
pub fn at_most(seconds: i64, settings: &Settings) -> i64 {
    settings.limits.max_ttl_seconds.map_or(seconds, |most| seconds.min(i64::from(most)))
}

fn capped(seconds: Option<i64>, settings: &Settings) -> Option<i64> {
    let most = settings.limits.max_ttl_seconds.map(i64::from);
    match (seconds, most) {
        (Some(seconds), Some(most)) => Some(seconds.min(most)),
        (seconds, most) => seconds.or(most),
    }
}
