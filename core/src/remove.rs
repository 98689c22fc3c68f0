//! Deleting a sandbox.

use time::OffsetDateTime;

use crate::{
    auth::Caller,
    commit,
    edge::Edge,
    error::{Code, Error},
    inventory::Inventory,
    io::Io,
    place::{Place, place},
    pve::task::Upid,
    sandbox::SandboxId,
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

/// Deletes a sandbox: the DELETE is the very next request after the read that
/// showed the nonce, since PVE's has no digest; after any wait it is read again.
pub async fn remove<I: Io>(
    edge: &Edge<'_, I>,
    caller: &Caller,
    id: &SandboxId,
    deadline: OffsetDateTime,
) -> Result<Removed, Error> {
    for _ in 0..4 {
        let Place { node, config, mark, .. } = place(edge, caller, id).await?;
        if let Some(lock) = &config.lock {
            return match lock.as_str() {
                "destroyed" => Ok(Removed::Working),
                lock => Err(commit::locked(lock, &mark)),
            };
        }
        let lxc = edge.pve.lxc(&node, mark.vmid);
        let error = match edge.send(lxc.destroy()).await {
            Ok(task) => return finished(edge, &task, deadline).await,
            Err(error) => error,
        };
        if error.is_protected() {
            let form = [("protection", "0"), ("digest", &*config.digest)];
            match edge.send(lxc.set_config(&form)).await {
                Err(error) if !error.is_digest_mismatch() => return Err(error.into()),
                _ => continue,
            }
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
            Some("destroyed") => Ok(Removed::Working),
            Some(lock) => Err(commit::locked(lock, &mark)),
            // It may have been executed: another try finds out, from the start.
            None if error.is_unanswered() && edge.now() < deadline => continue,
            None => Err(error.into()),
        };
    }
    Err(Error::new(Code::Conflict, format!("{id} keeps moving; ask again")).retry_after(2))
}

async fn finished<I: Io>(
    edge: &Edge<'_, I>,
    task: &Upid,
    deadline: OffsetDateTime,
) -> Result<Removed, Error> {
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
