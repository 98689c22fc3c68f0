//! Locks that only root can clear (rule S4.5).

use crate::{
    io::Io,
    pve::{cluster::Cluster, guest::Located},
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
    Located { node, mark, .. }: &Located,
    lock: &str,
) -> Option<String> {
    if mark.age(cluster.now()) < FINISH_SECONDS {
        return None;
    }
    // A task that makes a guest is about what it is made of.
    let copied = mark.base.as_ref().and_then(|it| it.source);
    let source = mark.taken_from.as_ref().map(|it| it.vmid).or(mark.template).or(copied);
    let about = source.filter(|_| matches!(lock, "create" | "clone")).unwrap_or(mark.vmid);
    crashed(cluster, node, (mark.kind, mark.vmid), about, lock).await
}

/// The reason to report a lock under which nobody works: PVE runs no task about the guest.
pub(crate) async fn crashed<I: Io>(
    cluster: &Cluster<'_, I>,
    node: &str,
    (kind, vmid): (Kind, Vmid),
    about: Vmid,
    lock: &str,
) -> Option<String> {
    if !OURS.contains(&lock) || !cluster.send(cluster.pve.active_on(node, about)).await.ok()?.is_empty() {
        return None;
    }
    let tool = kind.tool();
    Some(format!("lock-stale: locked ({lock}) by work that has crashed; run {tool} unlock {vmid}"))
}
