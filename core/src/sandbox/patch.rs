//! Changes of the name, metadata and time of a sandbox or a snapshot.

use std::collections::BTreeMap;

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::{
    OnExpiry,
    fields::{Metadata, key_error, name_errors},
};
use crate::{
    error::{Code, Error},
    text::base32::base32,
};

/// A change of a sandbox or a snapshot, as a JSON merge patch (RFC 7396).
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Patch {
    /// New name; null removes the name.
    #[serde(deserialize_with = "crate::sandbox::fields::present")]
    #[cfg_attr(feature = "contract", schemars(with = "Option<super::fields::Name>"))]
    pub name: Option<Option<String>>,
    /// Seconds from now until the sandbox expires; null: never.
    #[serde(deserialize_with = "crate::sandbox::fields::seconds")]
    #[cfg_attr(feature = "contract", schemars(with = "Option<super::lifetime::TtlSeconds>"))]
    pub ttl_seconds: Option<Option<u64>>,
    /// What happens to the sandbox when it expires.
    pub on_expiry: Option<OnExpiry>,
    /// Changes of the metadata; null removes all metadata, and a key with null removes that key.
    #[serde(deserialize_with = "crate::sandbox::fields::present")]
    #[cfg_attr(feature = "contract", schemars(with = "Option<super::fields::MetadataPatch>"))]
    pub metadata: Option<Option<BTreeMap<String, Option<String>>>>,
}

impl Patch {
    /// Refuses values that a name or metadata cannot have.
    pub fn check(&self) -> Result<(), Error> {
        let mut errors = self.name.iter().flatten().flat_map(|it| name_errors(it)).collect::<Vec<_>>();
        errors.extend(key_error(self.keys()));
        if errors.is_empty() { Ok(()) } else { Err(Error::fields(errors)) }
    }

    /// Checks like [`Patch::check`], and refuses a time, which snapshots do not have.
    pub fn check_timeless(&self) -> Result<(), Error> {
        let timed = [("ttlSeconds", self.ttl_seconds.is_some()), ("onExpiry", self.on_expiry.is_some())];
        match timed.into_iter().find(|(_, given)| *given) {
            Some((field, _)) => Err(Error::field(field, "snapshots do not expire")),
            None => self.check(),
        }
    }

    /// Keys of metadata that the patch sets or removes.
    pub fn keys(&self) -> impl Iterator<Item = &String> {
        self.metadata.iter().flatten().flat_map(BTreeMap::keys)
    }

    /// Applies the patch to a name and metadata.
    pub fn apply(
        &self,
        name: &mut Option<String>,
        metadata: &mut BTreeMap<String, String>,
    ) -> Result<(), Error> {
        if let Some(new) = &self.name {
            name.clone_from(new);
        }
        match &self.metadata {
            None => {}
            Some(None) => metadata.clear(),
            Some(Some(changes)) => {
                for (key, value) in changes {
                    match value {
                        Some(value) => metadata.insert(key.clone(), value.clone()),
                        None => metadata.remove(key),
                    };
                }
            }
        }
        Metadata::check(metadata)
    }
}

/// Refuses a change whose `If-Match` does not name this ETag.
pub fn check_etag(if_match: Option<&str>, etag: &str) -> Result<(), Error> {
    if if_match.is_none_or(|it| it.trim() == "*" || it.split(',').any(|it| it.trim() == etag)) {
        return Ok(());
    }
    let text = "If-Match names another version: read it again";
    Err(Error::new(Code::PreconditionFailed, text).member("etag", etag))
}

/// ETag of a thing that this text describes completely.
pub fn hash_etag(text: &str) -> String {
    let hash = Sha256::digest(text.as_bytes());
    format!("\"{}\"", base32(hash.get(..10).unwrap_or_default()))
}
