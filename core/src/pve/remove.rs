//! Deleting a sandbox.

use super::{
    api::{PveError, task::Upid},
    cluster::Cluster,
    guest::{
        Located,
        destroy::destroy,
        needs::{Need, unlocked},
        wait::wait,
        write::{locked, write},
    },
    inventory::Inventory,
    marks::{Mark, Want},
};
use crate::{
    access::keys::Caller,
    error::{Code, Error},
    io::{Io, deadline::Deadline},
    sandbox::{
        Removed,
        id::{Kind, SandboxId},
        patch::check_etag,
    },
};

/// Number of times that a deletion begins again from the read.
const ATTEMPTS: usize = 6;

/// Deletes a sandbox. PVE's DELETE has no digest and may be executed late, on
/// the next guest of that VMID: so committed guests are protected, and the PUT
/// that takes the protection off, by digest, is what decides whose guest goes (rule S3.1).
/// The DELETE is the very next request; after any wait all is read again.
///
/// `if_match` is compared with each mark that is read, until one says that the guest is condemned: that
/// write, and the PUT above, are by the digest of the config whose mark was compared.
pub async fn remove<I: Io>(
    cluster: &Cluster<'_, I>,
    caller: &Caller,
    id: &SandboxId,
    if_match: Option<&str>,
    deadline: Deadline<'_, I>,
) -> Result<Removed, Error> {
    let mut last = None;
    for _ in 0..ATTEMPTS {
        let mut found = unlocked(cluster, caller, id, deadline).await?;
        // What a deletion has condemned is seen to its end.
        if found.mark.want != Want::Gone {
            found.needs(cluster, &[Need::Alive])?;
            check_etag(if_match, &found.mark.etag())?;
        }
        if found.mark.kind == Kind::Qemu && !condemn(cluster, &mut found, deadline).await? {
            continue;
        }
        if let Some(lock) = found.config.lock.as_deref().filter(|it| *it != "suspended") {
            return refuse_locked(lock, &found.mark);
        }
        let error = match destroy(cluster, &found).await {
            Ok(task) => return finished(cluster, &task, deadline).await,
            Err(error) => error,
        };
        match decide(&error, !deadline.has_passed()) {
            Next::Again => {}
            Next::FindOut => last = Some(error),
            Next::Stop => {
                let task = cluster.send(found.api(cluster).stop()).await?;
                if wait(cluster, &task, deadline).await.is_none() {
                    return Ok(Removed::Working);
                }
            }
            // It may have moved; only a listing that lacks it proves that it is gone (rule S3.3).
            Next::Look => {
                let inventory = Inventory::read(cluster).await?;
                if inventory.guest(id.vmid).is_none() {
                    inventory.believe(cluster).await?;
                    return Ok(Removed::Done);
                }
            }
            Next::Refuse => {
                return match error.lock() {
                    Some(lock) => refuse_locked(lock, &found.mark),
                    None => Err(error.into()),
                };
            }
        }
    }
    let why = match last {
        Some(cause) => format!("whether {id} was deleted is not known ({cause}); ask again"),
        None => format!("{id} keeps changing or moving; ask again"),
    };
    Err(Error::new(Code::Conflict, why).retry_after(2))
}

/// The step that follows where PVE has not begun to destroy. After each but the last, everything is read again.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// Somebody else has changed the guest.
    Again,
    /// The destruction may have been executed: another attempt finds out.
    FindOut,
    /// The VM runs, and PVE destroys none that does: stop it.
    Stop,
    /// The node does not know the guest: ask the listing.
    Look,
    /// Refuse the deletion.
    Refuse,
}

fn decide(error: &PveError, has_time: bool) -> Next {
    match error {
        _ if error.is_digest_mismatch() || error.is_protected() => Next::Again,
        _ if error.must_be_stopped() => Next::Stop,
        _ if error.is_missing() => Next::Look,
        _ if error.lock().is_none() && error.may_be_executed() && has_time => Next::FindOut,
        _ => Next::Refuse,
    }
}

/// Condemns a VM before it is stopped and destroyed (rule S3.2); whether it can be destroyed now, and else
/// everything is read again. One that is suspended takes no change: unprotected it can be destroyed as it is,
/// else it is woken first (rule S3.4).
async fn condemn<I: Io>(
    cluster: &Cluster<'_, I>,
    found: &mut Located,
    deadline: Deadline<'_, I>,
) -> Result<bool, Error> {
    if found.config.is_suspended() {
        if found.config.protection != Some(true) {
            return Ok(true);
        }
        let task = cluster.send(found.api(cluster).start()).await?;
        return match wait(cluster, &task, deadline).await {
            Some(_) => Ok(false),
            None => Err(locked("suspended", &found.mark).retry_after(5)),
        };
    }
    if !found.committed || found.mark.want == Want::Gone || found.config.lock.is_some() {
        return Ok(true);
    }
    let now = cluster.now().unix_timestamp();
    let condemn = |mark: &mut Mark| {
        mark.want = Want::Gone;
        mark.expires = Some(now);
        Ok(())
    };
    match write(cluster, found, &condemn).await {
        Ok(Ok(changed)) => (found.mark, found.config.protection) = (changed, Some(false)),
        Ok(Err(_)) => return Ok(false),
        Err(error) if error.code() == Code::GuestLocked => return Ok(false),
        // What PVE lets nobody write can still be destroyed.
        Err(error) if !error.is_retryable() => {}
        Err(error) => return Err(error),
    }
    Ok(true)
}

/// The answer to the deletion of a guest that PVE works on: it may be destroying it.
fn refuse_locked(lock: &str, mark: &Mark) -> Result<Removed, Error> {
    if lock == "destroyed" { Ok(Removed::Working) } else { Err(locked(lock, mark)) }
}

async fn finished<I: Io>(
    cluster: &Cluster<'_, I>,
    task: &Upid,
    deadline: Deadline<'_, I>,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pve::api::Refusal;

    #[test]
    fn each_refusal_of_a_destruction_has_its_next_step() {
        let refused = |status, text: &str| {
            PveError::Refused(Refusal { status, message: text.to_owned(), errors: Vec::new() })
        };
        for (text, next) in [
            ("detected modified configuration - file changed by other user?", Next::Again),
            ("can't remove CT 100 - protection mode enabled", Next::Again),
            ("VM 100 is running - destroy failed", Next::Stop),
            ("Configuration file 'nodes/pve1/lxc/100.conf' does not exist", Next::Look),
            ("CT is locked (backup)", Next::Refuse),
            ("storage 'x' is not online", Next::Refuse),
        ] {
            assert_eq!(decide(&refused(500, text), true), next, "{text}");
        }
        let unanswered = refused(596, "");
        assert_eq!(decide(&unanswered, true), Next::FindOut);
        assert_eq!(decide(&unanswered, false), Next::Refuse);
    }
}
