//! The header `Prefer` (RFC 7240), which says how long an answer may take.

use std::time::Duration;

use http::HeaderMap;

use crate::io::{Platform, headers::PREFER};

/// Longest wait in seconds.
const LONGEST_WAIT: u64 = 25;

/// Reads the wait that `Prefer` asks for: `wait=N` in seconds, at most 25, or no wait with `respond-async`. A preference
/// that cannot be read counts as absent (section 2).
pub(super) fn wait(headers: &HeaderMap) -> Option<Duration> {
    let preferences = preferences(headers);
    let wait = find_value(&preferences, "wait").and_then(seconds);
    wait.or_else(|| find_value(&preferences, "respond-async").map(|_| 0)).map(Duration::from_secs)
}

/// Value of `Preference-Applied`: the wait that is given, which the platform may shorten.
pub(super) fn applied(headers: &HeaderMap, platform: &Platform) -> Option<String> {
    let preferences = preferences(headers);
    match (find_value(&preferences, "wait").and_then(seconds), find_value(&preferences, "respond-async")) {
        (Some(wait), _) => Some(format!("wait={}", wait.min(platform.max_wait.as_secs()))),
        (None, Some(_)) => Some("respond-async".to_owned()),
        (None, None) => None,
    }
}

/// Names and values of all preferences.
fn preferences(headers: &HeaderMap) -> Vec<(&str, &str)> {
    let values = headers.get_all(PREFER).iter().filter_map(|it| it.to_str().ok());
    values.flat_map(|it| split(it, ',')).map(preference).collect()
}

/// Value of a preference; of several of one name the first counts.
fn find_value<'a>(preferences: &[(&'a str, &'a str)], wanted: &str) -> Option<&'a str> {
    preferences.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| *value)
}

/// Name and value of a preference, without the parameters behind them.
fn preference(text: &str) -> (&str, &str) {
    let text = split(text, ';').next().unwrap_or_default();
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    (name.trim(), value.trim())
}

/// Parses seconds; more than a number can hold count as the longest wait.
fn seconds(value: &str) -> Option<u64> {
    let digits = value.strip_prefix('"').and_then(|it| it.strip_suffix('"')).unwrap_or(value);
    let is_number = !digits.is_empty() && digits.bytes().all(|it| it.is_ascii_digit());
    is_number.then(|| digits.parse().unwrap_or(u64::MAX).min(LONGEST_WAIT))
}

/// Parts of a list, in whose quoted texts the separator may stand.
fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |it| {
        quoted ^= it == '"' && !escaped;
        escaped = quoted && !escaped && it == '\\';
        it == separator && !quoted
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn what_cannot_be_read_is_ignored_and_too_long_is_cut() {
        for (values, seconds) in [
            (&[][..], None),
            (&["wait=7"], Some(7)),
            (&["wait=0"], Some(0)),
            (&["wait=25"], Some(25)),
            (&["wait=26"], Some(25)),
            (&["wait=99999999999999999999999"], Some(25)),
            (&["WAIT = \"7\" ; x=1"], Some(7)),
            (&["return=minimal, wait=7"], Some(7)),
            (&["return=minimal", "wait=7"], Some(7)),
            (&["wait=7, wait=9"], Some(7)),
            (&["wait=7", "wait=9"], Some(7)),
            (&["respond-async"], Some(0)),
            (&["Respond-Async; wait=7"], Some(0)),
            (&["respond-async, wait=7"], Some(7)),
            (&["wait=soon, respond-async"], Some(0)),
            // What stands in quotes, or behind a semicolon, is no preference.
            (&["x=\"a, wait=7\""], None),
            (&["x=\"a\\\", wait=7\", wait=9"], Some(9)),
            (&["x; wait=7"], None),
            (&["wait"], None),
            (&["wait="], None),
            (&["wait=soon"], None),
            (&["wait=-1"], None),
            (&["wait=+7"], None),
            (&["wait=1.5"], None),
            (&["\u{fc}"], None),
            (&["wait=\"7"], None),
        ] {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(PREFER, HeaderValue::from_bytes(value.as_bytes()).unwrap());
            }
            assert_eq!(wait(&headers), seconds.map(Duration::from_secs), "{values:?}");
        }
    }
}
