//! Origins of pages, as browsers send them.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::sandbox::address::is_dns_name;

/// Origin of a page: scheme, host and port, as a browser's `Origin` has them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Origin(String);

#[cfg(feature = "contract")]
schema!(Origin {
    "type": "string",
    "description": "Origin of a page, as its browser sends it: https://app.example.com, http://localhost:3000.",
    "pattern": "^https?://[a-z0-9.-]+(:[1-9][0-9]{0,4})?$",
    "maxLength": 200
});

impl Origin {
    /// The origin as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Origin {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const BAD: &str = "an origin as browsers send it, such as https://app.example.com";
        let (scheme, authority) = text.split_once("://").ok_or(BAD)?;
        let usual = match scheme {
            "https" => "443",
            "http" => "80",
            _ => return Err(BAD),
        };
        let (host, port) =
            authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port)));
        let is_port = |it: &str| {
            !it.starts_with('0') && it.bytes().all(|it| it.is_ascii_digit()) && it.parse::<u16>().is_ok()
        };
        let is_spelled_so = is_dns_name(host) && host.bytes().all(|it| !it.is_ascii_uppercase());
        let port_is_fine = port.is_none_or(|it| is_port(it) && it != usual);
        if is_spelled_so && port_is_fine && text.len() <= 200 { Ok(Self(text.to_owned())) } else { Err(BAD) }
    }
}

impl TryFrom<String> for Origin {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Origin> for String {
    fn from(origin: Origin) -> Self {
        origin.0
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_has_one_spelling() {
        for right in ["https://app.example.com", "http://localhost:3000", "https://10.0.0.1:8443"] {
            assert_eq!(right.parse::<Origin>().unwrap().as_str(), right);
        }
        for wrong in [
            "*",
            "null",
            "",
            "app.example.com",
            "https://App.example.com",
            "https://app.example.com/",
            "https://app.example.com:443",
            "http://localhost:080",
            "http://localhost:99999",
            "https://a.test b",
            "https://a.test;script-src",
            "https://user@a.test",
            "ftp://a.test",
        ] {
            assert!(wrong.parse::<Origin>().is_err(), "{wrong}");
        }
    }
}
