//! What a request says: headers, query and body.

use std::{collections::BTreeMap, time::Duration};

use http::{
    HeaderMap, Request,
    header::{ACCEPT, HOST, IF_MATCH},
    request::Parts,
    uri::Authority,
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::{body, prefer::wait, routes::Route};
use crate::{
    access::keys::Caller,
    error::Error,
    io::headers::IDEMPOTENCY_KEY,
    sandbox::{lifetime::Ttl, listing::Filter, quota::Limits},
};

/// How long a creation waits when nobody says.
pub(super) const CREATE_WAIT: Duration = Duration::from_secs(20);
/// How long a change waits for the end of a snapshot when nobody says.
pub(super) const CHANGE_WAIT: Duration = Duration::from_secs(5);
/// How long a deletion waits when nobody says.
pub(super) const DELETE_WAIT: Duration = Duration::from_secs(10);

/// A request of the native API, with its caller and its route.
pub(super) struct ApiRequest<'a> {
    pub(super) caller: &'a Caller,
    pub(super) route: &'a Route,
    pub(super) query: &'a Query,
    pub(super) request: &'a Request<Vec<u8>>,
}

impl<'a> ApiRequest<'a> {
    /// The body, read as a `T`.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        body::json(self.request.headers(), self.request.body())
    }

    /// The body as a JSON value.
    pub(super) fn json_value(&self) -> Result<Value, Error> {
        body::parse(self.request.headers(), self.request.body())
    }

    pub(super) fn idempotency_key(&self) -> Result<Option<&'a str>, Error> {
        idempotency_key(self.request.headers())
    }

    /// How long it may take, as it says itself.
    pub(super) fn wait(&self) -> Option<Duration> {
        wait(self.request.headers())
    }

    /// How long it may take: as it says itself, or `otherwise`.
    pub(super) fn wait_or(&self, otherwise: Duration) -> Duration {
        self.wait().unwrap_or(otherwise)
    }

    /// The id that the path names, as it was spelled.
    pub(super) fn id(&self) -> &'a str {
        &self.route.id
    }

    pub(super) fn if_match(&self) -> Option<String> {
        if_match(self.request.headers())
    }
}

/// A sweep to do.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(super) struct SweepBody {
    /// Only look; false by default.
    pub(super) dry_run: bool,
}

/// The time to give to a sandbox.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(super) struct ExtendBody {
    /// The new span of its time; without it the span again, and never less than it has.
    #[cfg_attr(feature = "contract", schemars(with = "Option<crate::sandbox::lifetime::TtlSeconds>"))]
    #[serde(deserialize_with = "crate::sandbox::fields::seconds")]
    ttl_seconds: Option<Option<u64>>,
}

impl ExtendBody {
    /// What is said, if anything is.
    pub(super) fn ttl(&self, limits: &Limits) -> Result<Option<Ttl>, Error> {
        self.ttl_seconds.map(|it| Ttl::parse(it, limits)).transpose()
    }
}

/// URL below which a client has found the API's paths, without a slash at the end; `None` if its request tells no host.
/// What is told of it goes into answers: it is proved to be a scheme and an authority and nothing else.
pub(super) fn asked_at(parts: &Parts, mount: &str) -> Option<String> {
    let header = |name| parts.headers.get(name).and_then(|it| it.to_str().ok());
    let scheme = parts.uri.scheme_str().or_else(|| header("x-forwarded-proto"));
    let scheme = scheme.filter(|it| *it == "https").unwrap_or("http");
    let host = parts.uri.authority().map(Authority::as_str).or_else(|| header(HOST.as_str()))?;
    let is_host = |it: u8| it.is_ascii_alphanumeric() || b".-_:[]".contains(&it);
    let is_authority = host.bytes().all(is_host) && host.parse::<Authority>().is_ok();
    is_authority.then(|| format!("{scheme}://{host}{mount}"))
}

pub(super) fn wants_events(headers: &HeaderMap) -> bool {
    accepts(headers, "text/event-stream")
}

/// Whether a client names a media type among those that it takes (RFC 9110, 12.5.1).
pub(super) fn accepts(headers: &HeaderMap, media: &str) -> bool {
    let accept = headers.get_all(ACCEPT).iter().filter_map(|it| it.to_str().ok());
    accept.flat_map(|it| it.split(',')).any(|range| {
        let mut parts = range.split(';').map(str::trim);
        let is_named = parts.next().is_some_and(|it| it.eq_ignore_ascii_case(media));
        let weight = parts.find_map(|it| it.strip_prefix("q=").or_else(|| it.strip_prefix("Q=")));
        is_named && weight.is_none_or(|it| !it.trim_matches(['0', '.']).is_empty())
    })
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, Error> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => match value.to_str() {
            Ok(key) if (1..=255).contains(&key.len()) => Ok(Some(key)),
            _ => Err(Error::field("Idempotency-Key", "1 to 255 visible ASCII characters")),
        },
        // Whichever were taken, a retry through another proxy could take the other.
        _ => Err(Error::field("Idempotency-Key", "must be sent once")),
    }
}

/// All of `If-Match`; what is no text in it matches nothing, and is not as good as absent.
fn if_match(headers: &HeaderMap) -> Option<String> {
    let values: Vec<_> =
        headers.get_all(IF_MATCH).iter().map(|it| String::from_utf8_lossy(it.as_bytes())).collect();
    (!values.is_empty()).then(|| values.join(","))
}

