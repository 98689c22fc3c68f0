//! Waiting for a task of PVE.

use crate::{
    io::{Io, deadline::Deadline, pace::Pace},
    pve::{
        api::{
            PveError,
            task::{Task, Upid},
        },
        cluster::Cluster,
    },
};

/// How a task ended; `None` when it has not by `deadline`, or nobody can tell.
pub async fn wait<I: Io>(
    cluster: &Cluster<'_, I>,
    task: &Upid,
    deadline: Deadline<'_, I>,
) -> Option<Result<(), PveError>> {
    let mut wait = deadline.paced(Pace::of_task(task.kind()));
    while wait.pause().await {
        match cluster.send(cluster.pve.task(task)).await {
            Ok(status) => match status.exit() {
                None => {}
                Some(Ok(())) => return Some(Ok(())),
                Some(Err(exit)) => return Some(Err(explained(cluster, task, exit).await)),
            },
            Err(_) => return None,
        }
    }
    None
}

/// How a task ended, once it has and PVE tells.
pub async fn end_of_task<I: Io>(
    cluster: &Cluster<'_, I>,
    task: Option<&Upid>,
) -> Option<Result<(), PveError>> {
    let task = task?;
    match cluster.send(cluster.pve.task(task)).await.ok()?.exit()? {
        Ok(()) => Some(Ok(())),
        Err(exit) => Some(Err(explained(cluster, task, exit).await)),
    }
}

/// Why a task of PVE's list has failed.
pub async fn failure_of_task<I: Io>(cluster: &Cluster<'_, I>, task: &Task) -> PveError {
    let exit = task.status.clone().unwrap_or_default();
    match task.upid.parse() {
        Ok(upid) => explained(cluster, &upid, exit).await,
        Err(_) => PveError::Task(exit),
    }
}

/// Why a task has failed. PVE's commands tell the cause in the log: the exit
/// often says only which of them has failed.
async fn explained<I: Io>(cluster: &Cluster<'_, I>, task: &Upid, exit: String) -> PveError {
    let known = PveError::Task(exit.clone());
    if known.is_outdone() || known.is_beside_another() || known.is_missing() {
        return known;
    }
    let log = cluster.send(cluster.pve.task_log(task)).await.unwrap_or_default();
    PveError::of_task(&exit, &log)
}
