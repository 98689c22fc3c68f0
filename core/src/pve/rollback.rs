//! Rolling a sandbox back to a snapshot that it keeps.
//!
//! PVE's rollback takes no digest, kills what runs, and brings back the whole config of the snapshot (tags,
//! sizes, network, `env`) but the description. So what is being done is written into the description before,
//! where it stays, and the tag tells whether it was executed: the tags of every kept snapshot say that they
//! are a snapshot's (`w`), those before a rollback that it is to come (`r`). Until both agree again the
//! description decides, and a sweep reads it. The rollback itself is sent once; all after it, by whoever
//! comes next (rule S8.7).
//!
//! To a snapshot with a VM's memory PVE itself starts it, as the last step of the rollback, under the file
//! lock that a change waits for. What runs then is the machine of that memory: only marks are written, since
//! sizes would wait for a start and be applied before a later pause's memory is read (qemu-server
//! `QemuServer.pm` `vm_start_nolock`), which is lost then (rule S8.8).

use time::OffsetDateTime;

use super::{
    api::PveError,
    cluster::Cluster,
    create::carry_on,
    guest::{
        commit,
        condition::condition,
        needs::{ensure_alive, still_creating, unlocked},
        place::{Place, place},
        repair,
        wait::wait,
    },
    marks::{self, Doing, Mark, Reading, Want, What},
    power::Done,
    snapshot::keep,
};
use crate::{
    access::keys::Caller,
    error::{Code, Error},
    io::{
        Io,
        pace::{self, Wait},
    },
    sandbox::{
        id::{SandboxId, not_found},
        power::{Did, RollbackBody},
    },
};

/// Rolls back; what was wanted on comes up again, what was stopped stays so.
pub async fn rollback<I: Io>(
    cluster: &Cluster<'_, I>,
    caller: &Caller,
    id: &SandboxId,
    body: &RollbackBody,
    deadline: OffsetDateTime,
) -> Result<Done, Error> {
    let snapname = body.snapshot.as_str();
    if !keep::is_name(snapname) {
        return Err(Error::field("snapshot", "is a snapshotId of GET /api/sandboxes/{id}/snapshots"));
    }
    keep::ensure_taken(cluster.settings, id, snapname)?;
    let found = unlocked(cluster, caller, id, deadline).await?;
    ensure_alive(cluster, &found.mark, id)?;
    if !found.committed {
        return Err(still_creating(id));
    }
    // The same is under way: it is seen to its end.
    let under_way = |it: &Doing| it.what != What::Snapshot && it.snapname == snapname;
    if found.mark.doing.as_ref().is_some_and(under_way) {
        let (node, mark) = (found.node.clone(), found.mark.clone());
        if let Some(done) = follow(cluster, &node, &mark, deadline).await? {
            return Ok(done);
        }
    }
    let found = place(cluster, caller, id).await?;
    let found = repair::finished(cluster, found).await?;
    if let Some(lock) = &found.config.lock {
        return Err(commit::locked(lock, &found.mark));
    }
    if found.mark.is_doing(What::Snapshot) {
        return Err(commit::locked("snapshot", &found.mark));
    }
    if found.mark.is_expired(cluster.now()) {
        let text = format!("{id} has expired: extend it, then roll it back");
        return Err(Error::new(Code::NotRunning, text));
    }
    let memory = prepare(cluster, &found, snapname, deadline).await?;
    let mark = begin(cluster, &found, snapname, memory).await?;
    send(cluster, &found.node, &mark, snapname, deadline).await?;
    match follow(cluster, &found.node, &mark, deadline).await? {
        Some(done) => Ok(done),
        None => Err(Error::new(Code::Conflict, "PVE never began the rollback; ask again").retry_after(1)),
    }
}

/// Nothing of ours is in the way, and what would come back is this sandbox's and
/// says that it is old; whether memory comes back with it.
async fn prepare<I: Io>(
    cluster: &Cluster<'_, I>,
    found: &Place,
    snapname: &str,
    deadline: OffsetDateTime,
) -> Result<bool, Error> {
    let vmid = found.mark.vmid;
    let all = keep::tidied(cluster, found, deadline).await?;
    let Some(row) = all.iter().find(|it| keep::name(it) == snapname) else {
        return Err(keep::absent(snapname));
    };
    let old = cluster.send(keep::guest(cluster, found).config_of(snapname)).await?;
    let tags = old.tags.unwrap_or_default();
    let ours = marks::listed(vmid, &tags).is_some_and(|it| it.mark.nonce == found.mark.nonce);
    if ours && marks::tagged(vmid, &tags) == Some(What::Snapshot) {
        return Ok(keep::has_memory(row));
    }
    let text = format!("{snapname} was not taken as it should be, and is not rolled back to: delete it");
    Err(Error::new(Code::Unsupported, text))
}

