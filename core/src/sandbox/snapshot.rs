//! Snapshots: what one is asked for, and how it is shown.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    fields::{Metadata, name_errors, size_errors},
    id::Kind,
    preset::PresetId,
};
use crate::{
    access::keys::Caller,
    error::{Code, Error},
};

/// How far a snapshot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// PVE copies.
    Pending,
    /// Sandboxes can be made from it.
    Ready,
    /// It cannot be finished; `problem` says why.
    Error,
}

/// A snapshot as the API shows it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// For `POST /api/sandboxes`.
    pub snapshot_id: String,
    /// How far it is.
    pub status: Status,
    /// The sandbox that it was taken from; not known of templates that an admin made.
    pub source_id: Option<String>,
    /// Of a preset's version.
    pub preset_id: Option<PresetId>,
    /// Of a preset's version.
    pub version: Option<u32>,
    /// What its owner calls it.
    pub name: Option<String>,
    /// Whose it is; presets are everybody's.
    pub team: Option<String>,
    /// The owner's.
    pub metadata: BTreeMap<String, String>,
    /// RFC 3339; not known of templates that an admin made.
    pub created_at: Option<String>,
    /// The template, of PVE.
    pub template_vmid: Option<crate::sandbox::vmid::Vmid>,
    /// Why it is in status `error`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

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
    /// With what runs in it; of PVE's VMs with `keep`, of Morph's machines always.
    pub memory: bool,
    /// Makes it the next version of a preset; admins only.
    pub promote: Option<Promote>,
}

/// A snapshot, and the ETag of what is shown of it, where it has one yet.
#[derive(Clone, Debug)]
pub struct ShownSnapshot {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// The ETag, with its quotes.
    pub etag: Option<String>,
}

/// A snapshot that was taken.
#[derive(Clone, Debug)]
pub enum Taken {
    /// It outlives its sandbox, and others can be made from it.
    Template(Snapshot),
    /// It stays on its sandbox, to roll that back to.
    Kept {
        /// The id of the sandbox.
        sandbox: String,
        /// The snapshot.
        kept: serde_json::Value,
        /// Whether it is there; otherwise PVE still works on it.
        is_done: bool,
    },
}

impl SnapshotRequest {
    /// Refuses what cannot be.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let mut errors: Vec<_> = self.name.iter().flat_map(|it| name_errors(it)).collect();
        if self.keep && self.promote.is_some() {
            let text = "what stays on its sandbox is no preset: promote without it";
            errors.push(("keep".to_owned(), text.to_owned()));
        }
        if let Some(it) = self.promote.as_ref().and_then(|it| it.preset.sizes()) {
            let wrong = size_errors(Some(it.cores), Some(it.memory_mib), Some(it.disk_gib));
            errors.extend(wrong.into_iter().map(|(_, fix)| ("promote.preset".to_owned(), fix)));
        }
        if !errors.is_empty() {
            return Err(Error::fields(errors));
        }
        Metadata::check(&self.metadata)
    }

    /// Refuses memory of what PVE keeps none of.
    pub(crate) fn check_memory(&self, kind: Kind) -> Result<(), Error> {
        if self.memory && !(self.keep && kind == Kind::Qemu) {
            let text = "memory is kept of VMs alone, and by a snapshot that stays on one: neither a container's \
                        nor a template's can be";
            return Err(Error::new(Code::Unsupported, text));
        }
        Ok(())
    }

    /// Presets are everybody's, so only admins make them.
    pub(crate) fn may_promote(&self, caller: &Caller) -> Result<(), Error> {
        match &self.promote {
            Some(_) if !caller.admin => {
                Err(Error::new(Code::Forbidden, "presets are everybody's: promote with an admin's key"))
            }
            _ => Ok(()),
        }
    }
}

/// Which preset.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Promote {
    /// Of which it is the next version.
    pub preset: PresetId,
}
