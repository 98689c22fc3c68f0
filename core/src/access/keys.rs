//! API keys, and the callers that they identify: a team, or an admin.

use std::{fmt, str::FromStr};

use http::{HeaderMap, header};
use sha2::{Digest, Sha256};

use super::secret::constant_time_eq;
use crate::{
    error::{Code, Error},
    io::headers::API_KEY,
};

/// Name of a team or a deployment, such as `team-a`: short enough for a tag of PVE, and without special characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Label(String);

impl Label {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::ops::Deref for Label {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Label {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_allowed = |it: u8| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'-';
        let ends_are_plain = !text.starts_with('-') && !text.ends_with('-');
        if (1..=16).contains(&text.len()) && text.bytes().all(is_allowed) && ends_are_plain {
            Ok(Self(text.to_owned()))
        } else {
            Err("1 to 16 of a-z, 0-9 and -, not at its ends")
        }
    }
}

/// Caller of the API, identified by a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Team whose sandboxes the caller sees and makes.
    pub team: Label,
    /// Whether the caller sees the sandboxes of all teams, and may do what only admins may.
    pub admin: bool,
}

impl Caller {
    /// Decides whether the caller may see an object of `team` in `deployment`; `here` is the deployment that is asked.
    /// No other place decides that.
    pub fn may_see(&self, here: &str, (deployment, team): (&str, &str)) -> bool {
        deployment == here && (self.admin || self.team.as_str() == team)
    }

    /// Refuses a caller who is no admin; `why` says why only admins may.
    pub fn ensure_admin(&self, why: &str) -> Result<(), Error> {
        match self.admin {
            true => Ok(()),
            false => Err(Error::new(Code::Forbidden, format!("{why}: use an admin's key"))),
        }
    }
}

/// The API keys of a deployment, from `EDGE_API_KEYS`: the hash of each, and its caller.
#[derive(Clone)]
pub struct ApiKeys(Vec<([u8; 32], Caller)>);

impl fmt::Debug for ApiKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} keys", self.0.len())
    }
}

impl ApiKeys {
    /// Parses entries `team:sha256-hex-of-key` or `team:sha256-hex-of-key:admin`, separated by spaces or commas.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut keys = Vec::new();
        for (at, entry) in text.split([' ', ',', '\n', '\t']).filter(|it| !it.is_empty()).enumerate() {
            let wrong = |why: &str| {
                format!(
                    "entry {}: {why}; an entry is TEAM:SHA256-HEX-OF-KEY, with :admin after it for admins",
                    at + 1
                )
            };
            let mut parts = entry.split(':');
            let team = parts
                .next()
                .unwrap_or_default()
                .parse()
                .map_err(|why| wrong(&format!("a team has {why}")))?;
            let hash = parts.next().and_then(|it| hex::decode(it).ok());
            let hash =
                hash.and_then(|it| it.try_into().ok()).ok_or_else(|| wrong("64 hex digits are missing"))?;
            let admin = match parts.next() {
                None => false,
                Some("admin") => true,
                Some(_) => return Err(wrong("only `admin` may follow the hash")),
            };
            if let Some(first) = keys.iter().position(|(known, _)| *known == hash) {
                let text =
                    format!("the same hash as entry {}: a key is one team's, and is listed once", first + 1);
                return Err(wrong(&text));
            }
            keys.push((hash, Caller { team, admin }));
        }
        if keys.is_empty() { Err("has no entry".into()) } else { Ok(Self(keys)) }
    }

    /// Finds the caller whose key a request presents, by `Authorization: Bearer KEY` or `X-API-Key: KEY`.
    pub fn authenticate(&self, headers: &HeaderMap) -> Option<Caller> {
        self.caller(presented_key(headers)?)
    }

    /// Finds the caller whose key this is.
    pub fn caller(&self, key: &str) -> Option<Caller> {
        let hash: [u8; 32] = Sha256::digest(key.as_bytes()).into();
        // All keys are compared, so that the time that this takes tells nothing of the one that fits.
        let mut found = None;
        for (known, caller) in &self.0 {
            if constant_time_eq(known, &hash) {
                found = Some(caller);
            }
        }
        found.cloned()
    }
}

fn presented_key(headers: &HeaderMap) -> Option<&str> {
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let (scheme, key) = value.to_str().ok()?.split_once(' ')?;
        return scheme.eq_ignore_ascii_case("bearer").then(|| key.trim());
    }
    headers.get(API_KEY)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";

    #[test]
    fn a_key_names_its_team() {
        let keys = ApiKeys::parse(&format!("blue:{HASH}:admin")).unwrap();
        let ask = |name: &'static str, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            keys.authenticate(&headers)
        };
        let blue = Some(Caller { team: "blue".parse().unwrap(), admin: true });
        assert_eq!(ask("authorization", "Bearer secret"), blue);
        assert_eq!(ask("authorization", "bearer secret"), blue);
        assert_eq!(ask("x-api-key", "secret"), blue);
        assert_eq!(ask("authorization", "Bearer Secret"), None);
        assert_eq!(ask("authorization", "Basic secret"), None);
        assert_eq!(ask("x-other", "secret"), None);
    }

    #[test]
    fn wrong_entries_say_which_and_how() {
        for (text, why) in [
            ("", "has no entry"),
            ("blue", "entry 1: 64 hex digits are missing"),
            ("Blue:00", "entry 1: a team has"),
            (&*format!("blue:{HASH} red:12"), "entry 2: 64 hex digits"),
            (&*format!("blue:{HASH}:root"), "entry 1: only `admin`"),
            (&*format!("blue:{HASH} red:{HASH}"), "entry 2: the same hash as entry 1"),
            (
                &*format!("blue:{HASH},blue:{}:admin", HASH.to_uppercase()),
                "entry 2: the same hash as entry 1",
            ),
        ] {
            let said = ApiKeys::parse(text).unwrap_err();
            assert!(said.contains(why) && !said.contains("2bb80d"), "{said}");
        }
    }
}
