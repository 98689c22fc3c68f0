//! Ids of sandboxes and of their sources, and the kind of PVE guest that an id names.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{
    nonce::Nonce,
    preset::{ProviderName, SnapshotId},
    vmid::Vmid,
};
use crate::{
    access::{keys::Label, secret::Keyring},
    error::{Code, Error},
};

/// The id of a guest that this deployment made: `pvelxc-{vmid}-{nonce}-{node}`.
///
/// The nonce is there so that a reused VMID never answers to an old id, and proves that this deployment gave
/// the id out (rule S1.10); the node of birth, so that most reads know where to look. A value of this type
/// comes from a guest's mark, or from [`SpelledId::prove`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SandboxId {
    /// Provider, and so the kind of guest.
    pub provider: ProviderName,
    /// VMID of the guest.
    pub vmid: Vmid,
    /// Nonce, which tells the guest from all others of its VMID.
    pub nonce: Nonce,
    /// Node on which the guest was born: a hint, which the nonce does not prove.
    pub node: String,
}

#[cfg(feature = "contract")]
schema!(SandboxId {
    "type": "string",
    "description": "`{provider}-{vmid}-{nonce}-{node of birth}`; never used again, even when PVE uses the VMID again. Of Morph, its id of the instance.",
    "pattern": "^((pvelxc|pvevm)-[1-9][0-9]{2,8}-[a-z2-7]{24}(-[a-z0-9][a-z0-9-]{0,23})?|morphvm_[0-9A-Za-z_-]{1,64})$"
});

/// Id of a snapshot that others can be made from, in the contract.
#[cfg(feature = "contract")]
pub struct OwnSnapshotId;

#[cfg(feature = "contract")]
schema!(OwnSnapshotId {
    "type": "string",
    "description": "A snapshot of a sandbox: as ids of sandboxes; of Morph, its id of the snapshot.",
    "pattern": "^((pvelxc|pvevm)-[1-9][0-9]{2,8}-[a-z2-7]{24}(-[a-z0-9][a-z0-9-]{0,23})?|snapshot_[0-9A-Za-z_-]{1,64})$"
});

/// Id of a snapshot that a sandbox keeps, in the contract.
#[cfg(feature = "contract")]
pub struct KeptId;

#[cfg(feature = "contract")]
schema!(KeptId {"type": "string", "description": "PVE's name of the snapshot.", "pattern": "^kept[a-z2-7]{24}$"});

impl SandboxId {
    /// Kind of the guest.
    pub fn kind(&self) -> Kind {
        if self.provider == ProviderName::PveVm { Kind::Qemu } else { Kind::Lxc }
    }
}

/// Id in the form of a [`SandboxId`], as a caller has spelled it: it may be made up.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SpelledId(SandboxId);

impl SpelledId {
    /// VMID that it names.
    pub fn vmid(&self) -> Vmid {
        self.0.vmid
    }

    /// Nonce that it names, which may be made up.
    pub fn nonce(&self) -> Nonce {
        self.0.nonce
    }

    /// Proves that this deployment gave the id out under one of the secrets that `EDGE_SECRET` lists. The VMID may be
    /// outside today's ranges: it was given out before they were changed.
    pub fn prove(&self, secrets: &Keyring, deployment: &Label) -> Option<SandboxId> {
        let Self(id) = self;
        let key = id.nonce.proved_by(secrets, deployment, id.kind(), id.vmid);
        key.map(|_| id.clone())
    }
}

impl From<SandboxId> for SpelledId {
    fn from(id: SandboxId) -> Self {
        Self(id)
    }
}

/// Name of a node as ids and tags have it: empty where it is too long to be worth its bytes, or has capitals. PVE keeps tags
/// in lower case, and knows a node by its exact name alone.
pub(crate) fn node_hint(node: &str) -> String {
    let is_fit = node.len() <= 24 && !node.bytes().any(|it| it.is_ascii_uppercase());
    if is_fit { node.to_owned() } else { String::new() }
}

impl fmt::Display for SandboxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.provider.prefix(), self.vmid, self.nonce)?;
        if self.node.is_empty() { Ok(()) } else { write!(f, "-{}", self.node) }
    }
}

