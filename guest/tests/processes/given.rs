//! Standard input that is given at the start.

use pve_edge_guest_protocol::{
    answer::Code,
    call::Digest256,
    process::{After, Bytes, LARGEST_INPUT, Size, Spec, State, StdinTaken},
};

use super::{line, lives, until};
use crate::daemon::{Daemon, children};

fn given(command: &str, input: impl Into<Vec<u8>>) -> Spec {
    Spec { input: Some(Bytes(input.into())), ..line(command) }
}

/// As much as may be given.
fn much() -> Vec<u8> {
    (0..LARGEST_INPUT as u32).map(|it| (it % 251) as u8).collect()
}

#[tokio::test]
async fn a_process_reads_what_was_given_although_the_daemon_is_killed() {
    let daemon = Daemon::start().await;
    let command = "while ! [ -e go ]; do sleep 0.01; done; sha256sum";
    let process = daemon.start_process(given(command, much())).await.unwrap().process;
    daemon.kill().await;
    std::fs::write(daemon.path("home/go"), "").unwrap();
    let told = daemon.follow(process, After::Start).await;
    assert!(told.text().starts_with(&hex::encode(Digest256::of(&much()).0)), "{}", told.text());
    assert_eq!(daemon.exec(given("cat; echo end", "")).await.text(), "end\n");
}

#[tokio::test]
async fn what_was_given_counts_and_nothing_comes_behind_it() {
    let daemon = Daemon::start().await;
    let command = "while ! [ -e go ]; do sleep 0.01; done; cat; exec sleep 100";
    let process = daemon.start_process(given(command, much())).await.unwrap().process;
    // While it waits for room, and once it is taken.
    for is_read in [false, true] {
        if is_read {
            std::fs::write(daemon.path("home/go"), "").unwrap();
            daemon.open_lines(process, After::Start).await.until(LARGEST_INPUT as u64).await;
        }
        for at in [0, LARGEST_INPUT as u64, u64::MAX] {
            let refusal = daemon.write_stdin(process, at, "x", false).await.unwrap_err();
            assert_eq!(refusal.code, Code::StdinClosed);
        }
    }
    let mut taken = daemon.get(process).await.unwrap().stdin.unwrap();
    while !taken.closed {
        taken = daemon.get(process).await.unwrap().stdin.unwrap();
    }
    assert_eq!(taken, StdinTaken { at: LARGEST_INPUT as u64, closed: true });
}

#[tokio::test]
async fn a_process_that_does_not_read_what_was_given_costs_no_time_and_ends_as_ever() {
    let daemon = Daemon::start().await;
    let told = daemon.exec(given("exec <&-; echo closed; sleep 0.1; exit 3", much())).await;
    assert_eq!((told.text(), told.code()), ("closed\n", 3));
    assert_eq!(daemon.exec(given("head -c 3", much())).await.text().len(), 3);
    let process = daemon.start_process(given("exec sleep 100", much())).await.unwrap();
    let keepers = children(daemon.serve().unwrap());
    let ticks = || -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", keepers[0])).unwrap();
        stat.rsplit_once(')')
            .unwrap()
            .1
            .split(' ')
            .skip(12)
            .take(2)
            .map(|it| it.parse::<u64>().unwrap())
            .sum()
    };
    let before = ticks();
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert!(ticks() - before < 20, "it spins");
    daemon.forget(process.process).await.unwrap();
    until("it is killed", || !lives(process.pid.unwrap())).await;
}

#[tokio::test]
async fn the_run_folder_never_has_what_was_given() {
    let daemon = Daemon::start().await;
    let process = daemon.start_process(given("exec sleep 100", b"needle".repeat(100_000))).await.unwrap();
    daemon.until_state(process.process, State::Running).await;
    let mut search = std::process::Command::new("grep");
    let found = search.args(["-rl", "needle\\|bmVlZGxl"]).arg(daemon.path("run")).output().unwrap();
    assert_eq!(String::from_utf8(found.stdout).unwrap(), "");
}

#[tokio::test]
async fn what_was_given_to_many_processes_has_a_bound() {
    let daemon = Daemon::start_with(&["--limits", r#"{"inputs":2500000}"#]).await;
    let spec = given("while ! [ -e go ]; do sleep 0.01; done; cat > /dev/null; exec sleep 100", much());
    let mut started = Vec::new();
    for _ in 0..2 {
        started.push(daemon.start_process(spec.clone()).await.unwrap().process);
    }
    let refusal = daemon.start_process(spec.clone()).await.unwrap_err();
    assert_eq!(refusal.code, Code::Busy);
    assert_eq!(daemon.exec(given("cat", "little")).await.text(), "little");
    daemon.forget(started[0]).await.unwrap();
    let again = loop {
        if let Ok(again) = daemon.start_process(spec.clone()).await {
            break again.process;
        }
    };
    std::fs::write(daemon.path("home/go"), "").unwrap();
    for process in [started[1], again] {
        while !daemon.get(process).await.unwrap().stdin.unwrap().closed {}
    }
    assert_eq!(daemon.exec(given("wc -c", much())).await.text().trim(), LARGEST_INPUT.to_string());
}

#[tokio::test]
async fn too_much_or_for_a_terminal_is_refused() {
    let daemon = Daemon::start().await;
    let terminal = Spec { pty: Some(Size { cols: 80, rows: 24 }), ..given("cat", "x") };
    for spec in [given("cat", [much(), vec![0]].concat()), terminal] {
        assert_eq!(daemon.start_process(spec).await.unwrap_err().code, Code::BadCall);
    }
}
