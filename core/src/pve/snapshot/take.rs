//! Taking a snapshot, step by step.

use std::time::Duration;

use super::keep::{self, PASSING};
use crate::{
    access::keys::Caller,
    error::{Code, Error},
    io::{Io, deadline::Deadline, pace},
    pve::{
        api::{guest::NewGuest, task::Upid},
        cluster::Cluster,
        guest::{
            Located,
            needs::{Need, awake, refuse_condemned},
            wait::{end_of_task, wait},
            write::change,
        },
        inventory::Inventory,
        marks::{Mark, Notes, Role, TakenFrom},
        reserve,
        template::{
            Advanced, advance, discard, version,
            vmid::{free_vmids, no_free_vmid},
        },
    },
    sandbox::{
        id::{Kind, SandboxId, SourceId},
        lifetime,
        snapshot::{Snapshot, SnapshotRequest, Status},
    },
};

/// Storages whose clones of a snapshot are independent of it (pve-storage `LvmThinPlugin.pm`) (rule S8.1); elsewhere
/// everything is copied. A clone on Ceph is the snapshot's child: PVE cannot remove that any more (`RBDPlugin.pm`
/// `volume_snapshot_delete`), and keeps the guest locked that it was taken of.
const INDEPENDENT: [&str; 1] = ["lvmthin"];
/// A sandbox that is copied lives at least so long, since it is locked meanwhile.
const OUTLAST_SECONDS: i64 = 3600;

/// How long PVE may take for its own snapshot, before anything is copied.
const SNAPSHOT: Duration = Duration::from_secs(20);

/// Takes a snapshot; the sandbox runs on. Returns when it is ready or `deadline` has passed.
pub async fn take<I: Io>(
    cluster: &Cluster<'_, I>,
    caller: &Caller,
    id: &SandboxId,
    request: &SnapshotRequest,
    deadline: Deadline<'_, I>,
) -> Result<Snapshot, Error> {
    request.check()?;
    request.check_memory(id.kind())?;
    request.check_promotion(caller)?;
    let source = awake(cluster, caller, id, deadline).await?;
    source.needs(cluster, &[Need::Alive])?;
    request.defaults(&mut Vec::new()).check(source.mark.channel())?;
    supported(cluster, &source).await?;
    if source.config.parent.is_some() {
        keep::tidied(cluster, &source, deadline).await?;
    }
    let inventory = Inventory::read(cluster).await?;
    inventory.room_for_tags()?;
    let mark = intent(cluster, caller, request, &source, &inventory)?;
    outlast(cluster, &source).await?;
    // However short the caller waits: until PVE has its snapshot there is nothing that a later request could carry on.
    snapshot(cluster, &source, &mark, deadline.at_least(cluster.deadline(SNAPSHOT))).await?;
    let Some(copied) = copy(cluster, &source, &mark, &inventory, deadline).await? else {
        return Ok(super::snapshot_of(&mark, Status::Pending));
    };
    let Advanced { mark, ready, .. } = advance(cluster, copied, deadline).await?;
    Ok(super::snapshot_of(&mark, if ready { Status::Ready } else { Status::Pending }))
}

pub(super) async fn supported<I: Io>(cluster: &Cluster<'_, I>, source: &Located) -> Result<(), Error> {
    let guest = source.api(cluster);
    if cluster.send(guest.has_feature("snapshot")).await?.has_feature {
        return Ok(());
    }
    let storage = source.config.storage().unwrap_or("its storage");
    Err(Error::new(
        Code::SnapshotUnsupported,
        format!(
            "storage {storage} makes no snapshots of it: lvmthin, zfspool, rbd and btrfs do, and of VMs qcow2 files"
        ),
    ))
}

