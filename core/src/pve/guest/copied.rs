//! Copies that PVE makes of a guest: what their tasks tell about the guest that was to be made.
//!
//! A clone's task names its source alone (pve-container `API2/LXC.pm`, qemu-server `API2/Qemu.pm`), and PVE removes all
//! that a failed one has made: which guest it was to be can only be told by the time.

use crate::{
    error::{Code, Error},
    io::Io,
    pve::{
        api::{LATE_SECONDS, PveError, task::Task},
        cluster::Cluster,
        guest::{Located, wait::failure_of_task},
        marks::Mark,
    },
    sandbox::{
        id::{Kind, SandboxId},
        nonce::Nonce,
        vmid::Vmid,
    },
};

/// Seconds by which a node's clock may differ from the one that the time of the claim was taken from.
const SKEW_SECONDS: i64 = 30;

/// Why PVE could not make the guest of this id as a copy, where its tasks leave no doubt: one copy of ours was begun on
/// its node in the time in which the guest was asked for, and that has failed. Who asks may be told its log only where
/// all that this deployment copies is theirs to see.
pub(crate) async fn failed_copy<I: Io>(
    cluster: &Cluster<'_, I>,
    id: &SandboxId,
    tells_log: bool,
) -> Option<Error> {
    let copies = copies(cluster, &id.node, id.kind(), id.nonce).await.ok()?;
    let [task] = copies.as_slice() else { return None };
    if task.may_count() {
        return None;
    }
    let cause = failure_of_task(cluster, task).await;
    Some(match (tells_log, cause.is_storage_full()) {
        (true, _) => {
            cause.problem(Code::CloneFailed, "PVE could not make the copy, and has removed what it had made")
        }
        (false, true) => Error::new(Code::StorageFull, "no room was left for its copy; PVE has removed it"),
        (false, false) => {
            let text = format!(
                "PVE could not make its copy, and has removed it: see the clone's task log on {}",
                id.node
            );
            Error::new(Code::CloneFailed, text)
        }
    })
}

/// Whether a guest is what a crash has left of a copy: volumes may be missing, and its config does not tell. Known where
/// each copy of ours of its source that may have made it has ended, and none of them well. Tasks of a guest that has moved
/// since are another node's.
pub(crate) async fn is_torn<I: Io>(cluster: &Cluster<'_, I>, found: &Located) -> Result<bool, PveError> {
    let mark = &found.mark;
    let Some(source) = source(mark).filter(|_| found.node == mark.node) else { return Ok(false) };
    let mut copies = copies(cluster, &found.node, mark.kind, mark.nonce).await?;
    copies.retain(|it| it.is_about(source));
    Ok(!copies.is_empty() && !copies.iter().any(Task::may_count))
}

/// What a template or a snapshot is a copy of; notes of older versions do not name it.
pub(crate) fn source(mark: &Mark) -> Option<Vmid> {
    let copied = mark.base.as_ref().and_then(|it| it.source);
    mark.taken_from.as_ref().map(|it| it.vmid).or(copied)
}

/// The copies of ours that were begun on a node in the time in which PVE may have been asked for the guest of this nonce.
/// One for which another was faster, or held the lock, was tried again.
async fn copies<I: Io>(
    cluster: &Cluster<'_, I>,
    node: &str,
    kind: Kind,
    nonce: Nonce,
) -> Result<Vec<Task>, PveError> {
    if node.is_empty() {
        return Ok(Vec::new());
    }
    let birth = nonce.birth().unix_timestamp();
    let (since, until) = (birth - SKEW_SECONDS, birth + LATE_SECONDS);
    let call = cluster.pve.tasks_between(node, kind.clones(), since, until);
    let mut tasks = cluster.send(call).await?;
    // Asked of each task too: a filter that is passed over tells nothing.
    tasks.retain(|it| {
        let is_then = it.began().is_some_and(|at| (since..=until).contains(&at));
        let end = PveError::Task(it.status.clone().unwrap_or_default());
        let is_beside = end.is_outdone() || end.is_beside_another() && !end.is_storage_lock_timeout();
        let is_tried_again = !it.may_count() && is_beside;
        it.kind == kind.clones() && is_then && cluster.pve.has_begun(it) && !is_tried_again
    });
    Ok(tasks)
}
