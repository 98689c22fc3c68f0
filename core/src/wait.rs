//! Waiting for a task of PVE.

use std::time::Duration;

use time::OffsetDateTime;

use crate::{edge::Edge, io::Io, pve::task::Upid};

/// How a task ended; `None` when it has not by `deadline`, or nobody can tell.
pub async fn wait<I: Io>(
    edge: &Edge<'_, I>,
    task: &Upid,
    deadline: OffsetDateTime,
) -> Option<Result<(), String>> {
    let mut pause = Duration::from_millis(1100);
    while edge.now() < deadline && edge.left() > 1 {
        edge.pause(pause, deadline).await;
        pause = (pause * 3 / 2).min(Duration::from_secs(4));
        match edge.send(edge.pve.task(task)).await {
            Ok(status) => match status.exit() {
                None => {}
                exit => return exit,
            },
            Err(_) => return None,
        }
    }
    None
}

/// How a task ended, once it has and PVE tells.
pub async fn ended<I: Io>(edge: &Edge<'_, I>, task: Option<&Upid>) -> Option<Result<(), String>> {
    edge.send(edge.pve.task(task?)).await.ok()?.exit()
}
