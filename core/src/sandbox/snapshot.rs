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
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "contract", schemars(rename = "SnapshotStatus"))]
pub enum Status {
    /// PVE copies.
    Pending,
    /// Sandboxes can be made from it.
    Ready,
    /// It cannot be finished; `problem` says why.
    Error,
}

/// A snapshot of a sandbox that others can be made from, or a version of a preset.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// Id of the snapshot, for `POST /api/sandboxes`.
    #[cfg_attr(feature = "contract", schemars(with = "super::id::SourceId"))]
    pub snapshot_id: String,
    /// How far it is.
    pub status: Status,
    /// Sandbox that it was taken from; null: of none, or a listing has no room for it.
    pub source_id: Option<String>,
    /// Preset that it is a version of.
    pub preset_id: Option<PresetId>,
    /// Number of that version.
    pub version: Option<u32>,
    /// The owner's name for it.
    pub name: Option<String>,
    /// Team that owns it; null: everybody's.
    pub team: Option<String>,
    /// The owner's metadata.
    pub metadata: BTreeMap<String, String>,
    /// When it was taken; null: a template that an admin made.
    #[cfg_attr(feature = "contract", schemars(extend("format" = "date-time")))]
    pub created_at: Option<String>,
    /// VMID of the template; null: not of PVE.
    pub template_vmid: Option<crate::sandbox::vmid::Vmid>,
    /// Why its status is `error`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "contract", schemars(with = "String"))]
    pub problem: Option<String>,
}

/// A snapshot that a sandbox keeps, to roll it back to.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct KeptSnapshot {
    /// When it was taken.
    #[cfg_attr(feature = "contract", schemars(with = "String", extend("format" = "date-time")))]
    pub created_at: Option<String>,
    /// Whether a rollback to it brings a VM's memory back.
    pub memory: bool,
    /// The owner's metadata.
    pub metadata: BTreeMap<String, String>,
    /// The owner's name for it.
    pub name: Option<String>,
    /// Id of the snapshot.
    #[cfg_attr(feature = "contract", schemars(with = "super::id::KeptId"))]
    pub snapshot_id: String,
    /// How far it is.
    pub status: KeptStatus,
}

/// How far a snapshot is that a sandbox keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum KeptStatus {
    /// PVE takes it.
    Pending,
    /// The sandbox can be rolled back to it.
    Ready,
    /// PVE deletes it.
    Deleting,
}

/// All snapshots, on one page.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema), schemars(rename = "{T}s"))]
#[serde(rename_all = "camelCase")]
pub struct All<T> {
    /// The snapshots.
    pub items: Vec<T>,
    /// There is no other page.
    pub next_cursor: (),
}

impl<T> All<T> {
    /// The page of these snapshots.
    pub(crate) fn of(items: Vec<T>) -> Self {
        Self { items, next_cursor: () }
    }
}

/// A snapshot to take.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct SnapshotRequest {
    /// The owner's name for it.
    #[cfg_attr(feature = "contract", schemars(with = "Option<super::fields::Name>"))]
    pub name: Option<String>,
    /// The owner's metadata.
    #[cfg_attr(feature = "contract", schemars(with = "Metadata"))]
    pub metadata: BTreeMap<String, String>,
    /// Whether it stays on the sandbox, to roll that back to it.
    pub keep: bool,
    /// With a VM's memory, and with `keep`; else 422 `unsupported`, and of a VM that is stopped 409 `not-running`.
    /// Morph's always have it.
    pub memory: bool,
    /// Makes it the next version of a preset.
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
        kept: KeptSnapshot,
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

/// The preset that a snapshot becomes a version of.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Promote {
    /// Id of the preset.
    pub preset: PresetId,
}
