//! The offer of a deployment: presets, services and capabilities that a client may ask for.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    address::{Domain, SERVICES, any_port_url},
    preset::{PresetId, ProviderName, SnapshotId, default_preset},
};

/// Offer of a deployment: presets, services and capabilities that a client may ask for.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Offer {
    /// Capabilities of sandboxes, by name, such as `snapshots`.
    #[cfg_attr(feature = "contract", schemars(with = "BTreeMap<String, bool>"))]
    pub capabilities: BTreeMap<&'static str, bool>,
    /// Id of the preset that a creation without a source takes; null: there is none.
    pub default_preset_id: Option<PresetId>,
    /// URL of any port of a sandbox, in which {port} and {vmid} are to be replaced; null without PVE_PUBLIC_DOMAIN, and
    /// of Morph.
    pub port_url: Option<String>,
    /// Presets with all their versions.
    pub presets: Vec<Preset>,
    /// Provider of the sandboxes: `pve-lxc`, `pve-vm` or `morph`.
    #[cfg_attr(feature = "contract", schemars(with = "ProviderName"))]
    pub provider: &'static str,
    /// Name of the provider for people.
    pub provider_display_name: &'static str,
    /// Origin of the global Socket.IO server; null: not set.
    pub server_origin: Option<String>,
    /// Services of each sandbox.
    pub services: Vec<OfferedService>,
}

/// A preset with all its versions.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Preset {
    /// Number of cores; null: the template's.
    pub cpu: Option<u32>,
    /// Disk in GiB; null: the template's.
    pub disk: Option<u32>,
    /// Description of the preset for people.
    pub label: String,
    /// Memory in MiB; null: the template's.
    pub memory: Option<u32>,
    /// Id of the preset.
    pub preset_id: PresetId,
    /// Versions of the preset, the newest last.
    pub versions: Vec<PresetVersion>,
}

/// A version of a preset.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct PresetVersion {
    /// Id of the version, for `POST /api/sandboxes`.
    pub snapshot_id: SnapshotId,
    /// Number of the version.
    #[cfg_attr(feature = "contract", schemars(range(min = 1)))]
    pub version: u32,
}

/// Service that each sandbox has.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
pub struct OfferedService {
    /// Name of the service.
    pub name: &'static str,
    /// Port in the guest.
    pub port: u16,
}

impl Offer {
    /// The offer of a deployment that has these versions of presets.
    pub(crate) fn new(
        provider: ProviderName,
        (streams, is_gateway): (bool, bool),
        domain: Option<&Domain>,
        server_origin: Option<&str>,
        versions: Vec<SnapshotId>,
    ) -> Self {
        // Morph gives addresses only to ports that were exposed, and has a call of its own for commands.
        let is_pve = provider != ProviderName::Morph;
        let services = SERVICES.iter().filter(|(name, _)| is_pve || *name != "exec");
        Self {
            capabilities: capabilities(provider, streams, is_gateway && domain.is_some()),
            default_preset_id: default_preset(versions.iter()).map(|it| it.preset),
            port_url: domain.filter(|_| is_pve).map(any_port_url),
            presets: presets(versions),
            provider: provider.name(),
            provider_display_name: provider.display_name(),
            server_origin: server_origin.map(str::to_owned),
            services: services.map(|(name, port)| OfferedService { name, port: *port }).collect(),
        }
    }
}

/// The presets of these versions.
fn presets(mut versions: Vec<SnapshotId>) -> Vec<Preset> {
    versions.sort_unstable();
    versions.dedup();
    let mut presets: Vec<Preset> = Vec::new();
    for id in versions {
        let version = PresetVersion { version: id.version, snapshot_id: id.clone() };
        // Sorted: a preset's versions follow each other.
        match presets.last_mut().filter(|it| it.preset_id == id.preset) {
            Some(preset) => preset.versions.push(version),
            None => {
                let sizes = id.preset.sizes();
                presets.push(Preset {
                    label: id.preset.label(),
                    cpu: sizes.map(|it| it.cores),
                    memory: sizes.map(|it| it.memory_mib),
                    disk: sizes.map(|it| it.disk_gib),
                    preset_id: id.preset,
                    versions: vec![version],
                });
            }
        }
    }
    presets
}

/// Capabilities by name, of containers, VMs and Morph.
const CAPABILITIES: [(&str, [bool; 3]); 9] = [
    ("exec", [true, true, true]),
    // A VM's agent gives the output only when the command has ended.
    ("streamingExec", [true, false, true]),
    // Morph has one of its own.
    ("gateway", [true, true, false]),
    ("metadata", [true, true, true]),
    ("ttl", [true, true, true]),
    ("hibernate", [false, true, true]),
    ("snapshots", [true, true, true]),
    ("rollback", [true, true, false]),
    ("gpu", [false, false, false]),
];

fn capabilities(provider: ProviderName, streams: bool, is_gateway: bool) -> BTreeMap<&'static str, bool> {
    let of = |[lxc, vm, morph]: [bool; 3]| match provider {
        ProviderName::PveLxc => lxc,
        ProviderName::PveVm => vm,
        ProviderName::Morph => morph,
    };
    CAPABILITIES
        .into_iter()
        .map(|(name, row)| {
            let is_there = match name {
                "streamingExec" => streams,
                "gateway" => is_gateway,
                _ => true,
            };
            (name, of(row) && is_there)
        })
        .collect()
}
