//! Deleting a sandbox.

use time::OffsetDateTime;

use super::{
    api::task::Upid,
    cluster::Cluster,
    guest::{
        commit,
        destroy::destroy,
        needs::{ensure_alive, unlocked},
        place::Place,
        wait::wait,
    },
    inventory::Inventory,
    marks::{Mark, Want},
};
use crate::{
    access::keys::Caller,
    error::{Code, Error},
    io::Io,
    sandbox::{
        Removed,
        id::{Kind, SandboxId},
        patch::unchanged,
    },
};

/// Deletes a sandbox. PVE's DELETE has no digest and may be executed late, on the next guest of that VMID: so
/// committed guests are protected, and the PUT that takes the protection off, by digest, is what decides
/// whose guest goes (rule S3.1). The DELETE is the very next request; after any wait all is read again.
///
/// `if_match` is compared with each mark that is read, until one says that the guest is condemned: that
/// write, and the PUT above, are by the digest of the config whose mark was compared.
pub async fn remove<I: Io>(
    cluster: &Cluster<'_, I>,
    caller: &Caller,
    id: &SandboxId,
    if_match: Option<&str>,
    deadline: OffsetDateTime,
) -> Result<Removed, Error> {
    let mut last = None;
    for _ in 0..6 {
        let mut found = unlocked(cluster, caller, id, deadline).await?;
        // What a deletion has condemned is seen to its end.
        if found.mark.want != Want::Gone {
            ensure_alive(cluster, &found.mark, id)?;
            unchanged(if_match, &found.mark.etag())?;
        }
        if found.mark.kind == Kind::Qemu {
            match ready(cluster, &mut found, deadline).await? {
                Step::Go => {}
                Step::Again => continue,
            }
        }
        let mark = &found.mark;
        if let Some(lock) = found.config.lock.as_deref().filter(|it| *it != "suspended") {
            return locked(lock, mark);
        }
        let error = match destroy(cluster, &found.node, &found.config, mark).await {
            Ok(task) => return finished(cluster, &task, deadline).await,
            Err(error) => error,
        };
        if error.is_digest_mismatch() || error.is_protected() {
            continue;
        }
        // PVE destroys no VM that runs; after the wait all is read again.
        if error.is_running() {
            let task = cluster.send(cluster.pve.guest(&found.node, mark.kind, mark.vmid).stop()).await?;
            if wait(cluster, &task, deadline).await.is_none() {
                return Ok(Removed::Working);
            }
            continue;
        }
        if error.is_missing() {
            // It may have moved; only a listing that lacks it proves that it is gone (rule S3.3).
            let inventory = Inventory::read(cluster).await?;
            match inventory.guest(id.vmid) {
                None => {
                    inventory.believe(cluster).await?;
                    return Ok(Removed::Done);
                }
                Some(_) => continue,
            }
        }
        return match error.lock() {
            Some(lock) => locked(lock, mark),
            // It may have been executed: another try finds out, from the start.
            None if error.is_unanswered() && cluster.now() < deadline => {
                last = Some(error);
                continue;
            }
            None => Err(error.into()),
        };
    }
    let why = match last {
        Some(cause) => format!("whether {id} was deleted is not known ({cause}); ask again"),
        None => format!("{id} keeps changing or moving; ask again"),
    };
    Err(Error::new(Code::Conflict, why).retry_after(2))
}

/// What is next for a VM that shall be deleted.
enum Step {
    Go,
    /// Somebody was faster, or something has changed: from the start.
    Again,
}

/// A VM takes more than one step, and must not be started between them: it is condemned first, by digest, and
/// whoever dies on the way leaves the rest to the sweep (rule S3.2). One that is suspended takes no change:
/// unprotected it can be destroyed as it is, else it is woken first.
async fn ready<I: Io>(
    cluster: &Cluster<'_, I>,
    found: &mut Place,
    deadline: OffsetDateTime,
) -> Result<Step, Error> {
    let Place { node, config, mark, committed } = found;
    if config.is_suspended() {
        if config.protection != Some(true) {
            return Ok(Step::Go);
        }
        let task = cluster.send(cluster.pve.guest(node, mark.kind, mark.vmid).start()).await?;
        return match wait(cluster, &task, deadline).await {
            Some(_) => Ok(Step::Again),
            None => Err(commit::locked("suspended", mark).retry_after(5)),
        };
    }
    if !*committed || mark.want == Want::Gone || config.lock.is_some() {
        return Ok(Step::Go);
    }
    let now = cluster.now().unix_timestamp();
    let condemned = commit::write(cluster, node, config, mark, &|mark| {
        mark.want = Want::Gone;
        mark.expires = Some(now);
        Ok(())
    })
    .await;
    match condemned {
        Ok(Ok(changed)) => (*mark, config.protection) = (changed, Some(false)),
        Ok(Err(_)) => return Ok(Step::Again),
        Err(error) if error.code() == Code::GuestLocked => return Ok(Step::Again),
        // What PVE lets nobody write can still be destroyed.
        Err(error) if !error.is_retryable() => {}
        Err(error) => return Err(error),
    }
    Ok(Step::Go)
}

fn locked(lock: &str, mark: &Mark) -> Result<Removed, Error> {
    if lock == "destroyed" { Ok(Removed::Working) } else { Err(commit::locked(lock, mark)) }
}

async fn finished<I: Io>(
    cluster: &Cluster<'_, I>,
    task: &Upid,
    deadline: OffsetDateTime,
) -> Result<Removed, Error> {
    match wait(cluster, task, deadline).await {
        None => Ok(Removed::Working),
        Some(Ok(())) => Ok(Removed::Done),
        Some(Err(cause)) if cause.is_missing() => Ok(Removed::Done),
        // Another one's destroy is at work.
        Some(Err(cause)) if cause.is_beside_another() => Ok(Removed::Working),
        Some(Err(cause)) => Err(cause.problem(Code::TaskFailed, "PVE could not destroy the guest")),
    }
}
