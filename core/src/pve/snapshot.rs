//! Snapshots: templates made of a sandbox, which goes on and is outlived by them.
//!
//! A snapshot of PVE, a clone of it, and that clone made a template (rule S8.1). As with sandboxes the clone
//! carries the intent, and whoever asks next, or the sweep, does the next missing thing.

pub mod keep;
mod take;

use super::{
    cluster::Cluster,
    guest::write::{Attempts, write},
    inventory::{Guest, Inventory},
    marks::{Mark, Phase, Want, What},
    template::{Advanced, advance, find},
};
use crate::{
    access::keys::Caller,
    error::{Code, Error},
    io::{Io, deadline::Deadline},
    sandbox::{
        id::{SandboxId, SourceId},
        patch::Patch,
        snapshot::{ShownSnapshot, Snapshot, Status},
    },
    text::rfc3339::stamp,
};
use std::collections::BTreeMap;

pub use self::take::take;
pub use super::template::delete as remove;

/// A snapshot whose first disk is being copied: nothing else is told yet.
fn show_unknown(caller: &Caller, id: &SandboxId) -> Snapshot {
    Snapshot {
        snapshot_id: id.to_string(),
        status: Status::Pending,
        source_id: None,
        preset_id: None,
        version: None,
        name: None,
        team: Some(caller.team.to_string()),
        metadata: BTreeMap::new(),
        created_at: Some(stamp(id.nonce.birth())),
        template_vmid: Some(id.vmid),
        problem: None,
    }
}

/// The snapshot that a mark is about.
fn snapshot_of(mark: &Mark, status: Status) -> Snapshot {
    let preset = mark.snapshot.as_ref().and_then(SourceId::preset);
    Snapshot {
        snapshot_id: mark.id().to_string(),
        status: if mark.phase == Phase::Error { Status::Error } else { status },
        source_id: mark.source.as_ref().map(ToString::to_string),
        preset_id: preset.map(|it| it.preset.clone()),
        version: preset.map(|it| it.version),
        name: mark.name.clone(),
        team: Some(mark.team.clone()),
        metadata: mark.metadata.clone(),
        created_at: Some(stamp(mark.birth())),
        template_vmid: Some(mark.vmid),
        problem: mark.problem.clone(),
    }
}

/// The snapshots and presets that the caller can make sandboxes from, from one listing.
pub async fn list<I: Io>(cluster: &Cluster<'_, I>, caller: &Caller) -> Result<Vec<Snapshot>, Error> {
    let inventory = Inventory::read(cluster).await?;
    inventory.believe(cluster).await?;
    let mine = |guest: &Guest| {
        let mark = &guest.snapshot.as_ref()?.mark;
        let seen = mark.is_seen_by(caller, &cluster.settings.deployment) && mark.want != Want::Gone;
        // The listing's own flag is late, and may be another guest's of that VMID.
        let ready = !mark.is_doing(What::Template) && !guest.is_unoffered();
        let status = if ready { Status::Ready } else { Status::Pending };
        seen.then(|| snapshot_of(mark, status))
    };
    let mut all: Vec<Snapshot> = inventory.guests.iter().filter_map(mine).collect();
    let mut presets = inventory.templates(cluster.settings);
    // Another team's template is a preset as well.
    presets.retain(|it| {
        it.own.as_ref().is_none_or(|mark| !mark.is_seen_by(caller, &cluster.settings.deployment))
    });
    all.extend(presets.into_iter().filter_map(|it| {
        let id = it.snapshot?;
        Some(Snapshot {
            snapshot_id: id.to_string(),
            status: Status::Ready,
            source_id: None,
            preset_id: Some(id.preset),
            version: Some(id.version),
            name: None,
            team: None,
            metadata: BTreeMap::new(),
            created_at: None,
            template_vmid: Some(it.vmid),
            problem: None,
        })
    }));
    Ok(all)
}

/// Reads one snapshot; one that is still being made is carried on.
pub async fn get<I: Io>(
    cluster: &Cluster<'_, I>,
    caller: &Caller,
    id: &SandboxId,
    deadline: Deadline<'_, I>,
) -> Result<ShownSnapshot, Error> {
    let found = match find(cluster, caller, id).await {
        // PVE copies the first disk: nothing tells its name and metadata yet.
        Err(error) if error.code() == Code::StillCreating => {
            return Ok(ShownSnapshot { snapshot: show_unknown(caller, id), etag: None });
        }
        found => found?,
    };
    let Advanced { mark, ready, .. } = advance(cluster, found, deadline).await?;
    Ok(show(&mark, ready))
}

fn show(mark: &Mark, is_ready: bool) -> ShownSnapshot {
    let status = if is_ready { Status::Ready } else { Status::Pending };
    ShownSnapshot { snapshot: snapshot_of(mark, status), etag: Some(mark.etag()) }
}

/// Changes name and metadata, if the snapshot is still what `if_match` names.
pub async fn patch<I: Io>(
    cluster: &Cluster<'_, I>,
    caller: &Caller,
    id: &SandboxId,
    patch: &Patch,
    if_match: Option<&str>,
) -> Result<ShownSnapshot, Error> {
    patch.check_timeless()?;
    let mut attempts = Attempts::default();
    loop {
        let found = find(cluster, caller, id).await?;
        if found.mark.phase == Phase::Claimed {
            let text = format!("{id} is still being made; ask again");
            return Err(Error::new(Code::StillCreating, text).retry_after(3));
        }
        let ready = found.config.template == Some(true);
        match write(cluster, &found, &|mark| mark.patch(patch, if_match)).await? {
            Ok(mark) => return Ok(show(&mark, ready)),
            Err(unwritten) => attempts.count(unwritten, id)?,
        }
    }
}
