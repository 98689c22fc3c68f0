//! Templates that are made from nothing: the request for one, and the answers about it.

use serde::{Deserialize, Serialize};

use super::{
    channel::Channel,
    preset::{PresetId, SnapshotId},
    vmid::Vmid,
};

/// A template to make. One of `appliance`, `url`, `image` and `fromTemplate`; with a `url` both of `checksum` and
/// `checksumAlgorithm`, or none.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct TemplateRequest {
    /// Package of `pveam available`, such as `debian-13-standard`, or the file of one version.
    #[cfg_attr(
        feature = "contract",
        schemars(length(min = 1, max = 128), regex(pattern = r"^[0-9A-Za-z_+][0-9A-Za-z_+.-]*$"))
    )]
    pub appliance: Option<String>,
    /// URL of a container's archive, without a user. An archive that was downloaded from there before is taken as it is.
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
    /// Algorithm of the checksum, such as `sha256`.
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
    /// VMID of a template of containers or of VMs, of which all is copied; one of VMs needs a guest agent.
    #[cfg_attr(feature = "contract", schemars(with = "Option<Vmid>"))]
    pub from_template: Option<Vmid>,
    /// Id of the preset that the template becomes the next version of.
    #[cfg_attr(feature = "contract", schemars(with = "PresetId"))]
    pub preset: Option<PresetId>,
    /// Number of cores, instead of the preset's.
    #[cfg_attr(feature = "contract", schemars(range(min = 1, max = super::fields::CORES)))]
    pub cpu: Option<u32>,
    /// Memory in MiB, instead of the preset's.
    #[cfg_attr(feature = "contract", schemars(range(min = *super::fields::MEMORY_MIB.start(), max = *super::fields::MEMORY_MIB.end())))]
    pub memory: Option<u32>,
    /// Disk in GiB, instead of the preset's; needed where the preset's name tells none.
    #[cfg_attr(feature = "contract", schemars(range(min = 1, max = super::fields::DISK_GIB)))]
    pub disk: Option<u32>,
    /// Node where the template is made; by default `PVE_NODE`, else the node with the most room.
    #[cfg_attr(
        feature = "contract",
        schemars(length(min = 1, max = 128), regex(pattern = r"^[0-9A-Za-z_+][0-9A-Za-z_+.-]*$"))
    )]
    pub node: Option<String>,
    /// Storage of the template's disk; by default `PVE_STORAGE`, else the one with the most room that makes linked clones.
    #[cfg_attr(
        feature = "contract",
        schemars(length(min = 1, max = 128), regex(pattern = r"^[0-9A-Za-z_+][0-9A-Za-z_+.-]*$"))
    )]
    pub storage: Option<String>,
    /// Storage where the archive goes; by default one of the node that takes archives.
    #[cfg_attr(
        feature = "contract",
        schemars(length(min = 1, max = 128), regex(pattern = r"^[0-9A-Za-z_+][0-9A-Za-z_+.-]*$"))
    )]
    pub template_storage: Option<String>,
    /// Bridge of the network card; by default `PVE_BRIDGE`, else vmbr0, else the node's first.
    #[cfg_attr(
        feature = "contract",
        schemars(length(min = 1, max = 128), regex(pattern = r"^[0-9A-Za-z_+][0-9A-Za-z_+.-]*$"))
    )]
    pub bridge: Option<String>,
    /// Features as `pct set --features` takes them, such as `nesting=1`; all but `nesting` only root can set.
    #[cfg_attr(feature = "contract", schemars(extend("examples" = ["nesting=1,keyctl=1"])))]
    pub features: Option<String>,
    /// Volume of the hookscript, which only root can set.
    #[cfg_attr(feature = "contract", schemars(length(max = 200), extend("examples" = ["local:snippets/hook.sh"])))]
    pub hookscript: Option<String>,
    /// Packages to install in the template, by the names that its system has for them.
    #[cfg_attr(
        feature = "contract",
        schemars(
            length(max = 64),
            inner(length(min = 1, max = 128), regex(pattern = r"^[0-9A-Za-z][0-9A-Za-z.+_:=~@/-]*$"))
        )
    )]
    pub packages: Vec<String>,
    /// Script for bash, or sh where there is no bash, that root runs in the template once, after the packages are installed. It
    /// has at most 4096 bytes, and an hour.
    #[cfg_attr(feature = "contract", schemars(length(max = 4096)))]
    pub run: Option<String>,
    /// Whether the project's own daemon is put into the template, by default where it is the `daemon`. Without it, commands go
    /// through the consoles of the sandboxes, those of VMs through their guest agents.
    pub guest: Option<bool>,
    /// Daemon by which commands reach the sandboxes of the template: the project's own by default, unless `execd` is given.
    pub daemon: Option<TemplateDaemon>,
    /// Whether the archive has the daemon, or root puts it in; `manual` by default.
    pub execd: Option<Execd>,
    /// Name or number of the user as whom commands and files begin that say no other; root by default. It needs the
    /// project's own daemon.
    #[cfg_attr(
        feature = "contract",
        schemars(length(min = 1, max = 64), regex(pattern = r"^[^\u0000:\n]*$"))
    )]
    pub user: Option<String>,
    /// Absolute path where commands begin that say no other, and below which relative paths of files are; the user's home
    /// by default. It needs the project's own daemon.
    #[cfg_attr(feature = "contract", schemars(length(max = 256), regex(pattern = r"^/[^\u0000]*$")))]
    pub cwd: Option<String>,
}

