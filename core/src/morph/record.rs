//! What is kept in the metadata of an instance or a snapshot of Morph: the
//! owner's entries as they are, and ours under a prefix that nobody else may use.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Cloud;
use crate::{
    access::keys::Caller,
    error::Error,
    io::Io,
    sandbox::{OnExpiry, id::SourceId, lifetime::Ttl, nonce::Origin, preset::SnapshotId, quota::Limits},
};

/// Before the names of our own entries.
pub const RESERVED: &str = "edge.";

/// Refuses metadata whose keys begin with [`RESERVED`].
pub(super) fn refuse_reserved<'a>(mut keys: impl Iterator<Item = &'a String>) -> Result<(), Error> {
    let Some(ours) = keys.find(|it| it.starts_with(RESERVED)) else { return Ok(()) };
    let fix = format!("keys that begin with {RESERVED} are pve-edge's own");
    Err(Error::field(format!("metadata.{ours}"), fix))
}

/// All metadata; entries of newer versions are kept as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record(BTreeMap<String, String>);

impl Record {
    /// Of what the caller makes now: whose it is, and a nonce that nothing else ever had.
    pub fn new<I: Io>(cloud: &Cloud<'_, I>, caller: &Caller, metadata: BTreeMap<String, String>) -> Self {
        let mut record = Self::default();
        record.set_metadata(metadata);
        record.set("deployment", Some(cloud.settings.deployment.to_string()));
        record.set("team", Some(caller.team.to_string()));
        record.set("nonce", Some(Origin::of(cloud).to_string()));
        record
    }

    /// Of what Morph shows.
    pub fn of(shown: &Value) -> Self {
        let metadata = shown.get("metadata").and_then(Value::as_object).into_iter().flatten();
        let mut record = Self::default();
        record.0.extend(metadata.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))));
        record
    }

    /// One of ours.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(&format!("{RESERVED}{name}")).map(String::as_str)
    }

    /// Sets one of ours, or takes it away.
    pub fn set(&mut self, name: &str, value: Option<String>) {
        let key = format!("{RESERVED}{name}");
        match value {
            Some(value) => self.0.insert(key, value),
            None => self.0.remove(&key),
        };
    }

    /// The owner's.
    pub fn metadata(&self) -> BTreeMap<String, String> {
        let mut theirs = self.0.clone();
        theirs.retain(|key, _| !key.starts_with(RESERVED));
        theirs
    }

    /// Replaces the owner's.
    pub fn set_metadata(&mut self, metadata: BTreeMap<String, String>) {
        self.0.retain(|key, _| key.starts_with(RESERVED));
        self.0.extend(metadata.into_iter().filter(|(key, _)| !key.starts_with(RESERVED)));
    }

    /// As Morph takes it.
    pub fn json(&self) -> Value {
        json!(self.0)
    }

    /// Whether the caller may see what carries this record.
    pub fn may(&self, caller: &Caller, deployment: &str) -> bool {
        let owner = self.get("deployment").zip(self.get("team"));
        owner.is_some_and(|owner| caller.may_see(deployment, owner))
    }

    /// The preset's version that a snapshot is offered as.
    pub fn preset(&self) -> Option<SnapshotId> {
        self.get("preset")?.parse().ok().filter(|it| SourceId::Preset(SnapshotId::clone(it)).is_morph())
    }

    /// The time to live that was given last; what is given where nobody says, if that is not known.
    pub fn span(&self, limits: &Limits) -> Ttl {
        match self.get("span") {
            Some("never") => Ttl::of(None),
            Some(seconds) => seconds.parse().map_or_else(|_| Ttl::default(limits), |it| Ttl::of(Some(it))),
            None => Ttl::default(limits),
        }
    }

    /// Keeps the time to live that was given.
    pub fn set_span(&mut self, ttl: Ttl) {
        self.set("span", Some(ttl.seconds().map_or_else(|| "never".into(), |it| it.to_string())));
    }

    /// Seconds that were left when it was paused, if a pause of ours has written them.
    pub fn left(&self) -> Option<i64> {
        self.get("left")?.parse().ok()
    }

    /// What becomes of it when its time is up.
    pub fn on_expiry(&self) -> OnExpiry {
        if self.get("onExpiry") == Some("pause") { OnExpiry::Pause } else { OnExpiry::Delete }
    }

    /// Whose an environment is sealed for.
    pub fn whose(&self) -> [&str; 4] {
        let of = |name| self.get(name).unwrap_or_default();
        [of("deployment"), "morph", of("nonce"), of("team")]
    }
}
