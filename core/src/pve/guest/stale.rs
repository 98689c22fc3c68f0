//! Locks that only root can clear (rule S4.5).

use crate::{
    io::Io,
    pve::{
        api::{LATE_SECONDS, task::Task},
        cluster::Cluster,
        guest::{Located, copied::source},
        marks::Mark,
    },
    sandbox::{FINISH_SECONDS, id::Kind, vmid::Vmid},
};

/// What our own requests lock a guest with. Those of others, a backup's say,
/// may be held by work that the token does not see.
const OURS: [&str; 8] =
    ["create", "clone", "disk", "destroyed", "snapshot", "snapshot-delete", "rollback", "suspending"];

/// The reason for which a locked guest is left alone, with what only root can do about a lock that lasts; `None`
/// where nothing is to be said (rule S4.5).
pub(crate) async fn refuse_locked<I: Io>(
    cluster: &Cluster<'_, I>,
    found: &Located,
    lock: &str,
) -> Option<String> {
    if let Some(reason) = left_by_a_crash(cluster, found, lock).await {
        return Some(reason);
    }
    (!matches!(lock, "create" | "clone" | "destroyed"))
        .then(|| format!("locked ({lock}): left for a later sweep"))
}

/// The reason to report a lock that was left ten minutes after the guest's claim or later, by work that has crashed.
pub(crate) async fn left_by_a_crash<I: Io>(
    cluster: &Cluster<'_, I>,
    found: &Located,
    lock: &str,
) -> Option<String> {
    let Located { node, mark, .. } = found;
    if mark.age(cluster.now()) < FINISH_SECONDS {
        return None;
    }
    let of_copy = matches!(lock, "create" | "clone").then_some(mark);
    let reason = crashed(cluster, node, (mark.kind, mark.vmid), lock, of_copy).await?;
    // The work may have ended between both looks: PVE takes its lock off first.
    let now = found.read_again(cluster).await.ok()??;
    (now.config.lock.as_deref() == Some(lock)).then_some(reason)
}

/// The reason to report a lock under which nobody works: PVE runs no task about the guest, nor a copy that may make the
/// guest of this mark.
pub(crate) async fn crashed<I: Io>(
    cluster: &Cluster<'_, I>,
    node: &str,
    (kind, vmid): (Kind, Vmid),
    lock: &str,
    of_copy: Option<&Mark>,
) -> Option<String> {
    if !OURS.contains(&lock) {
        return None;
    }
    let active = match of_copy {
        Some(_) => cluster.pve.active(node),
        None => cluster.pve.active_on(node, vmid),
    };
    let tasks = cluster.send(active).await.ok()?;
    if tasks.iter().any(|it| it.is_about(vmid) || of_copy.is_some_and(|mark| may_make(it, mark))) {
        return None;
    }
    let tool = kind.tool();
    Some(format!("lock-stale: locked ({lock}) by work that has crashed; run {tool} unlock {vmid}"))
}

/// Whether a task may be the copy that makes a guest. It is about the source, which notes of older versions do not name.
fn may_make(task: &Task, mark: &Mark) -> bool {
    let source = source(mark).or(mark.template);
    let latest = mark.birth().unix_timestamp() + LATE_SECONDS;
    task.kind == mark.kind.clones()
        && task.began().is_none_or(|at| at <= latest)
        && source.is_none_or(|vmid| task.is_about(vmid))
}