/// Daemon in a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum TemplateDaemon {
    /// pve-edge-guest.
    Guest,
    /// cmux-execd.
    Execd,
}

impl TemplateDaemon {
    /// The channel of commands that the daemon is.
    pub fn channel(self) -> Channel {
        match self {
            Self::Guest => Channel::Guest,
            Self::Execd => Channel::Execd,
        }
    }

    /// The daemon that is a channel of commands, if one is.
    pub fn of(channel: Channel) -> Option<Self> {
        [Self::Guest, Self::Execd].into_iter().find(|it| it.channel() == channel)
    }
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
    /// The archive has the exec daemon.
    Included,
    /// Root puts the exec daemon into the template.
    Manual,
}

/// Confirmation that root has run the `commands` of a template; one of both, or both.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Confirmation {
    /// Daemon that is in the template now.
    #[cfg_attr(feature = "contract", schemars(with = "TemplateDaemon"))]
    pub daemon: Option<TemplateDaemon>,
    /// `included`: the daemon that the template was asked for with, if any, is in it now, and it is clean.
    #[cfg_attr(feature = "contract", schemars(with = "String", extend("enum" = ["included"])))]
    pub execd: Option<Execd>,
}

/// Status of a template that is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "contract", schemars(rename = "TemplateStatus"))]
pub enum Status {
    /// A node downloads the archive. Nothing is claimed yet: send the same request again to go on.
    Downloading,
    /// PVE makes the template.
    Building,
    /// Root has to run the `commands` on the node; never for VMs.
    NeedsRoot,
    /// It could not be built: `step` and `output` tell why. It is stopped, and deleted after an hour.
    Failed,
    /// Sandboxes can be made from it.
    Ready,
}

/// Step of a template that is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "contract", schemars(rename = "TemplateStep"))]
pub enum Step {
    /// PVE unpacks the archive, or copies the template.
    Creating,
    /// The container or VM starts.
    Starting,
    /// Packages are installed.
    Packages,
    /// The script of `run` runs.
    Running,
    /// The project's own daemon is put in.
    Guest,
    /// What is one machine's own is removed.
    Cleaning,
    /// The container or VM stops.
    Stopping,
    /// PVE makes a template of it.
    Converting,
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
    /// Node where the template is made.
    pub node: String,
    /// Id of the preset that the template becomes a version of; null while PVE unpacks the archive.
    pub preset_id: Option<PresetId>,
    /// Id of the preset's version that the template is; null until it is ready.
    pub snapshot_id: Option<SnapshotId>,
    /// Status of the template.
    pub status: Status,
    /// Step at which the template is, or at which it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "contract", schemars(with = "Step"))]
    pub step: Option<Step>,
    /// Last lines of what is built in the template, of at most 2 KiB.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub output: String,
    /// Daemon in the template; null: the first sandbox finds out.
    pub daemon: Option<TemplateDaemon>,
    /// Time when the template's VMID was claimed; null while it downloads.
    #[cfg_attr(feature = "contract", schemars(extend("format" = "date-time")))]
    pub created_at: Option<String>,
    /// Volume of the archive that is being downloaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "contract", schemars(with = "String"))]
    pub archive: Option<String>,
    /// Commands that root has to run on the node. GET and the sweep look for the effect of those on options; PATCH confirms
    /// those in the container. They are given up after a day.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub commands: Vec<String>,
}

/// Outcome of a request for a template.
#[derive(Clone, Debug)]
pub struct Built {
    /// The template.
    pub template: Template,
    /// Whether an earlier request with the same key has made the template.
    pub replayed: bool,
}
