//! Locks that only root can clear (rule S4.5).

use super::FINISH_SECONDS;
use crate::{
    io::Io,
    pve::{cluster::Cluster, guest::Located},
    sandbox::{id::Kind, vmid::Vmid},
};

/// What our own requests lock a guest with. Those of others, a backup's say,
/// may be held by work that the token does not see.
const OURS: [&str; 8] =
    ["create", "clone", "disk", "destroyed", "snapshot", "snapshot-delete", "rollback", "suspending"];

/// The reason for which a locked guest is left alone, with what only root can do about a lock that lasts; `None`
/// where nothing is to be said (rule S4.5).
pub(super) async fn refuse_locked<I: Io>(
    cluster: &Cluster<'_, I>,
    Located { node, mark, .. }: &Located,
    lock: &str,
) -> Option<String> {
    if mark.age(cluster.now()) >= FINISH_SECONDS {
        // A task that makes a guest is about what it is made of.
        let source = mark.taken_from.as_ref().map(|it| it.vmid).or(mark.template);
        let about = source.filter(|_| matches!(lock, "create" | "clone")).unwrap_or(mark.vmid);
        if let Some(reason) = crashed(cluster, node, (mark.kind, mark.vmid), about, lock).await {
            return Some(reason);
        }
    }
    (!matches!(lock, "create" | "clone" | "destroyed"))
        .then(|| format!("locked ({lock}): left for a later sweep"))
}

/// The reason to report a lock under which nobody works: PVE runs no task about the guest.
pub(super) async fn crashed<I: Io>(
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
