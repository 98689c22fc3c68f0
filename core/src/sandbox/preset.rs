//! Names of providers, presets, and ids of presets' versions.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Name of a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProviderName {
    /// A PVE container.
    PveLxc,
    /// A PVE virtual machine.
    PveVm,
    /// A virtual machine of Morph Cloud.
    Morph,
}

#[cfg(feature = "contract")]
schema!(ProviderName as "Provider", {
    "type": "string",
    "description": "Provider of sandboxes: containers of PVE, virtual machines of PVE, or Morph Cloud.",
    "enum": ProviderName::ALL.map(ProviderName::name)
});

impl ProviderName {
    /// All providers.
    pub const ALL: [Self; 3] = [Self::PveLxc, Self::PveVm, Self::Morph];

    /// Name of the provider in settings and answers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PveLxc => "pve-lxc",
            Self::PveVm => "pve-vm",
            Self::Morph => "morph",
        }
    }

    /// First word of the provider's ids.
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::PveLxc => "pvelxc",
            Self::PveVm => "pvevm",
            Self::Morph => "morph",
        }
    }

    /// Name of the provider for people.
    pub const fn display_name(self) -> &'static str {
        match self {
            Self::PveLxc => "Proxmox LXC",
            Self::PveVm => "Proxmox VM",
            Self::Morph => "Morph Cloud",
        }
    }

    /// Finds the provider by its [`ProviderName::prefix`].
    pub fn from_prefix(prefix: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.prefix() == prefix)
    }
}

impl FromStr for ProviderName {
    type Err = &'static str;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|it| it.name() == name).ok_or("pve-lxc, pve-vm or morph")
    }
}

/// Id of a preset, such as `4vcpu_6gb_32gb`: three words of letters and digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PresetId(String);

#[cfg(feature = "contract")]
schema!(PresetId {
    "type": "string",
    "description": "Id of a preset, such as `4vcpu_6gb_32gb`.",
    "pattern": "^[0-9A-Za-z]+_[0-9A-Za-z]+_[0-9A-Za-z]+$",
    "maxLength": 64
});

/// Sizes that the id of a preset names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Number of cores.
    pub cores: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Disk in GiB.
    pub disk_gib: u32,
}

impl PresetId {
    /// Sizes that the id names: `4vcpu_6gb_32gb` has 4 cores, 6 GiB and 32 GiB; other ids have none.
    pub fn sizes(&self) -> Option<Sizes> {
        let mut words = self.0.split('_');
        let mut number = |unit| words.next()?.strip_suffix(unit)?.parse::<u32>().ok().filter(|it| *it > 0);
        let (cores, memory, disk) = (number("vcpu")?, number("gb")?, number("gb")?);
        Some(Sizes { cores, memory_mib: memory.checked_mul(1024)?, disk_gib: disk })
    }

    /// Description of the preset for people.
    pub fn label(&self) -> String {
        match self.sizes() {
            Some(Sizes { cores, memory_mib, disk_gib }) => {
                format!("{cores} vCPU, {} GB memory, {disk_gib} GB disk", memory_mib / 1024)
            }
            None => self.0.clone(),
        }
    }
}

impl fmt::Display for PresetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for PresetId {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let words: Vec<&str> = text.split('_').collect();
        let is_word = |it: &&str| !it.is_empty() && it.bytes().all(|it| it.is_ascii_alphanumeric());
        if words.len() == 3 && words.iter().all(is_word) && text.len() <= 64 {
            Ok(Self(text.to_ascii_lowercase()))
        } else {
            Err("a preset id is CPU_MEMORY_DISK, such as 4vcpu_6gb_32gb")
        }
    }
}

/// Id of a preset's version, such as `pvelxc_4vcpu_6gb_32gb_v1`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SnapshotId {
    /// Provider of the preset.
    pub provider: ProviderName,
    /// Id of the preset.
    pub preset: PresetId,
    /// Number of the version, from 1.
    pub version: u32,
}

