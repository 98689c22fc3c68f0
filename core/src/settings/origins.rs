//! Origins whose pages may use the API, from `EDGE_CORS_ORIGINS`.

use super::values::{Scheme, origin};

/// Name of the setting.
pub(super) const NAME: &str = "EDGE_CORS_ORIGINS";

/// Origins whose pages may use the API, as browsers name them; or all origins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins(Vec<String>);

impl Origins {
    /// Reads the setting by itself, whatever is wrong with other settings; no origins where it is wrong itself.
    pub(super) fn read(pairs: &[(String, String)]) -> Self {
        let set = pairs.iter().rev().map(|(name, value)| (name, value.trim()));
        let set = set.filter(|(name, value)| *name == NAME && !value.is_empty()).map(|(_, value)| value);
        set.take(1).find_map(|it| Self::parse(it).ok()).unwrap_or_default()
    }

    /// Parses origins that are separated by spaces or commas; `*` alone stands for all.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self(vec![text.to_owned()]));
        }
        let entries = text.split([' ', ',', '\n', '\t']).filter(|it| !it.is_empty());
        let parsed = entries.enumerate().map(|(at, entry)| {
            let wrong = |why| format!("entry {}: {why}; or * alone, for every origin", at + 1);
            origin(&entry.to_ascii_lowercase(), Scheme::Any)
                .map(|it| without_default_port(&it))
                .map_err(wrong)
        });
        parsed.collect::<Result<_, _>>().map(Self)
    }

    /// Whether pages of no other origin may use the API.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether pages of all origins may use the API.
    pub(crate) fn are_all(&self) -> bool {
        self.0.iter().any(|it| it == "*")
    }

    /// Whether pages of this origin may use the API.
    pub(crate) fn has(&self, origin: &str) -> bool {
        self.are_all() || self.0.iter().any(|it| it == origin)
    }
}

/// An origin without the default port of its scheme, which browsers leave out.
fn without_default_port(origin: &str) -> String {
    let usual = [("https://", ":443"), ("http://", ":80")];
    let port = usual.iter().find(|(scheme, _)| origin.starts_with(scheme)).map_or("", |(_, port)| port);
    origin.strip_suffix(port).unwrap_or(origin).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_what_browsers_send() {
        let origins =
            Origins::parse("https://App.example.com, http://localhost:3000 https://x.test:443").unwrap();
        for (origin, has) in [
            ("https://app.example.com", true),
            ("http://localhost:3000", true),
            ("https://x.test", true),
            ("http://app.example.com", false),
            ("https://app.example.com.evil.test", false),
            ("https://app.example.com:8443", false),
            ("null", false),
            ("", false),
        ] {
            assert_eq!(origins.has(origin), has, "{origin}");
        }
        assert!(Origins::parse("*").unwrap().has("null") && !origins.are_all());
        for wrong in ["app.example.com", "https://a.test/path", "https://a.test *", "https://a.test:99999"] {
            assert!(Origins::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn they_are_read_by_themselves() {
        let pairs =
            |values: &[&str]| values.iter().map(|it| (NAME.to_owned(), (*it).to_owned())).collect::<Vec<_>>();
        assert!(Origins::read(&pairs(&["https://a.test", " https://b.test "])).has("https://b.test"));
        assert!(Origins::read(&pairs(&["nonsense"])).is_empty() && Origins::read(&[]).is_empty());
    }
}
