//! VMs whose memory is on disk: PVE takes no change of them.

use super::{CONDEMNED_SECONDS, Verdict, action, swap};
use crate::{
    error::Error,
    io::Io,
    pve::{
        cluster::Cluster,
        guest::Located,
        marks::{Mark, Want, lifetime},
    },
    sandbox::sweep::Action,
};

/// Type of PVE's task that suspends a VM.
const SUSPENDS: &str = "qmsuspend";

/// Whether a VM that shall be suspended was, and is not any more (rule S4.7): whoever
/// started it had no time left to write that it shall run. A pause that was
/// never begun leaves no such task, and is nothing to undo.
pub(super) async fn was_resumed<I: Io>(
    cluster: &Cluster<'_, I>,
    Located { node, mark, .. }: &Located,
) -> bool {
    let Some(since) = lifetime::stopped_at(mark) else { return false };
    let tasks =
        cluster.send(cluster.pve.tasks_of(node, SUSPENDS, mark.vmid, since)).await.unwrap_or_default();
    tasks.iter().any(|it| it.is_since(SUSPENDS, mark.vmid, since) && it.has_succeeded())
}

pub(super) async fn renew<I: Io>(cluster: &Cluster<'_, I>, found: &Located, dry_run: bool) -> Action {
    let mut reason = "resumed, and whoever did had no time to write so".to_owned();
    let (now, limits) = (cluster.now().unix_timestamp(), &cluster.settings.limits);
    let apply = |mark: &mut Mark| {
        lifetime::start(mark, None, now, limits);
        mark.want = Want::On;
        mark.keeps = None;
    };
    if !dry_run && let Err(error) = swap(cluster, found, &apply).await {
        reason = format!("{reason}; failed: {error}");
    }
    action(found, "finish", reason)
}

/// A suspended VM takes no change, so it cannot be condemned, and needs not be (rule S4.6):
/// nothing can renew it but its start, and PVE destroys no VM that runs. One
/// that is protected all the same is woken, and condemned by a later run.
pub(super) async fn overdue<I: Io>(
    cluster: &Cluster<'_, I>,
    found: &Located,
    due: Verdict,
    dry_run: bool,
) -> Option<Action> {
    let Located { config, mark, .. } = found;
    let ends = lifetime::ends(mark, cluster.settings.limits.stopped_max_seconds);
    let over = ends.is_some_and(|it| cluster.now().unix_timestamp().saturating_sub(it) >= CONDEMNED_SECONDS);
    if !over || !matches!(due, Verdict::Condemn | Verdict::Delete) {
        return None;
    }
    let wakes = config.protection == Some(true);
    let guest = found.api(cluster);
    let (done, call, why) = match wakes {
        true => ("start", guest.start(), "expired while suspended, and protected: PVE deletes it only awake"),
        false => ("delete", guest.destroy(), "expired while suspended"),
    };
    let mut reason = why.to_owned();
    if !dry_run && let Err(error) = cluster.send(call).await {
        reason = format!("{why}; failed: {}", Error::from(error));
    }
    Some(action(found, done, reason))
}
