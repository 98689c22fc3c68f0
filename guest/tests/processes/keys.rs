//! Starts under a key: each runs one thing, once.

use futures_util::future::join;
use pve_edge_guest_protocol::{
    Unique,
    answer::Code,
    call::{Digest256, Operation},
    process::{After, Process, Scope, Signal, Start, State},
};

use super::line;
use crate::daemon::{Daemon, unique};

fn keyed(process: Unique, key: &[u8]) -> Start {
    Start { process, keyed: Some(Digest256::of(key)) }
}

#[tokio::test]
async fn of_two_requests_under_one_key_one_is_refused_even_while_the_other_is_noted() {
    let daemon = Daemon::start().await;
    for _ in 0..20 {
        let process = unique();
        let (one, other) = (line("echo one >> ran"), line("echo other >> ran"));
        let (first, second) = join(
            daemon.start_again(keyed(process, b"one"), &one),
            daemon.start_again(keyed(process, b"other"), &other),
        )
        .await;
        let (started, refused, spec) = match (first, second) {
            (Ok(started), refused) => (started, refused, one),
            (refused, started) => (started.unwrap(), refused, other),
        };
        assert_eq!(refused.unwrap_err().code, Code::OtherRequest);
        assert_eq!(started.argv[2], spec.command.unwrap());
        daemon.until_state(process, State::Exited).await;
    }
    assert_eq!(daemon.exec(line("wc -l < ran")).await.text().trim(), "20");
}

#[tokio::test]
async fn a_process_that_is_starting_is_told_with_what_it_is_to_run() {
    let daemon = Daemon::start().await;
    for _ in 0..20 {
        let process = unique();
        let spec = line("exec sleep 100");
        let start = || daemon.start_again(keyed(process, b"key"), &spec);
        let (first, second) = join(start(), start()).await;
        for told in [first.unwrap(), second.unwrap()] {
            assert_eq!(told.argv.get(2), spec.command.as_ref(), "{:?}", told.state);
            assert_eq!((told.pid.is_some(), told.cwd.is_some()), (told.state == State::Running, true));
        }
        daemon.forget(process).await.unwrap();
    }
}

#[tokio::test]
async fn a_start_under_a_key_is_not_that_of_a_process_without_one() {
    let daemon = Daemon::start().await;
    let start = Start { process: unique(), keyed: None };
    daemon.start_again(start.clone(), &line("sleep 100")).await.unwrap();
    let refusal = daemon.start_again(keyed(start.process, b"key"), &line("sleep 100")).await.unwrap_err();
    assert_eq!(refusal.code, Code::OtherRequest);
}

#[tokio::test]
async fn a_process_that_was_forgotten_is_not_told_of_and_does_not_run_again() {
    let mut daemon = Daemon::start().await;
    let start = keyed(unique(), b"key");
    let (process, spec) = (start.process, line("echo run >> ran"));
    daemon.start_again(start.clone(), &spec).await.unwrap();
    daemon.follow(process, After::Start).await;
    daemon.forget(process).await.unwrap();
    let signal = || Operation::Signal(Signal { process, signal: "TERM".into(), scope: Scope::Tree });
    assert_eq!(daemon.get(process).await.unwrap_err().code, Code::NoSuchProcess);
    assert_eq!(daemon.ask::<Process>(signal(), "").await.unwrap_err().code, Code::NoSuchProcess);
    assert_eq!(daemon.forget(process).await.unwrap_err().code, Code::NoSuchProcess);
    assert_eq!(daemon.start_again(start.clone(), &spec).await.unwrap().state, State::Lost);
    daemon.restart_guest().await;
    assert_eq!(daemon.get(process).await.unwrap().state, State::Lost);
    assert_eq!(daemon.ask::<Process>(signal(), "").await.unwrap_err().code, Code::ProcessGone);
    assert_eq!(daemon.start_again(start, &spec).await.unwrap().state, State::Lost);
    assert_eq!(daemon.exec(line("cat ran")).await.text(), "run\n");
}
