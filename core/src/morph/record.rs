//! The record of a sandbox or a snapshot, in the metadata of Morph's instance or snapshot: the owner's entries as they
//! are, and our own under a prefix that no owner may use.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Cloud, refusal::bad_answer};
use crate::{
    access::keys::Caller,
    error::Error,
    io::Io,
    sandbox::{OnExpiry, id::SourceId, lifetime::Ttl, nonce::Origin, preset::SnapshotId, quota::Limits},
};

/// Prefix of our own entries.
pub const RESERVED: &str = "edge.";

/// Refuses an owner's metadata whose keys begin with [`RESERVED`].
pub(super) fn refuse_reserved<'a>(mut keys: impl Iterator<Item = &'a String>) -> Result<(), Error> {
    let Some(ours) = keys.find(|it| it.starts_with(RESERVED)) else { return Ok(()) };
    let fix = format!("keys that begin with {RESERVED} are pve-edge's own");
    Err(Error::field(format!("metadata.{ours}"), fix))
}

/// All metadata of an instance or a snapshot; entries of newer versions are kept as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record(BTreeMap<String, String>);

impl Record {
    /// The record of a thing that the caller makes now: its owner, and a nonce that nothing else ever had.
    pub fn new<I: Io>(cloud: &Cloud<'_, I>, caller: &Caller, metadata: BTreeMap<String, String>) -> Self {
        let mut record = Self::default();
        record.set_metadata(metadata);
        record.set("deployment", Some(cloud.settings.deployment.to_string()));
        record.set("team", Some(caller.team.to_string()));
        record.set("nonce", Some(Origin::of(cloud).to_string()));
        record
    }

    /// Reads the record of an instance or a snapshot in Morph's JSON.
    pub fn read(shown: &Value) -> Self {
        let metadata = shown.get("metadata").and_then(Value::as_object).into_iter().flatten();
        let mut record = Self::default();
        record.0.extend(metadata.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))));
        record
    }

    /// Rows of a listing whose metadata has all these entries of ours, whatever Morph has made of the filter.
    pub(super) fn matching_rows<'a>(
        listing: &'a Value,
        entries: &'a [(&str, &str)],
    ) -> Result<impl Iterator<Item = &'a Value>, Error> {
        let rows = listing.get("data").and_then(Value::as_array).ok_or_else(|| bad_answer("list"))?;
        Ok(rows.iter().filter(|row| {
            let record = Self::read(row);
            entries.iter().all(|(name, value)| record.get(name) == Some(value))
        }))
    }

    /// Value of an entry of our own.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(&format!("{RESERVED}{name}")).map(String::as_str)
    }

    /// Sets an entry of our own, or removes it.
    pub fn set(&mut self, name: &str, value: Option<String>) {
        let key = format!("{RESERVED}{name}");
        match value {
            Some(value) => self.0.insert(key, value),
            None => self.0.remove(&key),
        };
    }

    /// Metadata that the owner has set.
    pub fn metadata(&self) -> BTreeMap<String, String> {
        let mut metadata = self.0.clone();
        metadata.retain(|key, _| !key.starts_with(RESERVED));
        metadata
    }

    /// Replaces the metadata that the owner has set.
    pub fn set_metadata(&mut self, metadata: BTreeMap<String, String>) {
        self.0.retain(|key, _| key.starts_with(RESERVED));
        self.0.extend(metadata.into_iter().filter(|(key, _)| !key.starts_with(RESERVED)));
    }

    /// All metadata, as Morph takes it.
    pub fn json(&self) -> Value {
        json!(self.0)
    }

    /// Whether the caller may see the sandbox or the snapshot of this record.
    pub fn is_visible_to(&self, caller: &Caller, deployment: &str) -> bool {
        let owner = self.get("deployment").zip(self.get("team"));
        owner.is_some_and(|owner| caller.may_see(deployment, owner))
    }

    /// Version of a preset that a snapshot is offered as.
    pub fn preset(&self) -> Option<SnapshotId> {
        self.get("preset")?.parse().ok().filter(|it| SourceId::Preset(SnapshotId::clone(it)).is_morph())
    }

    /// Time to live that was given last; the deployment's default, if that is not known.
    pub fn span(&self, limits: &Limits) -> Ttl {
        match self.get("span") {
            Some("never") => Ttl::of(None),
            Some(seconds) => seconds.parse().map_or_else(|_| Ttl::default(limits), |it| Ttl::of(Some(it))),
            None => Ttl::default(limits),
        }
    }

    /// Sets the time to live that was given last.
    pub fn set_span(&mut self, ttl: Ttl) {
        self.set("span", Some(ttl.seconds().map_or_else(|| "never".into(), |it| it.to_string())));
    }

    /// Seconds of running time that were left at the pause, if the API has paused the sandbox.
    pub fn seconds_left(&self) -> Option<i64> {
        self.get("left")?.parse().ok()
    }

    /// Fate of the sandbox when its time is up.
    pub fn on_expiry(&self) -> OnExpiry {
        if self.get("onExpiry") == Some("pause") { OnExpiry::Pause } else { OnExpiry::Delete }
    }

    /// Parts that name the one sandbox for which an environment is sealed.
    pub fn seal_parts(&self) -> [&str; 4] {
        let of = |name| self.get(name).unwrap_or_default();
        [of("deployment"), "morph", of("nonce"), of("team")]
    }
}
