//! Snapshots: templates made of a sandbox, which goes on and is outlived by them.
//!
//! A snapshot of PVE, a clone of it, and that clone made a template. As with
//! sandboxes the clone carries the intent, and whoever asks next, or the
//! sweep, does the next missing thing.

mod advance;
pub mod keep;
mod take;
pub(crate) mod version;

use super::{
    api::{PveError, config::Config},
    change::etag,
    cluster::Cluster,
    guest::{
        commit::{self, Unwritten},
        place::may,
    },
    inventory::{Guest, Inventory},
    marks::{self, Mark, Phase, Reading, Role, Want, What},
    remove::destroy,
    template::admins_only,
};
use crate::pve::change::named;
use crate::sandbox::snapshot::{Snapshot, Status};
use crate::{
    access::keys::Caller,
    error::{Code, Error},
    io::Io,
    sandbox::{
        id::{SandboxId, SourceId},
        patch::{Patch, unchanged},
    },
    text::rfc3339::stamp,
};
use std::{collections::BTreeMap, time::Duration};

use time::OffsetDateTime;

pub(crate) use self::take::{free, no_vmid};
pub use self::{
    advance::{Advanced, advance},
    take::take,
};

/// A snapshot whose first disk is being copied: nothing else is told yet.
fn unknown(caller: &Caller, id: &SandboxId) -> Snapshot {
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
fn of(mark: &Mark, status: Status) -> Snapshot {
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
        let seen = may(caller, mark, &cluster.settings.deployment) && mark.want != Want::Gone;
        // The listing's own flag is late, and may be another guest's of that VMID.
        let ready = !mark.is_doing(What::Template) && !guest.is_unoffered();
        let status = if ready { Status::Ready } else { Status::Pending };
        seen.then(|| of(mark, status))
    };
    let mut all: Vec<Snapshot> = inventory.guests.iter().filter_map(mine).collect();
    let mut presets = inventory.templates(cluster.settings);
    // Another team's template is a preset as well.
    presets.retain(|it| it.own.as_ref().is_none_or(|mark| !may(caller, mark, &cluster.settings.deployment)));
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

/// One snapshot; one that is still being made is carried on.
pub async fn get<I: Io>(
    cluster: &Cluster<'_, I>,
    caller: &Caller,
    id: &SandboxId,
    deadline: OffsetDateTime,
) -> Result<(Snapshot, Option<Mark>), Error> {
    let (node, config, mark) = match find(cluster, caller, id).await {
        // PVE copies the first disk: nothing tells its name and metadata yet.
        Err(error) if error.code() == Code::StillCreating => {
            return Ok((unknown(caller, id), None));
        }
        found => found?,
    };
    let Advanced { mark, ready, .. } = advance(cluster, &node, config, mark, deadline).await?;
    Ok((of(&mark, if ready { Status::Ready } else { Status::Pending }), Some(mark)))
}

/// Changes name and metadata, if the snapshot is still what `if_match` names.
pub async fn patch<I: Io>(
    cluster: &Cluster<'_, I>,
    caller: &Caller,
    id: &SandboxId,
    patch: &Patch,
    if_match: Option<&str>,
) -> Result<(Snapshot, Mark), Error> {
    patch.check_timeless()?;
    let mut last = Unwritten::default();
    for _ in 0..5 {
        let (node, config, mark) = find(cluster, caller, id).await?;
        if mark.phase == Phase::Claimed {
            return Err(Error::new(Code::StillCreating, format!("{id} is still being made; ask again"))
                .retry_after(3));
        }
        let ready = config.template == Some(true);
        let apply = |mark: &mut Mark| named(patch, mark, if_match);
        match commit::write(cluster, &node, &config, &mark, &apply).await? {
            Ok(mark) => {
                return Ok((of(&mark, if ready { Status::Ready } else { Status::Pending }), mark));
            }
            Err(unwritten) => last = unwritten,
        }
    }
    Err(last.told(id))
}

/// Deletes a snapshot; one that sandboxes are linked to is refused whole by PVE.
pub async fn remove<I: Io>(
    cluster: &Cluster<'_, I>,
    caller: &Caller,
    id: &SandboxId,
    if_match: Option<&str>,
    deadline: OffsetDateTime,
) -> Result<bool, Error> {
    let (node, config, mark) = find(cluster, caller, id).await?;
    unchanged(if_match, &etag(&mark))?;
    if mark.base.is_some() || mark.snapshot.as_ref().is_some_and(|it| it.preset().is_some()) {
        admins_only(caller)?;
    }
    if let Some(lock) = &config.lock {
        return Err(crate::pve::guest::commit::locked(lock, &mark));
    }
    let task = match destroy(cluster, &node, &config, &mark).await {
        Ok(task) => task,
        Err(error) if error.is_digest_mismatch() || error.is_protected() => {
            return Err(
                Error::new(Code::Conflict, format!("{id} is being changed; ask again")).retry_after(1)
            );
        }
        Err(error) if error.is_in_use() => {
            protect(cluster, &node, &mark).await;
            return Err(in_use(&error));
        }
        Err(error) => return Err(error.into()),
    };
    // However short the caller waits: one that is in use is protected again.
    match crate::pve::guest::wait::wait(cluster, &task, deadline.max(cluster.deadline(REFUSED))).await {
        None => Ok(false),
        Some(Ok(())) => Ok(true),
        Some(Err(why)) if why.is_in_use() => {
            protect(cluster, &node, &mark).await;
            Err(in_use(&why))
        }
        Some(Err(why)) => Err(why.problem(Code::TaskFailed, "PVE could not delete it")),
    }
}

/// Its protection was taken off to delete it, and it stays: a change of nothing puts it back.
async fn protect<I: Io>(cluster: &Cluster<'_, I>, node: &str, mark: &Mark) {
    let _ = commit::change(cluster, node, mark.clone(), &|_| Ok(())).await;
}

/// For so long a VM's first disk may be copied.
const COPY_SECONDS: i64 = 3600;

/// By then PVE has said that a template is in use.
const REFUSED: Duration = Duration::from_secs(5);

fn in_use(why: &PveError) -> Error {
    let text = format!("{why}: delete the sandboxes that were made from it first; nothing was deleted");
    Error::new(Code::SnapshotInUse, text)
}

/// Finds a snapshot and proves that it is the caller's.
pub(crate) async fn find<I: Io>(
    cluster: &Cluster<'_, I>,
    caller: &Caller,
    id: &SandboxId,
) -> Result<(String, Config, Mark), Error> {
    let absent = || Error::new(Code::NotFound, format!("there is no snapshot {id}"));
    let mut node = id.node.clone();
    let mut config = None;
    if !node.is_empty() {
        config = cluster.send(cluster.pve.guest(&node, id.kind(), id.vmid).config()).await.ok();
    }
    if config.is_none() {
        let inventory = Inventory::read(cluster).await?;
        // A guest of another kind of that number is a stranger.
        let guest = inventory.guest(id.vmid).filter(|it| it.kind == id.kind());
        let Some(guest) = guest else {
            inventory.believe(cluster).await?;
            return Err(absent());
        };
        guest.row.node.clone_into(&mut node);
        config = Some(cluster.send(cluster.pve.guest(&node, id.kind(), id.vmid).config()).await?);
    }
    let config = config.ok_or_else(absent)?;
    let age = (cluster.now() - id.nonce.birth()).whole_seconds();
    if config.is_unknown_yet() && (0..COPY_SECONDS).contains(&age) {
        let text = format!("PVE copies the disk of {id} and tells nothing else yet; ask again");
        return Err(Error::new(Code::StillCreating, text).retry_after(5));
    }
    match marks::read(id.vmid, config.tags.as_deref(), config.description.as_deref()) {
        Reading::Intent(mark) | Reading::Committed(mark)
            if mark.nonce == id.nonce
                && mark.role == Role::Template
                && mark.want != Want::Gone
                && may(caller, &mark, &cluster.settings.deployment) =>
        {
            Ok((node, config, mark))
        }
        _ => Err(absent()),
    }
}
