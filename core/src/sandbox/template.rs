//! Templates that are made from nothing: what one is asked for, and how it is shown.

use serde::{Deserialize, Serialize};

use super::{
    preset::{PresetId, SnapshotId},
    vmid::Vmid,
};

/// A template to make from nothing. One of `appliance`, `url` and `image`; with a `url` both of `checksum` and
/// `checksumAlgorithm`, or none.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct TemplateRequest {
    /// A package of `pveam available`, or the file of one version.
    #[cfg_attr(
        feature = "contract",
        schemars(length(min = 1, max = 128), regex(pattern = r"^[0-9A-Za-z_+][0-9A-Za-z_+.-]*$"))
    )]
    pub appliance: Option<String>,
    /// Address of an archive of a container; without a user. One that was got from there before is taken as it is.
    #[cfg_attr(
        feature = "contract",
        schemars(
            length(max = 2048),
            regex(
                pattern = r"^https?://[^/?#@\\ ]+/([^?#\\ ]*/)?[^/?#\\ ]+\.tar\.(gz|xz|zst)([?#][!-~]*)?$"
            )
        )
    )]
    pub url: Option<String>,
    /// Checksum of what `url` names.
    #[cfg_attr(feature = "contract", schemars(regex(pattern = r"^[0-9A-Fa-f]+$")))]
    pub checksum: Option<String>,
    /// How that checksum is made.
    #[cfg_attr(feature = "contract", schemars(with = "Option<ChecksumAlgorithm>"))]
    pub checksum_algorithm: Option<String>,
    /// OCI image with its tag, from a registry that asks for no user; PVE 9.1 and later.
    #[cfg_attr(
        feature = "contract",
        schemars(
            length(max = 255),
            regex(pattern = r"^[0-9A-Za-z][0-9A-Za-z._:/-]*:[0-9A-Za-z][0-9A-Za-z._-]*$")
        )
    )]
    pub image: Option<String>,
    /// Preset that it becomes the next version of.
    #[cfg_attr(feature = "contract", schemars(with = "PresetId"))]
    pub preset: Option<PresetId>,
    /// Cores, instead of the preset's.
    #[cfg_attr(feature = "contract", schemars(range(min = 1, max = super::fields::CORES)))]
    pub cpu: Option<u32>,
    /// MiB, instead of the preset's.
    #[cfg_attr(feature = "contract", schemars(range(min = *super::fields::MEMORY_MIB.start(), max = *super::fields::MEMORY_MIB.end())))]
    pub memory: Option<u32>,
    /// GiB, instead of the preset's; needed where the preset's name tells none.
    #[cfg_attr(feature = "contract", schemars(range(min = 1, max = super::fields::DISK_GIB)))]
    pub disk: Option<u32>,
    /// Node where it is made: by default `PVE_NODE`, else where is most room.
    #[cfg_attr(
        feature = "contract",
        schemars(length(min = 1, max = 128), regex(pattern = r"^[0-9A-Za-z_+][0-9A-Za-z_+.-]*$"))
    )]
    pub node: Option<String>,
    /// Storage of its disk: by default `PVE_STORAGE`, else that of most room that makes linked clones.
    #[cfg_attr(
        feature = "contract",
        schemars(length(min = 1, max = 128), regex(pattern = r"^[0-9A-Za-z_+][0-9A-Za-z_+.-]*$"))
    )]
    pub storage: Option<String>,
    /// Storage where the archive goes.
    #[cfg_attr(
        feature = "contract",
        schemars(length(min = 1, max = 128), regex(pattern = r"^[0-9A-Za-z_+][0-9A-Za-z_+.-]*$"))
    )]
    pub template_storage: Option<String>,
    /// Bridge of its network card: by default `PVE_BRIDGE`, else vmbr0, else the first.
    #[cfg_attr(
        feature = "contract",
        schemars(length(min = 1, max = 128), regex(pattern = r"^[0-9A-Za-z_+][0-9A-Za-z_+.-]*$"))
    )]
    pub bridge: Option<String>,
    /// As `pct set --features` takes them; all but `nesting` are root's to set.
    #[cfg_attr(feature = "contract", schemars(extend("examples" = ["nesting=1,keyctl=1"])))]
    pub features: Option<String>,
    /// Volume of its hookscript; root's to set.
    #[cfg_attr(feature = "contract", schemars(length(max = 200), extend("examples" = ["local:snippets/hook.sh"])))]
    pub hookscript: Option<String>,
    /// Whether the archive has the exec daemon, or root puts it in; `manual` by default.
    pub execd: Option<Execd>,
}

/// How a checksum is made, in the contract.
#[cfg(feature = "contract")]
pub struct ChecksumAlgorithm;

#[cfg(feature = "contract")]
schema!(ChecksumAlgorithm {"type": "string", "enum": ["md5", "sha1", "sha224", "sha256", "sha384", "sha512"]});

/// How the exec daemon gets into a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Execd {
    /// It is in there.
    Included,
    /// Root puts it there.
    Manual,
}

/// That the exec daemon is in a template.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Confirmation {
    /// `included`: the exec daemon is in it now.
    #[cfg_attr(feature = "contract", schemars(with = "String", extend("enum" = ["included"])))]
    pub execd: Option<Execd>,
}

/// How far a template is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "contract", schemars(rename = "TemplateStatus"))]
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

/// A template that was made from nothing.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Template {
    /// Id of the template; null while it downloads.
    #[cfg_attr(feature = "contract", schemars(with = "Option<super::id::SandboxId>"))]
    pub id: Option<String>,
    /// VMID of the template; null while it downloads.
    pub vmid: Option<Vmid>,
    /// Node where it is made.
    pub node: String,
    /// Preset that it becomes a version of; null while PVE unpacks the archive.
    pub preset_id: Option<PresetId>,
    /// The version that it is, once it is ready.
    pub snapshot_id: Option<SnapshotId>,
    /// How far it is.
    pub status: Status,
    /// When it was claimed; null while it downloads.
    #[cfg_attr(feature = "contract", schemars(extend("format" = "date-time")))]
    pub created_at: Option<String>,
    /// The volume that is on its way.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "contract", schemars(with = "String"))]
    pub archive: Option<String>,
    /// What root has to run on the node; it is looked for by GET and by the sweep, and given up after a day.
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
