//! Snapshots that stay on their sandbox, to roll it back to.
//!
//! PVE keeps them, with name and metadata in their own description; which of
//! PVE's snapshots are ours, and since when, their names tell.

use serde_json::{Value, json};
use time::OffsetDateTime;

use super::take::supported;
use crate::{
    access::keys::Caller,
    error::{Code, Error},
    io::{Io, deadline::Deadline},
    pve::{
        api::perl,
        cluster::Cluster,
        guest::{
            Located,
            located::locate,
            needs::{Need, awake, refuse_begun, refuse_condemned},
            wait::wait,
            write::change,
        },
        marks::{Doing, What},
    },
    sandbox::{
        id::{Kind, SandboxId},
        nonce::Nonce,
        snapshot::{KeptSnapshot, KeptStatus, SnapshotRequest},
        vmid::Vmid,
    },
    settings::Settings,
    text::rfc3339::stamp,
};

/// Before the nonce in PVE's name of one that is kept, and of one that a template is made of.
const KEPT: &str = "kept";
pub(super) const PASSING: &str = "edge";
/// More make a sandbox slow and its storage full.
const MOST: usize = 16;
/// Seconds after which a snapshot that a template was to be made of is left over: no late request needs it.
const LEFT_OVER_SECONDS: i64 = 300;

/// Whether a name has the form of those of kept snapshots.
pub(crate) fn is_name(snapname: &str) -> bool {
    nonce_of(snapname, KEPT).is_some()
}

/// Refuses the name of a snapshot that this deployment never took of the sandbox `id`.
pub(crate) fn ensure_taken(settings: &Settings, id: &SandboxId, snapname: &str) -> Result<(), Error> {
    match taken(settings, (id.kind(), id.vmid), snapname, KEPT) {
        Some(_) => Ok(()),
        None => Err(absent(snapname)),
    }
}

pub(crate) fn absent(snapname: &str) -> Error {
    Error::new(Code::NotFound, format!("this sandbox keeps no snapshot {snapname}"))
}

/// When this deployment took a snapshot of this name; `None` for a name that it never gave to
/// a snapshot of that guest.
fn taken(
    settings: &Settings,
    (kind, vmid): (Kind, Vmid),
    snapname: &str,
    prefix: &str,
) -> Option<OffsetDateTime> {
    let nonce = nonce_of(snapname, prefix)?;
    nonce.proved_by(&settings.secrets, &settings.deployment, kind, vmid).map(|_| nonce.birth())
}

fn nonce_of(snapname: &str, prefix: &str) -> Option<Nonce> {
    let nonce: Nonce = snapname.strip_prefix(prefix)?.parse().ok()?;
    // One nonce, one spelling.
    (format!("{prefix}{nonce}") == snapname).then_some(nonce)
}

/// PVE's name of one of its snapshots.
pub(crate) fn name(row: &Value) -> &str {
    row.get("name").and_then(Value::as_str).unwrap_or_default()
}

/// Whether PVE has kept a VM's memory with it.
pub(crate) fn has_memory(row: &Value) -> bool {
    row.get("vmstate").is_some_and(perl::truthy)
}

/// When a snapshot that PVE lists was taken, if it is one that the sandbox keeps.
fn born<I: Io>(cluster: &Cluster<'_, I>, found: &Located, row: &Value) -> Option<OffsetDateTime> {
    taken(cluster.settings, (found.mark.kind, found.mark.vmid), name(row), KEPT)
}

/// PVE's snapshots of a guest, after those of ours were removed that an interrupted request has left: on ZFS
/// they are in the way of a rollback (rule S8.2).
pub(crate) async fn tidied<I: Io>(
    cluster: &Cluster<'_, I>,
    found: &Located,
    deadline: Deadline<'_, I>,
) -> Result<Vec<Value>, Error> {
    let guest = found.api(cluster);
    let Value::Array(mut rows) = cluster.send(guest.snapshots()).await? else { return Ok(Vec::new()) };
    let now = cluster.now();
    let which = (found.mark.kind, found.mark.vmid);
    let is_left = |row: &Value| {
        taken(cluster.settings, which, name(row), PASSING)
            .is_some_and(|birth| (now - birth).whole_seconds() > LEFT_OVER_SECONDS)
    };
    for row in rows.iter().filter(|it| is_left(it)) {
        // What cannot be removed is told by what it is in the way of.
        if let Ok(task) = cluster.send(guest.remove_snapshot(name(row))).await {
            wait(cluster, &task, deadline).await;
        }
    }
    rows.retain(|it| !is_left(it));
    Ok(rows)
}

/// A sandbox that can be given a snapshot, or rid of one.
async fn usable<I: Io>(
    cluster: &Cluster<'_, I>,
    caller: &Caller,
    id: &SandboxId,
    deadline: Deadline<'_, I>,
) -> Result<Located, Error> {
    let found = awake(cluster, caller, id, deadline).await?;
    found.needs(cluster, &[Need::Alive])?;
    Ok(found)
}

