//! Templates that are made from nothing: what one is asked for, and how it is shown.

use serde::{Deserialize, Serialize};

use super::{
    preset::{PresetId, SnapshotId},
    vmid::Vmid,
};

/// `POST /api/templates`. One of `appliance`, `url` and `image`, and a preset.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct TemplateRequest {
    /// Package or file of `GET /nodes/{node}/aplinfo`.
    pub appliance: Option<String>,
    /// Where an archive is.
    pub url: Option<String>,
    /// Of that archive.
    pub checksum: Option<String>,
    /// PVE's name of it.
    pub checksum_algorithm: Option<String>,
    /// OCI image with its tag; PVE ≥ 9.1.
    pub image: Option<String>,
    /// The preset that it becomes the next version of.
    pub preset: Option<PresetId>,
    /// Cores, instead of the preset's.
    pub cpu: Option<u32>,
    /// MiB, instead of the preset's.
    pub memory: Option<u32>,
    /// GiB, instead of the preset's.
    pub disk: Option<u32>,
    /// Where it is made.
    pub node: Option<String>,
    /// For its disk.
    pub storage: Option<String>,
    /// For the archive.
    pub template_storage: Option<String>,
    /// For its network.
    pub bridge: Option<String>,
    /// `nesting=1,keyctl=1`
    pub features: Option<String>,
    /// Its volume.
    pub hookscript: Option<String>,
    /// Whether the archive has an exec daemon; by default it does not.
    pub execd: Option<Execd>,
}

/// How the exec daemon gets into a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Execd {
    /// It is in there.
    Included,
    /// Root puts it there.
    Manual,
}

/// `PATCH /api/templates/{id}`.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Confirmation {
    /// `included`: it is in there now.
    pub execd: Option<Execd>,
}

/// How far a template is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// A node gets its archive; nothing is claimed, and the same request goes on.
    Downloading,
    /// PVE works on it.
    Building,
    /// `commands` are for root.
    NeedsRoot,
    /// Sandboxes can be made from it.
    Ready,
}

/// A template that is made from nothing, as the API shows it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Template {
    /// `null` before anything is claimed.
    pub id: Option<String>,
    /// The same.
    pub vmid: Option<Vmid>,
    /// Where it is made.
    pub node: String,
    /// Of which it becomes a version.
    pub preset_id: Option<PresetId>,
    /// The version that it is, once it is ready.
    pub snapshot_id: Option<SnapshotId>,
    /// How far it is.
    pub status: Status,
    /// RFC 3339; `null` as `id`.
    pub created_at: Option<String>,
    /// The volume that is on its way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub archive: Option<String>,
    /// What root has to run on the node.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub commands: Vec<String>,
}

/// A template that was asked for.
#[derive(Clone, Debug)]
pub struct Built {
    /// The template.
    pub template: Template,
    /// Whether an earlier request with the same key made it.
    pub replayed: bool,
}