#[cfg(feature = "contract")]
schema!(SnapshotId {
    "type": "string",
    "description": "Id of a preset's version, such as `pvelxc_4vcpu_6gb_32gb_v1`.",
    "pattern": "^(pvelxc|pvevm|morph)_[0-9a-z]+_[0-9a-z]+_[0-9a-z]+_v[1-9][0-9]{0,8}$"
});

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}_v{}", self.provider.prefix(), self.preset, self.version)
    }
}

impl FromStr for SnapshotId {
    type Err = &'static str;

    /// Parses an id; the older form `pve_{preset}_{vmid}` is the container preset's version 1.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const BAD: &str = "a snapshot id is PROVIDER_PRESET_vN, such as pvelxc_4vcpu_6gb_32gb_v1";
        let lower = text.to_ascii_lowercase();
        let (prefix, rest) = lower.split_once('_').ok_or(BAD)?;
        let (preset, last) = rest.rsplit_once('_').ok_or(BAD)?;
        let preset = preset.parse().map_err(|_| BAD)?;
        let number = |digits: &str| {
            let plain = digits.bytes().all(|it| it.is_ascii_digit()) && !digits.starts_with('0');
            digits.parse::<u32>().ok().filter(|_| plain)
        };
        if prefix == "pve" {
            return number(last)
                .map(|_| Self { provider: ProviderName::PveLxc, preset, version: 1 })
                .ok_or(BAD);
        }
        let provider = ProviderName::from_prefix(prefix).ok_or(BAD)?;
        let version = last.strip_prefix('v').and_then(number).ok_or(BAD)?;
        Ok(Self { provider, preset, version })
    }
}

macro_rules! as_text {
    ($name:ident) => {
        impl TryFrom<String> for $name {
            type Error = &'static str;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(it: $name) -> Self {
                it.to_string()
            }
        }
    };
}

as_text!(PresetId);
as_text!(SnapshotId);

/// Chooses the default among versions of presets: the newest version of the smallest preset.
pub(crate) fn default_preset<'a>(ids: impl Iterator<Item = &'a SnapshotId>) -> Option<SnapshotId> {
    ids.min_by_key(|it| {
        let sizes = it.preset.sizes().map(|it| (it.cores, it.memory_mib, it.disk_gib));
        (sizes.is_none(), sizes, it.preset.to_string(), u32::MAX - it.version)
    })
    .cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ids of snapshots at the edges of their form.
    #[test]
    fn parse_snapshot_id_edge_cases() {
        let parsed = |text: &str| text.parse::<SnapshotId>().map(|it| it.to_string()).ok();
        let same = "pvelxc_4vcpu_6gb_32gb_v1";
        assert_eq!(parsed(same).as_deref(), Some(same));
        assert_eq!(parsed("PVELXC_4vCPU_6GB_32GB_V12").as_deref(), Some("pvelxc_4vcpu_6gb_32gb_v12"));
        assert_eq!(parsed("pve_4vcpu_6gb_32gb_9011").as_deref(), Some(same));
        assert_eq!(parsed("morph_4vcpu_16gb_48gb_v3").as_deref(), Some("morph_4vcpu_16gb_48gb_v3"));
        for bad in [
            "",
            "pvelxc",
            "pvelxc_4vcpu_6gb_32gb",
            "pvelxc_4vcpu_6gb_v1",
            "pvelxc_4vcpu_6gb_32gb_v0",
            "pvelxc_4vcpu_6gb_32gb_v01",
            "pvelxc_4vcpu_6gb_32gb_v-1",
            "pvelxc_4vcpu_6gb_32gb_x_v1",
            "docker_4vcpu_6gb_32gb_v1",
            "pvelxc_4vcpu__32gb_v1",
            "pvelxc_4vcpu_6gb_32gb_v99999999999",
            "pvelxc_4vcpu_6gb_32gb_v1 ",
            "pve_4vcpu_6gb_32gb_v1",
        ] {
            assert_eq!(parsed(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_presets_name_tells_its_sizes() {
        let sizes = |text: &str| text.parse::<PresetId>().unwrap().sizes();
        assert_eq!(sizes("4vcpu_6gb_32gb"), Some(Sizes { cores: 4, memory_mib: 6144, disk_gib: 32 }));
        assert_eq!(sizes("small_warm_fast"), None);
        assert_eq!(sizes("0vcpu_6gb_32gb"), None);
    }
}