fn intent<I: Io>(
    cluster: &Cluster<'_, I>,
    caller: &Caller,
    request: &SnapshotRequest,
    source: &Located,
    inventory: &Inventory,
) -> Result<Mark, Error> {
    let [_, _, _, _, _, f, g, h, i, ..] = cluster.seed;
    let vmid =
        free_vmids(cluster, inventory, u32::from_be_bytes([f, g, h, i])).next().ok_or_else(no_free_vmid)?;
    let kind = source.mark.kind;
    let promoted = request
        .promote
        .as_ref()
        .map(|it| version::next_version(cluster, inventory, source.mark.kind.provider(), &it.preset));
    let (deployment, team) = (&cluster.settings.deployment, &caller.team);
    Ok(Mark {
        node: source.node.clone(),
        role: Role::Template,
        name: request.name.clone(),
        template: source.mark.template,
        commands: source.mark.channel(),
        guest_keys: source.mark.guest_keys.clone(),
        defaults: request.defaults(&mut Vec::new()).or(&source.mark.defaults),
        gateway: source.config.gateway().or(source.mark.gateway),
        snapshot: promoted.map(SourceId::Preset),
        source: Some(SourceId::Own(source.mark.id().into())),
        taken_from: Some(TakenFrom {
            vmid: source.mark.vmid,
            nonce: source.mark.nonce,
            snapname: format!("{PASSING}{}", cluster.nonce(kind, source.mark.vmid)),
        }),
        metadata: request.metadata.clone(),
        ..Mark::claimed(deployment, team.as_str(), vmid, kind, cluster.nonce(kind, vmid))
    })
}

/// While PVE copies nothing can be written: the time that the sandbox has left must be enough.
async fn outlast<I: Io>(cluster: &Cluster<'_, I>, source: &Located) -> Result<(), Error> {
    let until =
        cluster.now().unix_timestamp() + lifetime::cap_seconds(OUTLAST_SECONDS, &cluster.settings.limits);
    if source.mark.expires.is_none_or(|it| it >= until) {
        return Ok(());
    }
    change(cluster, source, &|mark| {
        refuse_condemned(mark)?;
        mark.expires = mark.expires.map(|it| it.max(until));
        Ok(())
    })
    .await
    .map(|_| ())
}

/// PVE's snapshot of the sandbox.
async fn snapshot<I: Io>(
    cluster: &Cluster<'_, I>,
    source: &Located,
    mark: &Mark,
    deadline: Deadline<'_, I>,
) -> Result<(), Error> {
    let Some(from) = &mark.taken_from else { return Ok(()) };
    let guest = source.api(cluster);
    let task = cluster.send(guest.take_snapshot(&from.snapname, "", false)).await?;
    match wait(cluster, &task, deadline).await {
        Some(Ok(())) => Ok(()),
        Some(Err(why)) => Err(why.problem(Code::TaskFailed, "PVE could not take the snapshot")),
        None => Err(Error::new(
            Code::PveTimeout,
            "PVE's snapshot took too long; it is removed by the next one. Nothing else was made: ask again",
        )
        .retry_after(5)),
    }
}

