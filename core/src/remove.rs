//! Deleting a sandbox.

use std::time::Duration;

use time::OffsetDateTime;

use crate::{
    auth::Caller,
    commit,
    edge::Edge,
    error::{Code, Error},
    inventory::Inventory,
    io::Io,
    marks::Mark,
    place::place,
    pve::{PveError, lxc::Config, task::Upid},
    sandbox::SandboxId,
    vmid::Vmid,
    wait::wait,
};

/// Whether PVE is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removed {
    /// The guest is gone.
    Done,
    /// PVE destroys it; reads may show it for a while.
    Working,
}

/// Deletes a sandbox. PVE's DELETE has no digest and may be executed late, on
/// the next guest of that VMID: so committed guests are protected, and the PUT
/// that takes the protection off, by digest, is what decides whose guest goes.
/// The DELETE is the very next request; after any wait all is read again.
pub async fn remove<I: Io>(
    edge: &Edge<'_, I>,
    caller: &Caller,
    id: &SandboxId,
    deadline: OffsetDateTime,
) -> Result<Removed, Error> {
    for _ in 0..6 {
        let found = place(edge, caller, id).await?;
        let mark = &found.mark;
        if let Some(lock) = &found.config.lock {
            return locked(lock, mark);
        }
        let error = match destroy(edge, &found.node, &found.config, mark.vmid).await {
            Ok(task) => return finished(edge, &task, deadline).await,
            Err(error) => error,
        };
        if error.is_digest_mismatch() || error.is_protected() {
            continue;
        }
        if error.is_missing() {
            // It may have moved; only a listing that lacks it proves that it is gone.
            let inventory = Inventory::read(edge).await?;
            match inventory.guest(id.vmid) {
                None => {
                    inventory.believe(edge).await?;
                    return Ok(Removed::Done);
                }
                Some(_) => continue,
            }
        }
        return match error.lock() {
            Some(lock) => locked(lock, mark),
            // It may have been executed: another try finds out, from the start.
            None if error.is_unanswered() && edge.now() < deadline => continue,
            None => Err(error.into()),
        };
    }
    Err(Error::new(Code::Conflict, format!("{id} keeps moving; ask again")).retry_after(2))
}

/// Takes the protection off, if the guest is still what `config` says, and destroys it.
pub(crate) async fn destroy<I: Io>(
    edge: &Edge<'_, I>,
    node: &str,
    config: &Config,
    vmid: Vmid,
) -> Result<Upid, PveError> {
    let lxc = edge.pve.lxc(node, vmid);
    if config.protection == Some(true) {
        edge.send(lxc.set_config(&[("protection", "0"), ("digest", &*config.digest)])).await?;
    }
    edge.send(lxc.destroy()).await
}

fn locked(lock: &str, mark: &Mark) -> Result<Removed, Error> {
    if lock == "destroyed" { Ok(Removed::Working) } else { Err(commit::locked(lock, mark)) }
}

async fn finished<I: Io>(
    edge: &Edge<'_, I>,
    task: &Upid,
    deadline: OffsetDateTime,
) -> Result<Removed, Error> {
    // A stop and a destruction take a second each as a rule.
    edge.pause(Duration::from_secs(1), deadline).await;
    match wait(edge, task, deadline).await {
        None => Ok(Removed::Working),
        Some(Ok(())) => Ok(Removed::Done),
        Some(Err(cause)) if cause.contains("does not exist") => Ok(Removed::Done),
        // Another one's destroy is at work.
        Some(Err(cause)) if cause.contains("can't lock file") || cause.contains("is locked") => {
            Ok(Removed::Working)
        }
        Some(Err(cause)) => {
            Err(Error::new(Code::TaskFailed, format!("PVE could not destroy the guest: {cause}")))
        }
    }
}