/// By digest: of two at once, one begins.
async fn begin<I: Io>(
    cluster: &Cluster<'_, I>,
    found: &Place,
    snapname: &str,
    memory: bool,
) -> Result<Mark, Error> {
    let since = cluster.now().unix_timestamp();
    commit::change(cluster, &found.node, found.mark.clone(), &|mark| {
        if mark.want == Want::Gone {
            return Err(Error::new(Code::Condemned, "this sandbox is condemned and will be deleted"));
        }
        if mark.is_doing(What::Rollback) || mark.is_doing(What::Snapshot) {
            return Err(commit::locked("rollback", mark));
        }
        mark.doing = Some(Doing { what: What::Rollback, snapname: snapname.to_owned(), memory, since });
        Ok(())
    })
    .await
}

/// The one request that rolls back. Where it was refused nothing has happened,
/// and where it was not answered nobody sends it again.
async fn send<I: Io>(
    cluster: &Cluster<'_, I>,
    node: &str,
    mark: &Mark,
    snapname: &str,
    deadline: OffsetDateTime,
) -> Result<(), Error> {
    let guest = cluster.pve.guest(node, mark.kind, mark.vmid);
    let error = match cluster.send(guest.rollback(snapname)).await {
        Ok(task) => match wait(cluster, &task, deadline).await {
            Some(Err(why)) => refused(&why),
            Some(Ok(())) | None => return Ok(()),
        },
        Err(error) if error.is_unanswered() => return Err(error.into()),
        Err(error) => error.into(),
    };
    let Ok(config) = cluster.send(guest.config()).await else { return Err(error) };
    let tags = config.tags.as_deref();
    // What has failed may be the last step, the start from memory: all else is done.
    if marks::tagged(mark.vmid, tags.unwrap_or_default()) == Some(What::Snapshot) {
        return Ok(());
    }
    let now = marks::read(mark.vmid, tags, config.description.as_deref());
    if let Some(now) = now.mark().filter(|it| it.doing == mark.doing) {
        let _ = commit::write(cluster, node, &config, now, &repair::clear).await;
    }
    Err(error)
}

fn refused(why: &PveError) -> Error {
    if why.is_not_newest() {
        let text = format!("{why}: this storage goes back to the newest only; delete the newer ones first");
        return Error::new(Code::SnapshotNotNewest, text);
    }
    why.problem(Code::TaskFailed, "PVE could not roll back")
}

/// Sees a rollback to its end; `None` when it was never executed.
async fn follow<I: Io>(
    cluster: &Cluster<'_, I>,
    node: &str,
    mark: &Mark,
    deadline: OffsetDateTime,
) -> Result<Option<Done>, Error> {
    let done = |finished| Ok(Some(Done { did: Did::RolledBack, finished, keeps: None, after: None }));
    let mut wait = Wait::new(cluster, pace::TASK, deadline).keeping(8);
    loop {
        let config = cluster.send(cluster.pve.guest(node, mark.kind, mark.vmid).config()).await?;
        let reading = Reading::of(mark.vmid, &config);
        let now = match reading {
            Reading::Committed(now) if now.nonce == mark.nonce && now.want != Want::Gone => now,
            _ => return Err(not_found(mark.id())),
        };
        if config.lock.is_none() {
            let place = Place { node: node.to_owned(), config, mark: now, committed: true };
            let rolling = place.mark.is_doing(What::Rollback);
            let executed = repair::is_due(&place, cluster.now()) && repair::came_back(&place, cluster.now());
            let place = repair::settle(cluster, place).await?;
            match &place.mark.doing {
                Some(it) if it.what == What::Start => {
                    let now = condition(cluster, node, mark.kind, mark.vmid).await?;
                    let progress = carry_on(cluster, place, now, false, deadline).await?;
                    return done(progress.ready);
                }
                // Cleared now, and the tags never came back.
                None if rolling && !executed => return Ok(None),
                None => return done(true),
                Some(_) => {}
            }
        }
        if !wait.pause().await {
            return done(false);
        }
    }
}
