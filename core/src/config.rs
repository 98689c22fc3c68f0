//! `GET /api/config/sandbox`: what a client may ask for.

use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    address::{SERVICES, any_port_url},
    create::default_preset,
    edge::Edge,
    error::Error,
    inventory::Inventory,
    io::Io,
    preset::{PresetId, Provider, SnapshotId},
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

/// The answer, from one listing.
pub async fn config<I: Io>(edge: &Edge<'_, I>) -> Result<Value, Error> {
    let inventory = Inventory::read(edge).await?;
    inventory.believe(edge).await?;
    let templates = inventory.templates(edge.settings);
    let mut presets: Vec<Preset> = Vec::new();
    let mut ids: Vec<&SnapshotId> = Vec::new();
    let provider = edge.settings.provider;
    for id in templates.iter().filter_map(|it| it.snapshot.as_ref()).filter(|it| it.provider == provider) {
        if let Err(at) = ids.binary_search(&id) {
            ids.insert(at, id);
        }
    }
    for id in ids {
        let version = Version { version: id.version, snapshot_id: id.clone() };
        // Sorted: a preset's versions follow each other.
        match presets.last_mut().filter(|it| it.preset_id == id.preset) {
            Some(preset) => preset.versions.push(version),
            None => {
                let sizes = id.preset.sizes();
                presets.push(Preset {
                    preset_id: id.preset.clone(),
                    label: id.preset.label(),
                    cpu: sizes.map(|it| it.cores),
                    memory: sizes.map(|it| it.memory_mib),
                    disk: sizes.map(|it| it.disk_gib),
                    versions: vec![version],
                });
            }
        }
    }
    let services: Vec<Value> =
        SERVICES.iter().map(|(name, port)| json!({"name": name, "port": port})).collect();
    Ok(json!({
        "provider": provider.name(),
        "providerDisplayName": provider.display_name(),
        "capabilities": {
            "exec": true,
            // A VM's agent tells the output when the command has ended.
            "streamingExec": edge.platform.streams && provider != Provider::PveVm,
            "metadata": true,
            "ttl": true,
            "hibernate": provider == Provider::PveVm,
            "gpu": false,
        },
        "presets": presets,
        "defaultPresetId": default_preset(&templates, provider).map(|it| it.preset),
        "services": services,
        // Of any port; without a domain the services of a sandbox tell.
        "portUrl": edge.settings.public_domain.as_ref().map(any_port_url),
        "serverOrigin": edge.settings.server_origin,
    }))
}
