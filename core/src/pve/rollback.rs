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

use super::{
    api::PveError,
    cluster::Cluster,
    create::carry_on,
    guest::{
        Located,
        condition::condition,
        located::locate,
        needs::{Need, refuse_condemned, unlocked},
        repair,
        wait::wait,
        write::{change, locked, write},
    },
    marks::{self, Doing, Want, What},
    power::Done,
    reserve,
    snapshot::keep,
};
use crate::{
    access::keys::Caller,
    error::{Code, Error},
    io::{Io, deadline::Deadline, pace},
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
    deadline: Deadline<'_, I>,
) -> Result<Done, Error> {
    let snapname = body.snapshot.as_str();
    if !keep::is_name(snapname) {
        return Err(Error::field("snapshot", "is a snapshotId of GET /api/sandboxes/{id}/snapshots"));
    }
    keep::ensure_taken(cluster.settings, id, snapname)?;
    let found = unlocked(cluster, caller, id, deadline).await?;
    found.needs(cluster, &[Need::Alive, Need::Committed])?;
    // The same is under way: it is seen to its end.
    let under_way = |it: &Doing| it.what != What::Snapshot && it.snapname == snapname;
    if found.mark.doing.as_ref().is_some_and(under_way)
        && let Some(done) = follow(cluster, &found, deadline).await?
    {
        return Ok(done);
    }
    let found = repair::settle(cluster, locate(cluster, caller, id).await?).await?;
    let expired = Need::Unexpired(": extend it, then roll it back");
    found.needs(cluster, &[Need::NotRollingBack, Need::Unlocked, Need::NothingBegun, expired])?;
    let memory = prepare(cluster, &found, snapname, deadline).await?;
    let begun = begin(cluster, found, snapname, memory).await?;
    send(cluster, &begun, snapname, deadline).await?;
    match follow(cluster, &begun, deadline).await? {
        Some(done) => Ok(done),
        None => Err(Error::new(Code::Conflict, "PVE never began the rollback; ask again").retry_after(1)),
    }
}

/// Checks that nothing of ours is in the way, and that what would come back is this sandbox's and says that it
/// is old (rule S8.6); whether memory comes back with it.
async fn prepare<I: Io>(
    cluster: &Cluster<'_, I>,
    found: &Located,
    snapname: &str,
    deadline: Deadline<'_, I>,
) -> Result<bool, Error> {
    let vmid = found.mark.vmid;
    let all = keep::tidied(cluster, found, deadline).await?;
    let Some(row) = all.iter().find(|it| keep::name(it) == snapname) else {
        return Err(keep::absent(snapname));
    };
    let old = cluster.send(found.api(cluster).config_of(snapname)).await?;
    let tags = old.tags.unwrap_or_default();
    let ours = marks::listed(vmid, &tags).is_some_and(|it| it.mark.nonce == found.mark.nonce);
    if ours && marks::doing_by_tag(vmid, &tags) == Some(What::Snapshot) {
        return Ok(keep::has_memory(row));
    }
    let text = format!("{snapname} was not taken as it should be, and is not rolled back to: delete it");
    Err(Error::new(Code::Unsupported, text))
}

/// Notes in the mark that the sandbox is being rolled back, by digest: of two at once, one begins (rule S8.7).
async fn begin<I: Io>(
    cluster: &Cluster<'_, I>,
    found: Located,
    snapname: &str,
    memory: bool,
) -> Result<Located, Error> {
    let since = cluster.now().unix_timestamp();
    let mark = change(cluster, &found, &|mark| {
        refuse_condemned(mark)?;
        if mark.is_doing(What::Rollback) || mark.is_doing(What::Snapshot) {
            return Err(locked("rollback", mark));
        }
        mark.doing = Some(Doing { what: What::Rollback, snapname: snapname.to_owned(), memory, since });
        Ok(())
    })
    .await?;
    Ok(Located { mark, ..found })
}

/// Sends the one request that rolls back. Where it was refused nothing has happened, and where it was not
/// answered nobody sends it again.
async fn send<I: Io>(
    cluster: &Cluster<'_, I>,
    begun: &Located,
    snapname: &str,
    deadline: Deadline<'_, I>,
) -> Result<(), Error> {
    let mark = &begun.mark;
    let error = match cluster.send(begun.api(cluster).rollback(snapname)).await {
        Ok(task) => match wait(cluster, &task, deadline).await {
            Some(Err(why)) => refused(&why),
            Some(Ok(())) | None => return Ok(()),
        },
        Err(error) if error.may_be_executed() => return Err(error.into()),
        Err(error) => error.into(),
    };
    let Ok(config) = cluster.send(begun.api(cluster).config()).await else { return Err(error) };
    // What has failed may be the last step, the start from memory: all else is done.
    if marks::doing_by_tag(mark.vmid, config.tags.as_deref().unwrap_or_default()) == Some(What::Snapshot) {
        return Ok(());
    }
    let now = Located::of(&begun.node, mark.vmid, config);
    if let Some(now) = now.filter(|it| it.mark.doing == mark.doing) {
        let _ = write(cluster, &now, &repair::clear).await;
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
    begun: &Located,
    deadline: Deadline<'_, I>,
) -> Result<Option<Done>, Error> {
    let done = |finished| Ok(Some(Done { did: Did::RolledBack, finished, keeps: None, after: None }));
    let mut wait = deadline.keeping(reserve::ROLLBACK).paced(pace::TASK);
    loop {
        let now = begun.read_again(cluster).await?.filter(|it| it.committed && it.mark.want != Want::Gone);
        let now = now.ok_or_else(|| not_found(begun.mark.id()))?;
        if now.config.lock.is_none() {
            let rolling = now.mark.is_doing(What::Rollback);
            let executed = repair::came_back(&now, cluster.now());
            let now = repair::settle(cluster, now).await?;
            match &now.mark.doing {
                Some(it) if it.what == What::Start => {
                    let seen = condition(cluster, &now).await?;
                    let progress = carry_on(cluster, now, seen, false, deadline).await?;
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
