//! Waiting for a task of PVE.

use serde_json::Value;
use time::OffsetDateTime;

use crate::{
    io::{
        Io,
        pace::{Pace, Wait},
    },
    pve::{
        api::{
            PveError,
            task::{Task, Upid},
        },
        cluster::Cluster,
    },
};

/// So much of a failed task's log is told: the last lines, and of each the beginning.
const LINES: usize = 4;
const CHARACTERS: usize = 200;

/// How a task ended; `None` when it has not by `deadline`, or nobody can tell.
pub async fn wait<I: Io>(
    cluster: &Cluster<'_, I>,
    task: &Upid,
    deadline: OffsetDateTime,
) -> Option<Result<(), PveError>> {
    let mut wait = Wait::new(cluster, Pace::of_task(task.kind()), deadline);
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
pub async fn ended<I: Io>(cluster: &Cluster<'_, I>, task: Option<&Upid>) -> Option<Result<(), PveError>> {
    let task = task?;
    match cluster.send(cluster.pve.task(task)).await.ok()?.exit()? {
        Ok(()) => Some(Ok(())),
        Err(exit) => Some(Err(explained(cluster, task, exit).await)),
    }
}

/// Why a task of PVE's list has failed.
pub async fn failure<I: Io>(cluster: &Cluster<'_, I>, task: &Task) -> PveError {
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
    let last = last_lines(&log, &exit);
    if last.is_empty() { known } else { PveError::Task(format!("{exit} (its log ends: {last})")) }
}

/// The last lines of a log, but for those that repeat the exit.
fn last_lines(log: &[Value], exit: &str) -> String {
    let lines = log.iter().filter_map(|it| it.get("t")?.as_str()).map(str::trim);
    let telling = lines.filter(|it| {
        !it.is_empty() && *it != "no content" && !it.starts_with("TASK ERROR") && !exit.contains(it)
    });
    let short = telling.map(|it| it.chars().filter(|it| !it.is_control()).take(CHARACTERS).collect());
    let all: Vec<String> = short.collect();
    all.get(all.len().saturating_sub(LINES)..).unwrap_or_default().join("; ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_end_of_a_log_is_short_and_repeats_nothing() {
        let line = |text: &str| json!({"n": 1, "t": text});
        let mut log: Vec<_> = (0..50).map(|at| line(&format!("transferred {at} %"))).collect();
        log.push(line(&"x".repeat(900)));
        log.push(line("  lvcreate: Insufficient free space\u{7}\n"));
        log.push(line("TASK ERROR: clone failed: exit code 5"));
        let told = last_lines(&log, "clone failed: exit code 5");
        let expected = format!(
            "transferred 48 %; transferred 49 %; {}; lvcreate: Insufficient free space",
            "x".repeat(200)
        );
        assert_eq!(told, expected);
        assert_eq!(last_lines(&[line("no content"), json!({"n": 2})], "x"), "");
    }
}
