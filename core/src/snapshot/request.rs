//! What a snapshot is asked for.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::{
    error::{Code, Error},
    preset::PresetId,
    pve::guest::Kind,
    request::{Metadata, name_errors},
};

/// `POST …/snapshots`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct SnapshotRequest {
    /// What its owner calls it.
    pub name: Option<String>,
    /// The owner's.
    pub metadata: BTreeMap<String, String>,
    /// It stays on the sandbox, to roll it back to.
    pub keep: bool,
    /// With what runs in it; of VMs, and with `keep`.
    pub memory: bool,
    /// Makes it the next version of a preset; admins only.
    pub promote: Option<Promote>,
}

impl SnapshotRequest {
    pub(super) fn check(&self, kind: Kind) -> Result<(), Error> {
        let mut errors: Vec<_> = self.name.iter().flat_map(|it| name_errors(it)).collect();
        if self.keep && self.promote.is_some() {
            let text = "what stays on its sandbox is no preset: promote without it";
            errors.push(("keep".to_owned(), text.to_owned()));
        }
        if !errors.is_empty() {
            return Err(Error::fields(errors));
        }
        if self.memory && !(self.keep && kind == Kind::Qemu) {
            let text = "memory is kept of VMs alone, and by a snapshot that stays on one: neither a container's \
                        nor a template's can be";
            return Err(Error::new(Code::Unsupported, text));
        }
        Metadata::check(&self.metadata)
    }
}

/// Which preset.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Promote {
    /// Of which it is the next version.
    pub preset: PresetId,
}
