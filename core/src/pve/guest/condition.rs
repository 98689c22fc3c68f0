//! The condition of a guest: whether it runs, is stopped, or is being worked on.

use super::Located;
use crate::{
    io::Io,
    pve::{
        api::{PveError, task::Task},
        cluster::Cluster,
    },
};

/// The condition of a guest at this moment.
#[derive(Clone, Debug)]
pub enum Condition {
    /// The guest runs.
    Running,
    /// The guest is stopped.
    Stopped,
    /// PVE works on it, so its status is not asked for.
    Working(Task),
}

impl Condition {
    /// Whether it runs, as far as that was asked.
    pub fn is_running(&self) -> bool {
        matches!(self, Self::Running)
    }

    /// Whether PVE starts it now.
    pub fn is_starting(&self) -> bool {
        matches!(self, Self::Working(task) if task.is_start())
    }
}

/// What a guest does at this moment: asks PVE which tasks work on it, and for its status only where none
/// does (rule S5.3).
///
/// The status of a container that is being started can hang for as long as the start: PVE asks
/// `lxc-info`, which waits, and meanwhile one of pvedaemon's three workers serves nobody else. The
/// tasks are told by pveproxy itself, at once.
pub async fn condition<I: Io>(cluster: &Cluster<'_, I>, found: &Located) -> Result<Condition, PveError> {
    let tasks = cluster.send(cluster.pve.active_on(&found.node, found.mark.vmid)).await;
    condition_beside(cluster, tasks, found).await
}

/// As [`condition`], with the answer about tasks at hand. One that cannot be had hides nothing: the
/// status is asked for then.
pub async fn condition_beside<I: Io>(
    cluster: &Cluster<'_, I>,
    tasks: Result<Vec<Task>, PveError>,
    found: &Located,
) -> Result<Condition, PveError> {
    let working = |task: &Task| task.is_running() && task.is_work_on(found.mark.vmid);
    if let Some(task) = tasks.unwrap_or_default().into_iter().find(working) {
        return Ok(Condition::Working(task));
    }
    let status = cluster.send(found.api(cluster).status()).await?;
    Ok(if status.status == "running" { Condition::Running } else { Condition::Stopped })
}
