//! Changing what we keep about a sandbox: expiry, name, metadata.

use std::collections::BTreeMap;

use serde::Deserialize;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use crate::{
    auth::Caller,
    commit::{self, Unwritten},
    edge::Edge,
    error::{Code, Error},
    io::Io,
    lifetime,
    marks::{Mark, OnExpiry},
    nonce::base32,
    place::Place,
    read::{gone, still_there},
    request::{Metadata, Ttl, key_error, name_errors, reserved},
    sandbox::{SandboxId, never_came_up},
    settings::Settings,
    usable::{refuse_condemned, still_creating, unlocked},
};

/// A JSON merge patch (RFC 7396) of a sandbox.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Patch {
    /// `null` removes it.
    #[serde(deserialize_with = "crate::request::present")]
    pub name: Option<Option<String>>,
    /// Counts from now; `null` = never.
    #[serde(deserialize_with = "crate::request::seconds")]
    pub ttl_seconds: Option<Option<u64>>,
    /// What becomes of it then.
    pub on_expiry: Option<OnExpiry>,
    /// `null` removes all; a key with `null` removes that one.
    #[serde(deserialize_with = "crate::request::present")]
    pub metadata: Option<Option<BTreeMap<String, Option<String>>>>,
}

impl Patch {
    /// Refuses what cannot be.
    pub fn check(&self, settings: &Settings) -> Result<(), Error> {
        let mut errors = self.name.iter().flatten().flat_map(|it| name_errors(it)).collect::<Vec<_>>();
        let keys = || self.metadata.iter().flatten().flat_map(BTreeMap::keys);
        errors.extend(key_error(keys()));
        errors.extend(reserved(keys(), settings));
        if errors.is_empty() { Ok(()) } else { Err(Error::fields(errors)) }
    }

    /// As [`Patch::check`], for what has no time of its own.
    pub fn check_timeless(&self, settings: &Settings) -> Result<(), Error> {
        let timed = [("ttlSeconds", self.ttl_seconds.is_some()), ("onExpiry", self.on_expiry.is_some())];
        match timed.into_iter().find(|(_, given)| *given) {
            Some((field, _)) => Err(Error::field(field, "snapshots do not expire")),
            None => self.check(settings),
        }
    }

    /// Name and metadata, if the mark is still the one that `if_match` names.
    pub fn named(&self, mark: &mut Mark, if_match: Option<&str>) -> Result<(), Error> {
        unchanged(if_match, &etag(mark))?;
        self.apply(&mut mark.name, &mut mark.metadata)
    }

    /// What it makes of a name and metadata.
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

/// Refuses where `if_match` does not name this ETag.
pub fn unchanged(if_match: Option<&str>, etag: &str) -> Result<(), Error> {
    if if_match.is_none_or(|it| it.trim() == "*" || it.split(',').any(|it| it.trim() == etag)) {
        return Ok(());
    }
    let text = "If-Match names another version: read it again";
    Err(Error::new(Code::PreconditionFailed, text).member("etag", etag))
}

/// A hash of the mark: PVE's own digest changes with locks and starts too.
pub fn etag(mark: &Mark) -> String {
    hashed(&serde_json::to_string(mark).unwrap_or_default())
}

/// The ETag of what this text says all of.
pub fn hashed(text: &str) -> String {
    let hash = Sha256::digest(text.as_bytes());
    format!("\"{}\"", base32(hash.get(..10).unwrap_or_default()))
}

/// Applies a patch, if the mark is still the one that `if_match` names.
pub async fn patch<I: Io>(
    edge: &Edge<'_, I>,
    caller: &Caller,
    id: &SandboxId,
    patch: &Patch,
    if_match: Option<&str>,
    deadline: OffsetDateTime,
) -> Result<Place, Error> {
    let ttl = patch.ttl_seconds.map(|it| Ttl::parse(it, edge.settings)).transpose()?;
    patch.check(edge.settings)?;
    update(edge, caller, id, deadline, &|mark, now| {
        patch.named(mark, if_match)?;
        if let Some(ttl) = ttl {
            lifetime::give(mark, ttl, now);
        }
        if let Some(on_expiry) = patch.on_expiry {
            mark.on_expiry = on_expiry;
        }
        Ok(())
    })
    .await
}

/// Gives it its span again, which never shortens its time, or what `said` sets, counted from now,
/// if the mark is still the one that `if_match` names. Accepted until the guest is condemned, even
/// after its expiry.
pub async fn extend<I: Io>(
    edge: &Edge<'_, I>,
    caller: &Caller,
    id: &SandboxId,
    said: Option<Ttl>,
    if_match: Option<&str>,
    deadline: OffsetDateTime,
) -> Result<Place, Error> {
    let settings = edge.settings;
    update(edge, caller, id, deadline, &|mark, now| {
        unchanged(if_match, &etag(mark))?;
        lifetime::extend(mark, said, now, settings);
        Ok(())
    })
    .await
}

/// `apply` is given the moment of the attempt that is written: of two
/// renewals at once, the later one gives no less.
async fn update<I: Io>(
    edge: &Edge<'_, I>,
    caller: &Caller,
    id: &SandboxId,
    deadline: OffsetDateTime,
    apply: &(dyn Fn(&mut Mark, i64) -> Result<(), Error> + Sync),
) -> Result<Place, Error> {
    let mut last = Unwritten::default();
    for _ in 0..5 {
        let found = unlocked(edge, caller, id, deadline).await?;
        // What never came up in its time is over, and nothing to renew.
        if never_came_up(&found.mark) {
            gone(edge, &found.mark, id)?;
        }
        if !found.committed {
            return Err(still_creating(id));
        }
        if found.config.lock.as_deref() == Some("suspended") {
            let text = "PVE takes no changes of a guest that is suspended: resume it first";
            return Err(Error::new(Code::Suspended, text));
        }
        let (now, kept) = (edge.now(), edge.settings.limits.stopped_max_seconds);
        let apply = |mark: &mut Mark| {
            refuse_condemned(mark)?;
            apply(mark, now.unix_timestamp())?;
            // What is over and stays over is gone for its owner too.
            still_there(mark, now, kept, id)
        };
        match commit::write(edge, &found.node, &found.config, &found.mark, &apply).await? {
            Ok(mark) => return Ok(Place { mark, ..found }),
            Err(unwritten) => last = unwritten,
        }
    }
    Err(last.told(id))
}