/// The clone of that snapshot. It claims the template's VMID and carries the intent.
async fn copy<I: Io>(
    cluster: &Cluster<'_, I>,
    source: &Located,
    mark: &Mark,
    inventory: &Inventory,
    deadline: Deadline<'_, I>,
) -> Result<Option<Located>, Error> {
    let Some(from) = &mark.taken_from else { return Ok(None) };
    let notes = Notes { existing: "", mark, links: &[], exec_token: None };
    let description = notes
        .write()
        .ok_or_else(|| Error::field("metadata", "is too large for the template's description"))?;
    let own = source.config.storage().unwrap_or_default();
    let row = inventory.storages(&source.node).find(|it| it.storage.as_deref() == Some(own));
    let kind = row.and_then(|it| it.plugintype.as_deref());
    let mut full = kind.is_none_or(|it| !INDEPENDENT.contains(&it));
    let storage = elsewhere(cluster, source, inventory);
    let unfit = storage.filter(|it| !clones(source, inventory, it));
    let guest = source.api(cluster);
    let hostname = format!("template-{}", mark.vmid);
    let task = loop {
        if let Some(unfit) = unfit.filter(|_| full) {
            discard(cluster, &source.node, mark).await;
            let text = format!(
                "PVE_STORAGE names {unfit}, which makes no linked clones of what would be copied to it"
            );
            return Err(Error::new(Code::LinkedCloneUnsupported, text));
        }
        let new = NewGuest {
            newid: mark.vmid,
            name: &hostname,
            description: &description,
            target: None,
            storage: storage.filter(|_| full),
            snapname: Some(&from.snapname),
            full,
        };
        match cluster.send(guest.clone_to(&new)).await {
            Ok(task) => break Some(task),
            // It may have been executed: whether it was, the template's config tells.
            Err(error) if error.may_be_executed() => break None,
            // One of its volumes is elsewhere: nothing was made, and a copy can be.
            Err(error) if !full && error.lacks_linked_clones() => full = true,
            Err(error) => {
                discard(cluster, &source.node, mark).await;
                return Err(error.into());
            }
        }
    };
    claimed(cluster, &source.node, mark, task, deadline).await
}

/// The storage that a copy goes to, if not the sandbox's own: the one that is set, or the one with the most
/// room where its own is full.
fn elsewhere<'a, I: Io>(
    cluster: &Cluster<'a, I>,
    source: &'a Located,
    inventory: &'a Inventory,
) -> Option<&'a str> {
    let own = source.config.storage().unwrap_or_default();
    let size = source.config.disk_bytes().unwrap_or(0);
    let mut rows = inventory.storages(&source.node);
    let is_full = rows.any(|it| it.storage.as_deref() == Some(own) && it.free() < size);
    let roomiest = inventory.roomiest(&source.node, source.mark.kind).and_then(|it| it.storage.as_deref());
    cluster.settings.storage.as_deref().or(roomiest.filter(|_| is_full)).filter(|it| *it != own)
}

/// Whether sandboxes can be made of what is copied there; of a storage that the token does not see PVE tells.
fn clones(source: &Located, inventory: &Inventory, storage: &str) -> bool {
    let kind = source.mark.kind;
    let mut rows = inventory.storages(&source.node).filter(|it| it.storage.as_deref() == Some(storage));
    rows.all(|it| it.takes_disks(kind) && it.makes_linked_clones(kind))
}

/// The guest that the copy has made, with the mark of its intent. A container's is there at once, a VM's
/// when its worker has written it, and tells whose it is after the first disk.
async fn claimed<I: Io>(
    cluster: &Cluster<'_, I>,
    node: &str,
    mark: &Mark,
    task: Option<Upid>,
    deadline: Deadline<'_, I>,
) -> Result<Option<Located>, Error> {
    let mut wait = deadline.keeping(reserve::TEMPLATE_STEP).paced(pace::TASK);
    loop {
        let mut missing = false;
        match cluster.send(cluster.guest(node, mark).config()).await {
            Ok(config) if mark.kind == Kind::Lxc || !config.is_unknown_yet() => {
                let (node, mark) = (node.to_owned(), mark.clone());
                return Ok(Some(Located { node, config, mark, committed: false }));
            }
            Ok(_) => {}
            Err(error) if error.is_missing() => missing = true,
            Err(error) => return Err(error.into()),
        }
        if let Some(Err(cause)) = end_of_task(cluster, task.as_ref().filter(|_| missing)).await {
            discard(cluster, node, mark).await;
            return Err(cause.problem(Code::CloneFailed, "PVE could not copy the sandbox"));
        }
        if missing && task.is_none() && (wait.is_over() || mark.kind == Kind::Lxc) {
            let text = "PVE did not answer, and made no copy; ask again";
            return Err(Error::new(Code::CloneFailed, text).retry_after(2));
        }
        if !wait.pause().await {
            return Ok(None);
        }
    }
}
