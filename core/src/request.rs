//! Reading requests: JSON bodies, and the fields that more than one of them has.

use std::collections::BTreeMap;

use http::{HeaderMap, header};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error as _},
};
use serde_json::Value;

use crate::{
    error::{Code, Error},
    json::{self, Unread},
    morph::RESERVED,
    preset::Provider,
    settings::Settings,
};

const METADATA_ENTRIES: usize = 64;
const METADATA_KEY: usize = 128;
const METADATA_BYTES: usize = 4096;
const NAME: usize = 64;
const DEFAULT_TTL: u32 = 3600;
/// About 30 years: further away is a mistake, or `null`.
const LONGEST_TTL: u64 = 1_000_000_000;

/// A JSON body, or the field that is wrong with it.
pub fn json<T: DeserializeOwned>(headers: &HeaderMap, body: &[u8]) -> Result<T, Error> {
    of(value(headers, body)?)
}

/// What a JSON body asks for, or the field that is wrong with it.
pub fn of<T: DeserializeOwned>(value: Value) -> Result<T, Error> {
    json::read(value).map_err(wrong)
}

fn wrong(wrong: json::Wrong) -> Error {
    let (field, fix) = wrong.into_parts();
    Error::field(if field.is_empty() { "body".into() } else { field }, fix)
}

/// A JSON body.
pub fn value(headers: &HeaderMap, body: &[u8]) -> Result<Value, Error> {
    let kind = headers.get(header::CONTENT_TYPE).map(|it| it.to_str().unwrap_or_default());
    let is_json = kind.is_none_or(|it| {
        let it = it.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        it == "application/json" || it.ends_with("+json")
    });
    if !is_json && !body.is_empty() {
        let text = "send the body as application/json";
        return Err(Error::new(Code::UnsupportedMediaType, text));
    }
    if !is_plain(headers) {
        let text = "send the body as it is, without Content-Encoding";
        return Err(Error::new(Code::UnsupportedMediaType, text));
    }
    let body = if body.iter().all(u8::is_ascii_whitespace) { b"{}" } else { body };
    json::parse(body).map_err(|unread| match unread {
        Unread::Twice(twice) => wrong(twice),
        Unread::Syntax(error) => Error::new(Code::InvalidJson, format!("the body is not JSON: {error}")),
    })
}

/// Whether no coding was applied to the body (RFC 9110, 8.4).
fn is_plain(headers: &HeaderMap) -> bool {
    let codings = headers.get_all(header::CONTENT_ENCODING).iter();
    let mut codings =
        codings.flat_map(|it| it.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    codings.all(|it| it.is_empty() || it.eq_ignore_ascii_case(b"identity"))
}

/// Tells a field that is `null` from one that is absent.
pub fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::<T>::deserialize(deserializer).map(Some)
}

/// As [`present`], of seconds that `null` makes endless.
pub fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<u64>>, D::Error> {
    present(deserializer)
        .map_err(|_| D::Error::custom("must be a whole number of seconds, at least 1, or null"))
}

/// How long a sandbox lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ttl(Option<u32>);

impl Ttl {
    /// What was not said: an hour, or less where the deployment allows only that.
    pub fn default(settings: &Settings) -> Self {
        Self(Some(settings.limits.max_ttl_seconds.map_or(DEFAULT_TTL, |most| most.min(DEFAULT_TTL))))
    }

    /// Seconds, or `None` = never; as the deployment allows.
    pub fn parse(seconds: Option<u64>, settings: &Settings) -> Result<Self, Error> {
        let most = settings.limits.max_ttl_seconds;
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

    /// Seconds that were given before; `None` = never.
    pub fn of(seconds: Option<u32>) -> Self {
        Self(seconds)
    }

    /// Seconds; `None` = never.
    pub fn seconds(&self) -> Option<u32> {
        self.0
    }

    /// The expiry when it begins now.
    pub fn after(&self, now: i64) -> Option<i64> {
        self.0.map(|seconds| now + i64::from(seconds))
    }
}

/// Bounds of metadata.
pub struct Metadata;

impl Metadata {
    /// Refuses what is too much for a guest's description.
    pub fn check(metadata: &BTreeMap<String, String>) -> Result<(), Error> {
        let mut errors = Vec::new();
        if metadata.len() > METADATA_ENTRIES {
            errors.push(("metadata".to_owned(), format!("at most {METADATA_ENTRIES} entries")));
        }
        errors.extend(key_error(metadata.keys()));
        let bytes = serde_json::to_string(metadata).map_or(0, |it| it.len());
        if bytes > METADATA_BYTES {
            let text =
                format!("{bytes} bytes as JSON, and a guest's description has room for {METADATA_BYTES}");
            errors.push(("metadata".to_owned(), text));
        }
        if errors.is_empty() { Ok(()) } else { Err(Error::fields(errors)) }
    }
}

/// What is wrong with keys of metadata.
pub fn key_error<'a>(mut keys: impl Iterator<Item = &'a String>) -> Option<(String, String)> {
    let bad = keys.any(|it| it.is_empty() || it.chars().count() > METADATA_KEY);
    bad.then(|| ("metadata".to_owned(), format!("keys have 1 to {METADATA_KEY} characters")))
}

/// What is wrong with cores, MiB of memory and GiB of disk.
pub fn size_errors(cpu: Option<u32>, memory: Option<u32>, disk: Option<u32>) -> Vec<(String, String)> {
    let bounds = [
        ("cpu", cpu, 1..=512, "1 to 512 cores"),
        ("memory", memory, 64..=4_194_304, "64 to 4194304 MiB"),
        ("disk", disk, 1..=16_384, "1 to 16384 GiB"),
    ];
    let wrong =
        bounds.into_iter().filter(|(_, asked, range, _)| asked.is_some_and(|it| !range.contains(&it)));
    wrong.map(|(field, _, _, fix)| (field.to_owned(), fix.to_owned())).collect()
}

/// What is wrong with keys of metadata that Morph's machines carry beside ours.
pub fn reserved<'a>(
    mut keys: impl Iterator<Item = &'a String>,
    settings: &Settings,
) -> Option<(String, String)> {
    let ours = keys.find(|it| settings.provider == Provider::Morph && it.starts_with(RESERVED))?;
    Some((format!("metadata.{ours}"), format!("keys that begin with {RESERVED} are pve-edge's own")))
}

/// What is wrong with a name.
pub fn name_errors(name: &str) -> Vec<(String, String)> {
    let length = name.chars().count();
    let fine = (1..=NAME).contains(&length) && !name.chars().any(char::is_control);
    if fine {
        Vec::new()
    } else {
        vec![("name".to_owned(), format!("1 to {NAME} characters, none of them a control character"))]
    }
}
