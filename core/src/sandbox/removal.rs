//! Answers about deletions that PVE still works on.

use serde::Serialize;

/// State of a thing that is being deleted.
#[derive(Clone, Copy, Debug, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Deleting {
    /// PVE still works on the deletion.
    Deleting,
}

/// A sandbox that is being deleted.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
pub struct DeletingSandbox {
    /// Id of the sandbox.
    #[cfg_attr(feature = "contract", schemars(with = "super::id::SandboxId"))]
    pub id: String,
    /// State of the sandbox.
    pub state: Deleting,
}

impl DeletingSandbox {
    /// The answer about the thing of this id.
    pub(crate) fn of(id: &str) -> Self {
        Self { id: id.to_owned(), state: Deleting::Deleting }
    }
}

/// A snapshot that is being deleted.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct DeletingSnapshot {
    /// Id of the snapshot.
    #[cfg_attr(feature = "contract", schemars(with = "super::id::OwnSnapshotId"))]
    pub snapshot_id: String,
    /// Status of the deletion.
    pub status: Deleting,
}

impl DeletingSnapshot {
    /// The answer about the thing of this id.
    pub(crate) fn of(id: &str) -> Self {
        Self { snapshot_id: id.to_owned(), status: Deleting::Deleting }
    }
}

/// A snapshot on a sandbox that is being deleted.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct DeletingKept {
    /// Id of the snapshot.
    #[cfg_attr(feature = "contract", schemars(with = "super::id::KeptId"))]
    pub snapshot_id: String,
    /// Status of the deletion.
    pub status: Deleting,
}

impl DeletingKept {
    /// The answer about the thing of this id.
    pub(crate) fn of(id: &str) -> Self {
        Self { snapshot_id: id.to_owned(), status: Deleting::Deleting }
    }
}

/// A template that is being deleted.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
pub struct DeletingTemplate {
    /// Id of the template.
    #[cfg_attr(feature = "contract", schemars(with = "super::id::SandboxId"))]
    pub id: String,
    /// Status of the deletion.
    pub status: Deleting,
}

impl DeletingTemplate {
    /// The answer about the thing of this id.
    pub(crate) fn of(id: &str) -> Self {
        Self { id: id.to_owned(), status: Deleting::Deleting }
    }
}
