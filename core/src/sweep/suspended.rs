//! VMs whose memory is on disk: PVE takes no change of them.

use super::{Action, CONDEMNED_SECONDS, Verdict, swap};
use crate::{
    edge::Edge,
    error::Error,
    io::Io,
    lifetime,
    marks::{Mark, Want},
    pve::config::Config,
    sandbox::SandboxId,
};

/// As PVE's tasks name the suspension of a VM.
const SUSPENDS: &str = "qmsuspend";

/// Whether a VM that shall be suspended was, and is not any more: whoever
/// started it had no time left to write that it shall run. A pause that was
/// never begun leaves no such task, and is nothing to undo.
pub(super) async fn was_resumed<I: Io>(edge: &Edge<'_, I>, node: &str, mark: &Mark) -> bool {
    let Some(since) = lifetime::stopped_at(mark) else { return false };
    let tasks = edge.send(edge.pve.tasks_of(node, SUSPENDS, mark.vmid, since)).await.unwrap_or_default();
    tasks.iter().any(|it| it.is_since(SUSPENDS, mark.vmid, since) && it.has_succeeded())
}

pub(super) async fn renew<I: Io>(
    edge: &Edge<'_, I>,
    node: &str,
    config: &Config,
    mark: &Mark,
    dry_run: bool,
) -> Action {
    let mut reason = "resumed, and whoever did had no time to write so".to_owned();
    let (now, settings) = (edge.now().unix_timestamp(), edge.settings);
    let apply = |mark: &mut Mark| {
        lifetime::start(mark, None, now, settings);
        mark.want = Want::On;
        mark.keeps = None;
    };
    if !dry_run && let Err(error) = swap(edge, node, config, mark, &apply).await {
        reason = format!("{reason}; failed: {error}");
    }
    Action { vmid: Some(mark.vmid), id: Some(SandboxId::of(mark).to_string()), action: "finish", reason }
}

/// A suspended VM takes no change, so it cannot be condemned, and needs not be:
/// nothing can renew it but its start, and PVE destroys no VM that runs. One
/// that is protected all the same is woken, and condemned by a later run.
pub(super) async fn overdue<I: Io>(
    edge: &Edge<'_, I>,
    node: &str,
    config: &Config,
    mark: &Mark,
    due: Verdict,
    dry_run: bool,
) -> Option<Action> {
    let ends = lifetime::ends(mark, edge.settings.limits.stopped_max_seconds);
    let over = ends.is_some_and(|it| edge.now().unix_timestamp().saturating_sub(it) >= CONDEMNED_SECONDS);
    if !over || !matches!(due, Verdict::Condemn | Verdict::Delete) {
        return None;
    }
    let wakes = config.protection == Some(true);
    let guest = edge.pve.guest(node, mark.kind, mark.vmid);
    let (action, call, why) = match wakes {
        true => ("start", guest.start(), "expired while suspended, and protected: PVE deletes it only awake"),
        false => ("delete", guest.destroy(), "expired while suspended"),
    };
    let mut reason = why.to_owned();
    if !dry_run && let Err(error) = edge.send(call).await {
        reason = format!("{why}; failed: {}", Error::from(error));
    }
    Some(Action { vmid: Some(mark.vmid), id: Some(SandboxId::of(mark).to_string()), action, reason })
}
