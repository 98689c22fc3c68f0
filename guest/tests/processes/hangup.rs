//! Processes that end when nobody follows them any more.

use pve_edge_guest_protocol::process::{After, Spec, State};

use super::{line, lives, until};
use crate::daemon::Daemon;

fn followed(command: &str) -> Spec {
    Spec { hangup: true, ..line(command) }
}

#[tokio::test]
async fn a_process_that_nobody_ever_follows_ends_with_all_that_it_has_started() {
    let daemon = Daemon::start_with(&["--limits", r#"{"hangup_ms":300}"#]).await;
    let other = daemon.start_process(line("exec sleep 100")).await.unwrap();
    let command = "trap '' TERM; setsid sleep 100 & echo $! > child; exec sleep 101";
    let process = daemon.start_process(followed(command)).await.unwrap();
    let mut child = 0;
    until("the child is known", || {
        let told = std::fs::read_to_string(daemon.path("home/child")).unwrap_or_default();
        child = told.trim().parse().unwrap_or(0);
        child > 0
    })
    .await;
    until("both are killed", || !lives(process.pid.unwrap()) && !lives(child)).await;
    let ended = daemon.until_state(process.process, State::Exited).await;
    assert_eq!(ended.exit.unwrap().signal.as_deref(), Some("KILL"));
    assert!(lives(other.pid.unwrap()));
}

#[tokio::test]
async fn a_process_lives_for_as_long_as_it_is_followed_and_a_little_longer() {
    let daemon = Daemon::start_with(&["--limits", r#"{"hangup_ms":2000}"#]).await;
    let process =
        daemon.start_process(followed("trap 'echo ended > last; exit' TERM; while :; do sleep 0.05; done"));
    let process = process.await.unwrap();
    let (name, pid) = (process.process, process.pid.unwrap());
    let followers =
        [daemon.open_lines(name, After::Start).await, daemon.open_lines(name, After::Start).await];
    tokio::time::sleep(std::time::Duration::from_millis(2500)).await;
    let [one, other] = followers;
    drop(one);
    tokio::time::sleep(std::time::Duration::from_millis(2500)).await;
    assert!(lives(pid), "another one follows it");
    drop(other);
    until("it ends", || !lives(pid)).await;
    assert_eq!(std::fs::read_to_string(daemon.path("home/last")).unwrap(), "ended\n");
}

#[tokio::test]
async fn a_process_whose_followers_are_gone_with_the_daemon_ends_unless_they_come_again() {
    let daemon = Daemon::start_with(&["--limits", r#"{"hangup_ms":4000}"#]).await;
    let spec = || followed("exec sleep 100");
    let left = daemon.start_process(spec()).await.unwrap();
    let kept = daemon.start_process(spec()).await.unwrap();
    let _lines = [
        daemon.open_lines(left.process, After::Start).await,
        daemon.open_lines(kept.process, After::Start).await,
    ];
    daemon.kill().await;
    let _again = daemon.open_lines(kept.process, After::Start).await;
    until("the one that nobody follows ends", || !lives(left.pid.unwrap())).await;
    assert!(lives(kept.pid.unwrap()));
}
