//! Versions of presets: one template's each.
//!
//! The tag by which a version is found comes last, when the template is made (rule S8.4). The index keeps the
//! number until then, so that whoever draws one sees it.

use crate::{
    error::Error,
    io::Io,
    pve::{
        cluster::Cluster,
        inventory::Inventory,
        marks::{self, Mark},
    },
    sandbox::{
        id::SourceId,
        preset::{PresetId, ProviderName, SnapshotId},
        vmid::Vmid,
    },
};

/// The version after all that are taken.
pub(crate) fn next_version<I: Io>(
    cluster: &Cluster<'_, I>,
    inventory: &Inventory,
    provider: ProviderName,
    preset: &PresetId,
) -> SnapshotId {
    let of_preset = |it: &SnapshotId| it.provider == provider && it.preset == *preset;
    let versions =
        taken_versions(cluster, inventory).map(|(_, it)| it).filter(of_preset).map(|it| it.version);
    let last = versions.max().unwrap_or(0);
    SnapshotId { provider, preset: preset.clone(), version: last.saturating_add(1) }
}

/// Another version for a template whose own somebody has drawn at the same time. Whoever looks after it wrote
/// its own and sees no other has it alone: the other one writes later, and looks after that (rule S8.4).
pub(super) async fn another_version<I: Io>(
    cluster: &Cluster<'_, I>,
    mark: &Mark,
) -> Result<Option<SourceId>, Error> {
    let Some(own) = mark.snapshot.as_ref().and_then(SourceId::preset) else { return Ok(None) };
    let inventory = Inventory::read(cluster).await?;
    let rivals: Vec<Vmid> = taken_versions(cluster, &inventory)
        .filter(|(vmid, it)| it == own && *vmid != mark.vmid)
        .map(|(vmid, _)| vmid)
        .collect();
    if rivals.is_empty() {
        return Ok(None);
    }
    let mut version = next_version(cluster, &inventory, own.provider, &own.preset);
    // They look at the same moment: each takes a step of its own.
    let before = rivals.iter().filter(|it| **it < mark.vmid).count();
    version.version = version.version.saturating_add(u32::try_from(before).unwrap_or(0));
    Ok(Some(SourceId::Preset(version)))
}

/// Whose, and which; a sandbox carries its template's tags until it is committed.
fn taken_versions<'a, I: Io>(
    cluster: &'a Cluster<'_, I>,
    inventory: &'a Inventory,
) -> impl Iterator<Item = (Vmid, SnapshotId)> + 'a {
    let guests = inventory.guests.iter().filter(|it| !cluster.settings.vmid_range.contains(it.vmid));
    guests.filter_map(|it| Some((it.vmid, marks::version(it.vmid, it.tags())?)))
}
