//! The offer: what `GET /api/config/sandbox` says that a client may ask for.

use serde::Serialize;
use serde_json::{Value, json};

use super::{
    address::{Domain, SERVICES, any_port_url},
    preset::{PresetId, ProviderName, SnapshotId, default_preset},
};

/// A preset with all its versions, the newest last.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Preset {
    preset_id: PresetId,
    label: String,
    /// Cores.
    cpu: Option<u32>,
    /// MiB.
    memory: Option<u32>,
    /// GiB.
    disk: Option<u32>,
    versions: Vec<Version>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    version: u32,
    snapshot_id: SnapshotId,
}

/// What is offered when these versions of presets are.
pub(crate) fn report(
    provider: ProviderName,
    streams: bool,
    domain: Option<&Domain>,
    server_origin: Option<&str>,
    mut ids: Vec<SnapshotId>,
) -> Value {
    ids.sort_unstable();
    ids.dedup();
    let default = default_preset(ids.iter()).map(|it| it.preset);
    let mut presets: Vec<Preset> = Vec::new();
    for id in ids {
        let version = Version { version: id.version, snapshot_id: id.clone() };
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
    let services: Vec<Value> = SERVICES
        .iter()
        // Commands come by Morph's own way.
        .filter(|(name, _)| provider != ProviderName::Morph || *name != "exec")
        .map(|(name, port)| json!({"name": name, "port": port}))
        .collect();
    // Morph gives an address to ports that were exposed alone.
    let domain = domain.filter(|_| provider != ProviderName::Morph);
    json!({
        "provider": provider.name(),
        "providerDisplayName": provider.display_name(),
        "capabilities": capabilities(provider, streams),
        "presets": presets,
        "defaultPresetId": default,
        "services": services,
        // Of any port; without a domain the services of a sandbox tell.
        "portUrl": domain.map(any_port_url),
        "serverOrigin": server_origin,
    })
}

/// What sandboxes of a provider can do, by name: containers, VMs, Morph.
const CAPABILITIES: [(&str, [bool; 3]); 8] = [
    ("exec", [true, true, true]),
    // A VM's agent tells the output when the command has ended.
    ("streamingExec", [true, false, true]),
    ("metadata", [true, true, true]),
    ("ttl", [true, true, true]),
    ("hibernate", [false, true, true]),
    ("snapshots", [true, true, true]),
    ("rollback", [true, true, false]),
    ("gpu", [false, false, false]),
];

fn capabilities(provider: ProviderName, streams: bool) -> Value {
    let of = |[lxc, vm, morph]: [bool; 3]| match provider {
        ProviderName::PveLxc => lxc,
        ProviderName::PveVm => vm,
        ProviderName::Morph => morph,
    };
    let can = |(name, row): (&str, _)| {
        (name.to_owned(), Value::Bool(of(row) && (streams || name != "streamingExec")))
    };
    Value::Object(CAPABILITIES.into_iter().map(can).collect())
}
