//! Deleting a template.

use std::time::Duration;

use time::OffsetDateTime;

use super::locate::find;
use crate::{
    access::keys::Caller,
    error::{Code, Error},
    io::Io,
    pve::{
        api::PveError,
        cluster::Cluster,
        guest::{commit, destroy::destroy, wait::wait},
        marks::Mark,
    },
    sandbox::{id::SandboxId, patch::unchanged},
};

/// By then PVE has said that a template is in use.
const REFUSED: Duration = Duration::from_secs(5);

/// Deletes a snapshot; one that sandboxes are linked to is refused whole by PVE.
pub async fn delete<I: Io>(
    cluster: &Cluster<'_, I>,
    caller: &Caller,
    id: &SandboxId,
    if_match: Option<&str>,
    deadline: OffsetDateTime,
) -> Result<bool, Error> {
    let (node, config, mark) = find(cluster, caller, id).await?;
    unchanged(if_match, &mark.etag())?;
    if mark.base.is_some() || mark.snapshot.as_ref().is_some_and(|it| it.preset().is_some()) {
        caller.ensure_admin("presets are everybody's")?;
    }
    if let Some(lock) = &config.lock {
        return Err(commit::locked(lock, &mark));
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
    match wait(cluster, &task, deadline.max(cluster.deadline(REFUSED))).await {
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

fn in_use(why: &PveError) -> Error {
    let text = format!("{why}: delete the sandboxes that were made from it first; nothing was deleted");
    Error::new(Code::SnapshotInUse, text)
}
