//! Snapshots: the request for one, and the answers about them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    defaults::Defaults,
    fields::{Metadata, name_errors, size_errors},
    id::Kind,
    preset::PresetId,
};
use crate::{
    access::keys::Caller,
    error::{Code, Error},
};

/// Status of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "contract", schemars(rename = "SnapshotStatus"))]
pub enum Status {
    /// The provider still makes the snapshot.
    Pending,
    /// Sandboxes can be made from it.
    Ready,
    /// The snapshot cannot be finished; `problem` says why.
    Error,
}

/// A snapshot of a sandbox that other sandboxes can be made from, or a version of a preset.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// Id of the snapshot, for `POST /api/sandboxes`.
    #[cfg_attr(feature = "contract", schemars(with = "super::id::SourceId"))]
    pub snapshot_id: String,
    /// Status of the snapshot.
    pub status: Status,
    /// Id of the sandbox that the snapshot was taken from; null: of none, or a listing has no room for it.
    pub source_id: Option<String>,
    /// Id of the preset that the snapshot is a version of; null: of none.
    pub preset_id: Option<PresetId>,
    /// Number of that version; null: of none.
    pub version: Option<u32>,
    /// Name that the owner has given to the snapshot; null: none.
    pub name: Option<String>,
    /// Team that owns the snapshot; null: everybody may use it.
    pub team: Option<String>,
    /// Metadata that the owner has set.
    pub metadata: BTreeMap<String, String>,
    /// Time when the snapshot was taken; null: an admin has made the template by hand.
    #[cfg_attr(feature = "contract", schemars(extend("format" = "date-time")))]
    pub created_at: Option<String>,
    /// VMID of the template; null: not of PVE.
    pub template_vmid: Option<crate::sandbox::vmid::Vmid>,
    /// Reason of the status `error`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "contract", schemars(with = "String"))]
    pub problem: Option<String>,
}

/// A snapshot that a sandbox keeps, to roll it back to.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct KeptSnapshot {
    /// Time when the snapshot was taken.
    #[cfg_attr(feature = "contract", schemars(with = "String", extend("format" = "date-time")))]
    pub created_at: Option<String>,
    /// Whether a rollback to the snapshot brings a VM's memory back.
    pub memory: bool,
    /// Metadata that the owner has set.
    pub metadata: BTreeMap<String, String>,
    /// Name that the owner has given to the snapshot; null: none.
    pub name: Option<String>,
    /// Id of the snapshot.
    #[cfg_attr(feature = "contract", schemars(with = "super::id::KeptId"))]
    pub snapshot_id: String,
    /// Status of the snapshot.
    pub status: KeptStatus,
}

/// Status of a snapshot that a sandbox keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum KeptStatus {
    /// PVE takes the snapshot.
    Pending,
    /// The sandbox can be rolled back to it.
    Ready,
    /// PVE deletes the snapshot.
    Deleting,
}

/// All snapshots, on one page.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema), schemars(rename = "{T}s"))]
#[serde(rename_all = "camelCase")]
pub struct All<T> {
    /// The snapshots.
    pub items: Vec<T>,
    /// Cursor of the next page: always null, there is none.
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
    /// Name that the owner has given to the snapshot; null: none.
    #[cfg_attr(feature = "contract", schemars(with = "Option<super::fields::Name>"))]
    pub name: Option<String>,
    /// Metadata that the owner has set.
    #[cfg_attr(feature = "contract", schemars(with = "Metadata"))]
    pub metadata: BTreeMap<String, String>,
    /// Whether the snapshot stays on the sandbox, to roll it back; by default it becomes a template.
    pub keep: bool,
    /// Whether a VM's memory is kept too, which needs `keep`; otherwise 422 `unsupported`, and 409 `not-running` for a
    /// stopped VM. Morph's snapshots always have the memory.
    pub memory: bool,
    /// Preset that the snapshot becomes the next version of; for admins.
    pub promote: Option<Promote>,
}

/// Snapshot with the ETag of what an answer shows of it.
#[derive(Clone, Debug)]
pub struct ShownSnapshot {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// ETag with its quotes; `None` while the snapshot has none yet.
    pub etag: Option<String>,
}

/// A snapshot that was taken.
#[derive(Clone, Debug)]
pub enum Taken {
    /// Snapshot that outlives its sandbox, and that others can be made from.
    Template(Snapshot),
    /// Snapshot that stays on its sandbox, to roll it back.
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
    /// Refuses a request that no provider can serve.
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
        self.defaults(&mut errors);
        if !errors.is_empty() {
            return Err(Error::fields(errors));
        }
        Metadata::check(&self.metadata)
    }

    /// The defaults that a promotion sets; what is wrong with them is added to `errors`.
    pub(crate) fn defaults(&self, errors: &mut Vec<(String, String)>) -> Defaults {
        let promote = self.promote.as_ref();
        promote.map(|it| Defaults::parse(&it.user, &it.cwd, "promote.", errors)).unwrap_or_default()
    }

    /// Refuses memory for snapshots that cannot have it on PVE.
    pub(crate) fn check_memory(&self, kind: Kind) -> Result<(), Error> {
        if self.memory && !(self.keep && kind == Kind::Qemu) {
            let text = "memory is kept of VMs alone, and by a snapshot that stays on one: neither a container's \
                        nor a template's can be";
            return Err(Error::new(Code::Unsupported, text));
        }
        Ok(())
    }

    /// Refuses a promotion by a caller who is no admin: presets are everybody's.
    pub(crate) fn check_promotion(&self, caller: &Caller) -> Result<(), Error> {
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
    /// Name or number of the user as whom commands and files begin that say no other; as in the sandbox by default. It
    /// needs the project's own daemon.
    #[serde(default)]
    #[cfg_attr(
        feature = "contract",
        schemars(length(min = 1, max = 64), regex(pattern = r"^[^\u0000:\n]*$"))
    )]
    pub user: Option<String>,
    /// Absolute path where commands begin that say no other, and below which relative paths of files are; as in the
    /// sandbox by default. It needs the project's own daemon.
    #[serde(default)]
    #[cfg_attr(feature = "contract", schemars(length(max = 256), regex(pattern = r"^/[^\u0000]*$")))]
    pub cwd: Option<String>,
}
