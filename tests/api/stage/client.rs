//! A client that does as it is told: polls what is coming up, comes back
//! after `Retry-After`, and repeats a creation only with its key.

use std::time::Duration;

use crate::stage::{Answer, Ask, Stage, guests::assert_honest};
use pve_edge_core::io::Io;

/// So often it asks before it gives up.
const PATIENCE: usize = 60;

/// Creates until there is a sandbox that runs. One that ends as `error` is
/// deleted, which frees its key, and made again.
pub(crate) async fn create(stage: Stage, ask: Ask) -> Answer {
    let mut last = None;
    for _ in 0..PATIENCE {
        let mut answer = stage.pending(ask.clone()).await;
        assert_honest(&stage, &answer);
        if answer.status == 202 {
            answer = poll(stage.clone(), answer.id()).await;
        }
        match (answer.status, &*answer.state()) {
            (200 | 201, "running") => return answer,
            (200 | 201, "error") => {
                delete(stage.clone(), answer.id()).await;
            }
            _ => pause(&stage, &answer).await,
        }
        last = Some(answer);
    }
    panic!("no sandbox after {PATIENCE} tries: {last:?}\n{}", stage.told());
}

/// Asks for a sandbox until it is no longer coming up.
pub(crate) async fn poll(stage: Stage, id: String) -> Answer {
    repeat(stage, Ask::one(&id), |it| matches!(it.status, 200 | 404) && it.state() != "creating").await
}

/// Deletes until it is gone.
pub(crate) async fn delete(stage: Stage, id: String) -> Answer {
    repeat(stage, Ask::end(&id), |it| matches!(it.status, 204 | 404)).await
}

/// Asks until the answer is what it waits for.
pub(crate) async fn repeat(stage: Stage, ask: Ask, done: impl Fn(&Answer) -> bool) -> Answer {
    for _ in 0..PATIENCE {
        let answer = stage.pending(ask.clone()).await;
        assert_honest(&stage, &answer);
        if done(&answer) {
            return answer;
        }
        pause(&stage, &answer).await;
    }
    panic!("{ask:?} never came to its end\n{}", stage.told());
}

async fn pause(stage: &Stage, answer: &Answer) {
    let seconds = answer.retry_after().unwrap_or(1).max(1);
    stage.world.io().sleep(Duration::from_secs(seconds)).await;
}
