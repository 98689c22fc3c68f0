//! Copies that PVE began and could not finish: it removes what it had made, and with it whose it was to be.

use crate::{
    error::{Code, Error},
    io::Io,
    pve::{
        api::{LATE_SECONDS, task::Task},
        cluster::Cluster,
        guest::wait::failure_of_task,
    },
    sandbox::id::{Kind, SandboxId},
};

/// Why PVE could not make the guest of this id as a copy, as far as its tasks tell; `None` where no copy has failed, or
/// one is still made. A copy's task names its source alone: where several have failed since this guest was claimed, all
/// that they ended with is told.
pub(crate) async fn failed_copy<I: Io>(cluster: &Cluster<'_, I>, id: &SandboxId) -> Option<Error> {
    if id.node.is_empty() {
        return None;
    }
    let kind = match id.kind() {
        Kind::Lxc => "vzclone",
        Kind::Qemu => "qmclone",
    };
    let since = id.nonce.birth().unix_timestamp();
    let tasks = cluster.send(cluster.pve.all_of(&id.node, kind, since)).await.ok()?;
    let is_meant = |it: &&Task| {
        it.kind == kind && it.began().is_some_and(|at| (since..since + LATE_SECONDS).contains(&at))
    };
    let tasks: Vec<&Task> = tasks.iter().filter(is_meant).collect();
    if tasks.iter().any(|it| it.is_running()) {
        return None;
    }
    let failed: Vec<&Task> = tasks.into_iter().filter(|it| !it.has_succeeded()).collect();
    match failed.as_slice() {
        [] => None,
        [task] => {
            let cause = failure_of_task(cluster, task).await;
            Some(
                cause.problem(
                    Code::CloneFailed,
                    "PVE could not make the copy, and has removed what it had made",
                ),
            )
        }
        several => {
            let mut ends: Vec<&str> = several.iter().filter_map(|it| it.status.as_deref()).collect();
            ends.sort_unstable();
            ends.dedup();
            let text = format!("copies on node {} have failed since then: {}", id.node, ends.join("; "));
            Some(Error::new(Code::CloneFailed, text))
        }
    }
}
