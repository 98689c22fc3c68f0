//! How a sandbox stands with its time, by its mark.

use time::OffsetDateTime;

use super::{Mark, Phase, Want};
use crate::sandbox::{
    OnExpiry,
    lifetime::{Ttl, cap_ttl, expiry_after_extension, expiry_after_start},
    quota::Limits,
};

/// How a sandbox stands with its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Time {
    /// Its time is not up: it may run, or it is kept while it is stopped.
    Left,
    /// Its expiry has come: it is stopped or paused, or shall be, and is kept.
    Up,
    /// Its time is over: it is to be deleted, and is 404 for everybody.
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
pub fn start(mark: &mut Mark, said: Option<Ttl>, now: i64, limits: &Limits) {
    let span = said.unwrap_or_else(|| span(mark, limits));
    mark.expires = expiry_after_start(span, left(mark, now), now, limits);
    mark.span = span.seconds();
    mark.left = None;
}

/// Gives the span again, where nothing is said, and never less than there is; else what is said.
pub fn extend(mark: &mut Mark, said: Option<Ttl>, now: i64, limits: &Limits) {
    let Some(ttl) = said else {
        let span = span(mark, limits);
        let again = cap_ttl(span.seconds().map(i64::from), limits);
        let longer = again.zip(left(mark, now)).map(|(again, left)| again.max(left));
        mark.left = longer.filter(|_| stopped_at(mark).is_some());
        mark.expires = expiry_after_extension(span, mark.expires, now, limits);
        return;
    };
    give(mark, ttl, now);
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
fn span(mark: &Mark, limits: &Limits) -> Ttl {
    match (mark.span, mark.expires) {
        (None, Some(_)) => Ttl::default(limits),
        (span, _) => Ttl::of(span),
    }
}