impl fmt::Display for SpelledId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for SpelledId {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const BAD: &str = "not a sandbox id";
        let mut parts = text.splitn(4, '-');
        let mut next = || parts.next().ok_or(BAD);
        let provider =
            ProviderName::from_prefix(next()?).filter(|it| *it != ProviderName::Morph).ok_or(BAD)?;
        let vmid = next()?.parse().map_err(|_| BAD)?;
        let nonce = next()?.parse().map_err(|_| BAD)?;
        let node = parts.next().unwrap_or_default();
        let is_name =
            node.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'-') && node_hint(node) == node;
        let id = SandboxId { provider, vmid, nonce, node: node.to_owned() };
        // An id has one spelling.
        if is_name && id.to_string() == text { Ok(Self(id)) } else { Err(BAD) }
    }
}

/// What a sandbox can be made from: a preset's version, or a snapshot of a sandbox.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum SourceId {
    /// `pvelxc_4vcpu_6gb_32gb_v1`
    Preset(SnapshotId),
    /// `pvelxc-{vmid}-{nonce}-{node}`, as ids of sandboxes.
    Own(SpelledId),
    /// `snapshot_…`
    Morph(MorphId),
}

#[cfg(feature = "contract")]
impl schemars::JsonSchema for SourceId {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "SourceId".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "A version of a preset, or a snapshot of a sandbox.",
            "anyOf": [generator.subschema_for::<SnapshotId>(), generator.subschema_for::<OwnSnapshotId>()],
        })
    }
}

impl SourceId {
    /// Version of a preset, if the source is one.
    pub fn preset(&self) -> Option<&SnapshotId> {
        match self {
            Self::Preset(id) => Some(id),
            _ => None,
        }
    }

    /// Whether the source is of Morph.
    pub fn is_morph(&self) -> bool {
        match self {
            Self::Preset(id) => id.provider == ProviderName::Morph,
            Self::Own(_) => false,
            Self::Morph(_) => true,
        }
    }
}

impl fmt::Display for SourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Preset(id) => id.fmt(f),
            Self::Own(id) => id.fmt(f),
            Self::Morph(id) => id.fmt(f),
        }
    }
}

impl FromStr for SourceId {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match (text.parse(), MorphId::snapshot(text)) {
            (Ok(own), _) => Ok(Self::Own(own)),
            (_, Some(id)) => Ok(Self::Morph(id)),
            _ => text.parse().map(Self::Preset),
        }
    }
}

impl TryFrom<String> for SourceId {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<SourceId> for String {
    fn from(id: SourceId) -> Self {
        id.to_string()
    }
}

/// Kind of a PVE guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A container.
    #[default]
    Lxc,
    /// A virtual machine.
    Qemu,
}

impl Kind {
    /// Name of the kind in PVE's paths and listings.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lxc => "lxc",
            Self::Qemu => "qemu",
        }
    }

    /// Finds the kind by its [`Kind::name`].
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Lxc, Self::Qemu].into_iter().find(|it| it.name() == name)
    }

    /// Provider whose sandboxes are guests of this kind.
    pub const fn provider(self) -> ProviderName {
        match self {
            Self::Lxc => ProviderName::PveLxc,
            Self::Qemu => ProviderName::PveVm,
        }
    }

    /// Whether the kind is left out of marks: older marks, which name no kind, are of containers.
    pub fn is_lxc(&self) -> bool {
        *self == Self::Lxc
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Morph's id of an instance (`morphvm_…`) or a snapshot (`snapshot_…`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MorphId(String);

impl MorphId {
    /// Parses the id of an instance.
    pub fn instance(text: &str) -> Option<Self> {
        Self::parse(text, "morphvm_")
    }

    /// Parses the id of a snapshot.
    pub fn snapshot(text: &str) -> Option<Self> {
        Self::parse(text, "snapshot_")
    }

    fn parse(text: &str, prefix: &str) -> Option<Self> {
        let rest = text.strip_prefix(prefix)?;
        let plain = rest.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'_' || it == b'-');
        (plain && (1..=64).contains(&rest.len())).then(|| Self(text.to_owned()))
    }
}

impl fmt::Display for MorphId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The error of a sandbox that does not exist or is not the caller's: the answer does not tell which (rule S6.6).
pub fn not_found(id: impl std::fmt::Display) -> Error {
    Error::new(Code::NotFound, format!("there is no sandbox {id}"))
}