/// Takes one, and whether PVE is done with it.
pub async fn take<I: Io>(
    cluster: &Cluster<'_, I>,
    caller: &Caller,
    id: &SandboxId,
    request: &SnapshotRequest,
    deadline: Deadline<'_, I>,
) -> Result<(KeptSnapshot, bool), Error> {
    request.check()?;
    request.check_memory(id.kind())?;
    let found = usable(cluster, caller, id, deadline).await?;
    found.needs(cluster, &[Need::NothingBegun])?;
    if request.memory && cluster.send(found.api(cluster).status()).await?.status != "running" {
        return Err(Error::new(Code::NotRunning, format!("{id} is stopped: it has no memory to keep")));
    }
    supported(cluster, &found).await?;
    if found.config.parent.is_some() {
        let rows = tidied(cluster, &found, deadline).await?;
        if rows.iter().filter(|it| born(cluster, &found, it).is_some()).count() >= MOST {
            let text = format!("this sandbox keeps {MOST} snapshots: delete one first");
            return Err(Error::new(Code::QuotaExceeded, text));
        }
    }
    let snapname = format!("{KEPT}{}", cluster.nonce(found.mark.kind, found.mark.vmid));
    let since = cluster.now().unix_timestamp();
    let mark = change(cluster, &found, &|mark| {
        refuse_condemned(mark)?;
        refuse_begun(mark)?;
        mark.doing = Some(Doing { what: What::Snapshot, snapname: snapname.clone(), memory: false, since });
        Ok(())
    })
    .await?;
    let begun = Located { mark, ..found };
    let about = json!({"name": request.name, "metadata": request.metadata}).to_string();
    let task = cluster.send(begun.api(cluster).take_snapshot(&snapname, &about, request.memory)).await;
    let ended = match task {
        Ok(task) => wait(cluster, &task, deadline).await,
        // It may be taken yet, with tags that say what they are.
        Err(error) if error.may_be_executed() => return Err(error.into()),
        Err(error) => {
            end(cluster, &begun).await;
            return Err(error.into());
        }
    };
    if ended.is_some() {
        end(cluster, &begun).await;
    }
    if let Some(Err(why)) = ended {
        return Err(why.problem(Code::TaskFailed, "PVE could not take the snapshot"));
    }
    let mut row = json!({"name": snapname, "description": about, "vmstate": request.memory});
    // One that stops at this moment is taken without any.
    if request.memory
        && let Ok(Value::Array(rows)) = cluster.send(begun.api(cluster).snapshots()).await
        && let Some(taken) = rows.into_iter().find(|it| name(it) == snapname)
    {
        row = taken;
    }
    Ok((shown(&row, if ended.is_some() { KeptStatus::Ready } else { KeptStatus::Pending }), ended.is_some()))
}

/// Takes from the mark that a snapshot was begun; where this cannot be written, it is over when it is old.
async fn end<I: Io>(cluster: &Cluster<'_, I>, begun: &Located) {
    let _ = change(cluster, begun, &|mark| {
        if mark.doing == begun.mark.doing {
            mark.doing = None;
        }
        Ok(())
    })
    .await;
}

/// All that a sandbox keeps, the oldest first.
pub async fn list<I: Io>(
    cluster: &Cluster<'_, I>,
    caller: &Caller,
    id: &SandboxId,
) -> Result<Vec<KeptSnapshot>, Error> {
    let found = locate(cluster, caller, id).await?;
    found.needs(cluster, &[Need::Alive])?;
    let rows = cluster.send(found.api(cluster).snapshots()).await?;
    let rows = rows.as_array().map(Vec::as_slice).unwrap_or_default();
    let mut kept: Vec<&Value> = rows.iter().filter(|it| born(cluster, &found, it).is_some()).collect();
    kept.sort_unstable_by_key(|it| born(cluster, &found, it));
    let status = |row: &Value| match row.get("snapstate").and_then(Value::as_str) {
        None => KeptStatus::Ready,
        Some("delete") => KeptStatus::Deleting,
        Some(_) => KeptStatus::Pending,
    };
    Ok(kept.into_iter().map(|it| shown(it, status(it))).collect())
}

fn shown(row: &Value, status: KeptStatus) -> KeptSnapshot {
    let about = row.get("description").and_then(Value::as_str).unwrap_or_default();
    let about: Value = serde_json::from_slice(about.as_bytes()).unwrap_or_default();
    let metadata = about.get("metadata").cloned().unwrap_or_default();
    KeptSnapshot {
        created_at: nonce_of(name(row), KEPT).map(|it| stamp(it.birth())),
        memory: has_memory(row),
        metadata: serde_json::from_value(metadata).unwrap_or_default(),
        name: about.get("name").and_then(Value::as_str).map(str::to_owned),
        snapshot_id: name(row).to_owned(),
        status,
    }
}

/// Deletes one; whether PVE is done.
pub async fn remove<I: Io>(
    cluster: &Cluster<'_, I>,
    caller: &Caller,
    id: &SandboxId,
    snapname: &str,
    deadline: Deadline<'_, I>,
) -> Result<bool, Error> {
    ensure_taken(cluster.settings, id, snapname)?;
    let found = usable(cluster, caller, id, deadline).await?;
    let guest = found.api(cluster);
    let rows = cluster.send(guest.snapshots()).await?;
    if !rows.as_array().is_some_and(|it| it.iter().any(|it| name(it) == snapname)) {
        return Err(absent(snapname));
    }
    let task = cluster.send(guest.remove_snapshot(snapname)).await?;
    match wait(cluster, &task, deadline).await {
        None => Ok(false),
        Some(Ok(())) => Ok(true),
        // Another request was faster.
        Some(Err(why)) if why.is_snapshot_missing() => Ok(true),
        Some(Err(why)) => Err(why.problem(Code::TaskFailed, "PVE could not delete it")),
    }
}