/// The query's parameters; `metadata=KEY=VALUE` is kept as its other spelling, `metadata.KEY=VALUE`.
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn of<B>(request: &Request<B>) -> Self {
        let text = request.uri().query().unwrap_or_default();
        let pairs = form_urlencoded::parse(text.as_bytes()).into_owned();
        Self(pairs.map(|(name, value)| metadata_entry(&name, &value).unwrap_or((name, value))).collect())
    }

    /// Refuses what is not known here, and what is said twice.
    pub(super) fn only(&self, known: &[&str]) -> Result<(), Error> {
        for (at, (name, _)) in self.0.iter().enumerate() {
            let is_entry = name.strip_prefix(METADATA).is_some_and(|it| it.starts_with('.'));
            if !known.contains(&if is_entry { METADATA } else { name }) {
                return Err(Error::field(name, "is not a query parameter of this path"));
            }
            if name == METADATA {
                return Err(Error::field(name, "must be KEY=VALUE"));
            }
            if self.0.iter().take(at).any(|(earlier, _)| earlier == name) {
                return Err(Error::field(name, "must be given once"));
            }
        }
        Ok(())
    }

    /// The value of a parameter.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(it, _)| it == name).map(|(_, value)| &**value)
    }

    /// A parameter that is true or false, and false where it is not given.
    pub(super) fn flag(&self, name: &str) -> Result<bool, Error> {
        match self.get(name) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(Error::field(name, "true or false")),
        }
    }

    pub(super) fn filter(&self) -> Result<Filter, Error> {
        let mut filter = Filter { limit: 100, ..Filter::default() };
        let mut metadata = BTreeMap::new();
        for (name, value) in &self.0 {
            match name.as_str() {
                "state" => filter.state = Some(value.parse().map_err(|fix| Error::field("state", fix))?),
                "limit" => {
                    let limit = value.parse().ok().filter(|it| (1..=5000).contains(it));
                    filter.limit = limit.ok_or_else(|| Error::field("limit", "1 to 5000"))?;
                }
                "cursor" => filter.after = Some(value.clone()),
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

/// The parameter that asks for entries of metadata: `metadata=KEY=VALUE`, as often as there are entries.
const METADATA: &str = "metadata";

/// `metadata.KEY` and VALUE of a parameter `metadata=KEY=VALUE`.
fn metadata_entry(name: &str, value: &str) -> Option<(String, String)> {
    let (key, value) = value.split_once('=').filter(|_| name == METADATA)?;
    Some((format!("{METADATA}.{key}"), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::api::action::Action;

    fn headers(values: &[&'static [u8]], name: &'static str) -> HeaderMap {
        values
            .iter()
            .map(|it| (name.parse().unwrap(), HeaderValue::from_bytes(it).unwrap()))
            .collect::<Vec<_>>()
            .into_iter()
            .fold(HeaderMap::new(), |mut headers, (name, value): (http::HeaderName, _)| {
                headers.append(name, value);
                headers
            })
    }

    #[test]
    fn a_condition_that_is_no_text_is_still_a_condition() {
        assert_eq!(if_match(&headers(&[], "if-match")), None);
        assert_eq!(if_match(&headers(&[b"\"a\"", b"\"b\""], "if-match")).as_deref(), Some("\"a\",\"b\""));
        assert!(if_match(&headers(&[b"\xff"], "if-match")).is_some());
    }

    #[test]
    fn a_key_is_sent_once() {
        let key = |values: &[&'static [u8]]| {
            idempotency_key(&headers(values, "idempotency-key")).map(|it| it.map(str::to_owned)).ok()
        };
        assert_eq!(key(&[]), Some(None));
        assert_eq!(key(&[b"a b"]), Some(Some("a b".into())));
        assert_eq!((key(&[b""]), key(&[b"\xe4"]), key(&[b"a", b"a"])), (None, None, None));
    }

    #[test]
    fn metadata_is_asked_for_in_two_spellings() {
        let asked = |query: &str| {
            let request = Request::get(format!("/?{query}")).body(()).unwrap();
            Query::of(&request).filter().unwrap().metadata
        };
        let expected = BTreeMap::from([("a".to_owned(), "1".to_owned()), ("b".to_owned(), "=2".to_owned())]);
        assert_eq!(asked("metadata.a=1&metadata.b==2"), expected);
        assert_eq!(asked("metadata=a=1&metadata=b==2"), expected);
        assert_eq!(asked("metadata=a%3D1&metadata.b=%3D2"), expected);
    }

    #[test]
    fn a_parameter_is_given_once() {
        let filter = |query: &str| {
            let request = Request::get(format!("/?{query}")).body(()).unwrap();
            let query = Query::of(&request);
            let known = query.only(Action::ListSandboxes.parameters());
            known.and_then(|()| query.filter()).map_err(|it| it.detail().to_owned())
        };
        assert!(filter("limit=1&metadata.a=1&metadata.b=1&state=running&cursor=100").is_ok());
        assert_eq!(filter("limit=1&limit=2").unwrap_err(), "limit: must be given once");
        assert_eq!(filter("metadata.a=1&metadata.a=2").unwrap_err(), "metadata.a: must be given once");
        assert_eq!(filter("metadata=a=1&metadata.a=1").unwrap_err(), "metadata.a: must be given once");
        assert_eq!(filter("metadata=a").unwrap_err(), "metadata: must be KEY=VALUE");
        for bad in ["limit=0", "limit=99999999999999999999", "limit=%00", "state=", "metadata=a", "%FF=1"] {
            assert!(filter(bad).is_err(), "{bad}");
        }
    }
}
