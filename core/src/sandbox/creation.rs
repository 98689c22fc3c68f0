//! Creations of sandboxes: the request, and the `Idempotency-Key` that lets one happen once.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{
    OnExpiry,
    environment::Env,
    fields::{Metadata, name_errors, size_errors},
    id::SourceId,
    lifetime::Ttl,
    preset::{PresetId, ProviderName},
    quota::Limits,
    vmid::Vmid,
};
use crate::{
    access::{
        keys::{Caller, Label},
        secret::Keyring,
    },
    error::{Code, Error},
    text::base32::{base32, from_base32},
};

/// A sandbox to make. At most one of `snapshotId`, `preset` and `templateVmid`; without any, the default preset: the
/// newest version of the smallest. Without `ttlSeconds`, an hour.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct CreateRequest {
    /// Id of a preset's version or of a snapshot of a sandbox, such as `pvelxc_4vcpu_6gb_32gb_v1`.
    pub snapshot_id: Option<SourceId>,
    /// Id of a preset, whose newest version is taken, such as `4vcpu_6gb_32gb`.
    pub preset: Option<PresetId>,
    /// VMID of a template that is offered.
    pub template_vmid: Option<Vmid>,
    /// Name of the sandbox, for its owner.
    #[cfg_attr(feature = "contract", schemars(with = "Option<super::fields::Name>"))]
    pub name: Option<String>,
    /// Seconds from this request until the sandbox expires; 3600 by default, null: never.
    #[serde(deserialize_with = "crate::sandbox::fields::seconds", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "contract", schemars(with = "Option<super::lifetime::TtlSeconds>"))]
    pub ttl_seconds: Option<Option<u64>>,
    /// What happens to the sandbox when it expires; `delete` by default.
    pub on_expiry: Option<OnExpiry>,
    /// Metadata of the owner: names and values, which listings can be filtered by.
    #[cfg_attr(feature = "contract", schemars(with = "Metadata"))]
    pub metadata: BTreeMap<String, String>,
    /// Environment variables for every command, and in the guest's file `/etc/pve-edge/env`. Kept sealed and never
    /// shown again; together with the metadata it must fit the guest's notes, about 3 KB as JSON.
    #[serde(skip_serializing_if = "Env::is_empty")]
    pub env: Env,
    /// Number of cores, instead of the template's.
    #[cfg_attr(feature = "contract", schemars(range(min = 1, max = super::fields::CORES)))]
    pub cpu: Option<u32>,
    /// Memory in MiB, instead of the template's.
    #[cfg_attr(feature = "contract", schemars(range(min = *super::fields::MEMORY_MIB.start(), max = *super::fields::MEMORY_MIB.end())))]
    pub memory: Option<u32>,
    /// Disk in GiB, instead of the template's; a disk only grows.
    #[cfg_attr(feature = "contract", schemars(range(min = 1, max = super::fields::DISK_GIB)))]
    pub disk: Option<u32>,
}

impl CreateRequest {
    /// Refuses a request that cannot be served, before anything is asked of the provider.
    pub fn check(&self, provider: ProviderName, limits: &Limits) -> Result<(), Error> {
        let mut errors = Vec::new();
        let mut refuse = |field: &str, fix: &str| errors.push((field.to_owned(), fix.to_owned()));
        let sources = [self.snapshot_id.is_some(), self.preset.is_some(), self.template_vmid.is_some()];
        if sources.iter().filter(|it| **it).count() > 1 {
            refuse("snapshotId", "only one of snapshotId, preset and templateVmid");
        }
        let morph = provider == ProviderName::Morph;
        if self.snapshot_id.as_ref().is_some_and(|it| it.is_morph() != morph) {
            let run = if morph { "morph_… and snapshot_… are" } else { "pvelxc_… and pvevm_… are" };
            refuse("snapshotId", &format!("is of a provider that this deployment does not run; {run}"));
        }
        if morph && self.template_vmid.is_some() {
            refuse("templateVmid", "is of PVE: take snapshotId or preset");
        }
        errors.extend(size_errors(self.cpu, self.memory, self.disk));
        errors.extend(self.name.iter().flat_map(|it| name_errors(it)));
        errors.extend(self.env.errors(&self.metadata));
        if !errors.is_empty() {
            return Err(Error::fields(errors));
        }
        Metadata::check(&self.metadata)?;
        self.ttl(limits).map(|_| ())
    }

    /// Time to live that was asked for, or the default.
    pub fn ttl(&self, limits: &Limits) -> Result<Ttl, Error> {
        match self.ttl_seconds {
            None => Ok(Ttl::default(limits)),
            Some(seconds) => Ttl::parse(seconds, limits),
        }
    }

    /// Text of the request that is the same however its JSON was spelled.
    pub fn canonical(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// Idempotency-Key of a request: its hash, which draws VMIDs and stands in tags, and the hashes of the request (rule S2.7).
pub(crate) struct Key {
    pub(crate) hash: KeyHash,
    /// HMAC of the request under each secret of `EDGE_SECRET`, the newest first.
    pub(crate) request_hashes: Vec<String>,
}

impl Key {
    /// The key for one `kind` of requests; `canonical` is the request's text, however it was spelled.
    pub(crate) fn new(
        secrets: &Keyring,
        deployment: &Label,
        caller: &Caller,
        kind: &str,
        key: &str,
        canonical: &str,
    ) -> Self {
        let mut hasher = Sha256::new();
        for part in [kind, &**deployment, caller.team.as_str(), key] {
            hasher.update((part.len() as u64).to_be_bytes());
            hasher.update(part.as_bytes());
        }
        let [a, b, c, d, e, ..] = <[u8; 32]>::from(hasher.finalize());
        Self { hash: KeyHash([a, b, c, d, e]), request_hashes: secrets.request_hashes(canonical) }
    }

    /// Hash of the request that a mark keeps.
    pub(crate) fn request_hash(&self) -> Option<String> {
        self.request_hashes.first().cloned()
    }

    /// Refuses a key that was used for another request, whose hash a mark keeps.
    pub(crate) fn check(&self, kept: Option<&str>) -> Result<(), Error> {
        match kept {
            Some(kept) if !self.request_hashes.iter().any(|it| it == kept) => Err(Error::new(
                Code::IdempotencyConflict,
                "this Idempotency-Key made something from another request; use a new key for a new request",
            )),
            _ => Ok(()),
        }
    }
}

/// Hash of an Idempotency-Key, of which 40 bits are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyHash(pub [u8; 5]);

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base32(&self.0))
    }
}

impl FromStr for KeyHash {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = from_base32(text).ok_or("a key hash is base32")?;
        bytes.try_into().map(Self).map_err(|_| "a key hash is 8 characters")
    }
}

impl TryFrom<String> for KeyHash {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<KeyHash> for String {
    fn from(hash: KeyHash) -> Self {
        hash.to_string()
    }
}
