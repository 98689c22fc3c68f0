//! Deleting a template.

use std::time::Duration;

use super::locate::find;
use crate::{
    access::keys::Caller,
    error::{Code, Error},
    io::{Io, deadline::Deadline},
    pve::{
        api::PveError,
        cluster::Cluster,
        guest::{
            Located,
            destroy::destroy,
            wait::wait,
            write::{change, locked},
        },
        marks::{Mark, Want},
    },
    sandbox::{id::SandboxId, patch::check_etag},
};

/// By then PVE has said that a template is in use.
const REFUSED: Duration = Duration::from_secs(5);

/// Deletes a template, if it is still what `if_match` names. PVE refuses whole one that sandboxes are linked to.
pub async fn delete<I: Io>(
    cluster: &Cluster<'_, I>,
    caller: &Caller,
    id: &SandboxId,
    if_match: Option<&str>,
    deadline: Deadline<'_, I>,
) -> Result<bool, Error> {
    let found = find(cluster, caller, id).await?;
    let mark = &found.mark;
    check_etag(if_match, &mark.etag())?;
    if mark.base.is_some() || mark.snapshot.as_ref().is_some_and(|it| it.preset().is_some()) {
        caller.ensure_admin("presets are everybody's")?;
    }
    if let Some(lock) = &found.config.lock {
        return Err(locked(lock, mark));
    }
    let task = match destroy(cluster, &found).await {
        Ok(task) => task,
        Err(error) if error.is_digest_mismatch() || error.is_protected() => {
            return Err(
                Error::new(Code::Conflict, format!("{id} is being changed; ask again")).retry_after(1)
            );
        }
        Err(error) if error.is_in_use() => {
            protect(cluster, &found).await;
            return Err(in_use(&error));
        }
        Err(error) if error.must_be_stopped() => return stop_first(cluster, found, deadline).await,
        Err(error) => return Err(error.into()),
    };
    // However short the caller waits: one that is in use is protected again.
    match wait(cluster, &task, deadline.at_least(cluster.deadline(REFUSED))).await {
        None => Ok(false),
        Some(Ok(())) => Ok(true),
        Some(Err(why)) if why.is_in_use() => {
            protect(cluster, &found).await;
            Err(in_use(&why))
        }
        Some(Err(why)) => Err(why.problem(Code::TaskFailed, "PVE could not delete it")),
    }
}

/// Deletes a VM that runs, in which something is built. It is condemned before it is stopped, so that nobody goes on with
/// it: what is left undone here, the sweep does.
async fn stop_first<I: Io>(
    cluster: &Cluster<'_, I>,
    found: Located,
    deadline: Deadline<'_, I>,
) -> Result<bool, Error> {
    let now = cluster.now().unix_timestamp();
    let condemn = |mark: &mut Mark| {
        mark.want = Want::Gone;
        mark.expires = Some(now);
        Ok(())
    };
    change(cluster, &found, &condemn).await?;
    let task = cluster.send(found.api(cluster).stop()).await?;
    if wait(cluster, &task, deadline).await.is_none() {
        return Ok(false);
    }
    let config = cluster.send(found.api(cluster).config()).await?;
    let now = Located::of(&found.node, found.mark.vmid, config);
    match now.filter(|it| it.mark.nonce == found.mark.nonce) {
        Some(now) => {
            let task = destroy(cluster, &now).await?;
            Ok(matches!(wait(cluster, &task, deadline).await, Some(Ok(()))))
        }
        None => Ok(true),
    }
}

/// Puts the protection back of a template that was to be deleted and stays: a change of nothing does.
async fn protect<I: Io>(cluster: &Cluster<'_, I>, found: &Located) {
    let _ = change(cluster, found, &|_| Ok(())).await;
}

fn in_use(why: &PveError) -> Error {
    let text = format!("{why}: delete the sandboxes that were made from it first; nothing was deleted");
    Error::new(Code::SnapshotInUse, text)
}
