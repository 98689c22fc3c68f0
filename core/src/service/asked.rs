//! What a request asks beside its body: by headers and query.

use std::{collections::BTreeMap, time::Duration};

use http::{HeaderMap, Request};

use crate::{error::Error, read::Filter};

/// The longest that anybody may wait.
const LONGEST_WAIT: u64 = 25;

/// Whether output shall stream.
pub(super) fn wants_events(headers: &HeaderMap) -> bool {
    let accept = headers.get_all("accept").iter().filter_map(|it| it.to_str().ok());
    accept.flat_map(|it| it.split(',')).any(|it| it.trim().starts_with("text/event-stream"))
}

/// `Prefer: wait=N`, in seconds (RFC 7240).
pub(super) fn wait(headers: &HeaderMap) -> Result<Option<Duration>, Error> {
    let prefer = headers.get_all("prefer").iter().filter_map(|it| it.to_str().ok());
    for preference in prefer.flat_map(|it| it.split([',', ';'])) {
        let Some((name, value)) = preference.split_once('=') else { continue };
        if name.trim().eq_ignore_ascii_case("wait") {
            let seconds = value.trim().trim_matches('"').parse::<u64>();
            let fix = || Error::field("Prefer", "wait is a number of seconds, at most 25");
            return Ok(Some(Duration::from_secs(seconds.map_err(|_| fix())?.min(LONGEST_WAIT))));
        }
    }
    Ok(None)
}

/// `Idempotency-Key`
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, Error> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    match value.to_str() {
        Ok(key) if (1..=255).contains(&key.len()) => Ok(Some(key)),
        _ => Err(Error::field("Idempotency-Key", "1 to 255 visible ASCII characters")),
    }
}

/// The query of a path; what a path does not know is refused.
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn of(request: &Request<Vec<u8>>) -> Result<Self, Error> {
        let text = request.uri().query().unwrap_or_default();
        Ok(Self(form_urlencoded::parse(text.as_bytes()).into_owned().collect()))
    }

    pub(super) fn only(&self, known: &[&str]) -> Result<(), Error> {
        let known_name =
            |name: &str| known.contains(&name) || (name.starts_with("metadata.") && !known.is_empty());
        match self.0.iter().find(|(name, _)| !known_name(name)) {
            None => Ok(()),
            Some((name, _)) => Err(Error::field(name, "is not a query parameter of this path")),
        }
    }

    pub(super) fn filter(&self) -> Result<Filter, Error> {
        self.only(&["state", "limit", "cursor"])?;
        let mut filter = Filter { limit: 100, ..Filter::default() };
        let mut metadata = BTreeMap::new();
        for (name, value) in &self.0 {
            match name.as_str() {
                "state" => filter.state = Some(value.parse().map_err(|fix| Error::field("state", fix))?),
                "limit" => {
                    let limit = value.parse().ok().filter(|it| (1..=5000).contains(it));
                    filter.limit = limit.ok_or_else(|| Error::field("limit", "1 to 5000"))?;
                }
                "cursor" => {
                    let fix = "is the nextCursor of an earlier page";
                    filter.after = Some(value.parse().map_err(|_| Error::field("cursor", fix))?);
                }
                _ => {
                    let key = name.strip_prefix("metadata.").unwrap_or_default();
                    metadata.insert(key.to_owned(), value.clone());
                }
            }
        }
        filter.metadata = metadata;
        Ok(filter)
    }
}
