//! What outlives the daemon, and what does not outlive a keeper.

use pve_edge_guest_protocol::{
    Unique,
    answer::Code,
    call::Operation,
    process::{After, Processes, Scope, Signal, Spec, Start, State, Stdin, StdinTaken},
};

use super::{line, lives, until};
use crate::daemon::{Daemon, children, kill, stop};

#[tokio::test]
async fn a_daemon_that_is_killed_loses_no_byte_and_no_exit_code() {
    let daemon = Daemon::start().await;
    let command = "seq 1 50000; cat; seq 1 50000; exit 9";
    let process = daemon.start_process(Spec { stdin: true, ..line(command) }).await.unwrap();
    let mut told = daemon.open_lines(process.process, After::Start).await.until(100_000).await;
    let ended = daemon.start_process(line("exit 3")).await.unwrap().process;
    daemon.until_state(ended, State::Exited).await;
    daemon.kill().await;

    let listed: Processes = daemon.ask(Operation::Processes {}, "").await.unwrap();
    let states: Vec<State> = listed.processes.iter().map(|it| it.state).collect();
    assert_eq!(states, [State::Running, State::Exited]);
    assert_eq!(listed.processes[0].pid, process.pid);
    let stdin = Operation::Stdin(Stdin { process: process.process, at: 0, end: true });
    let taken: StdinTaken = daemon.ask(stdin, "between\n").await.unwrap();
    assert_eq!(taken, StdinTaken { at: 8, closed: true });
    daemon.kill().await;
    let rest = daemon.follow(process.process, After::Cursor(told.cursor)).await;
    told.stdout.extend(&rest.stdout);
    let numbers: String = (1..=50_000).map(|it| format!("{it}\n")).collect();
    assert!(told.text() == [&numbers, "between\n", &numbers].concat());
    assert_eq!(rest.code(), 9);
    assert_eq!(daemon.follow(ended, After::Start).await.code(), 3);
}

#[tokio::test]
async fn a_process_whose_keeper_is_killed_is_lost() {
    let daemon = Daemon::start().await;
    let command = "trap '' HUP; setsid sleep 100 & echo told; exec sleep 101";
    let process = daemon.start_process(line(command)).await.unwrap();
    let mut lines = daemon.open_lines(process.process, After::Start).await;
    let mut told = lines.until(5).await;
    let keeper = children(daemon.serve().unwrap())[0];
    kill(keeper);
    while let Some(line) = lines.next().await {
        told.add(line);
    }
    assert!(told.is_lost && told.text() == "told\n");
    let lost = daemon.get(process.process).await.unwrap();
    assert_eq!((lost.state, lost.cursor, lost.exit), (State::Lost, 5, None));
    let told = daemon.follow(process.process, After::Start).await;
    assert!(told.is_lost && told.text() == "told\n");
    let start = Start { process: process.process, keyed: None };
    assert_eq!(daemon.start_again(start, &line("true")).await.unwrap().state, State::Lost);
    let stdin = Operation::Stdin(Stdin { process: process.process, at: 0, end: true });
    assert_eq!(daemon.ask::<StdinTaken>(stdin, "x").await.unwrap_err().code, Code::ProcessGone);
    // Whoever forgets it wants it to end.
    let pid = process.pid.unwrap();
    assert!(lives(pid));
    daemon.forget(process.process).await.unwrap();
    until("what was left is killed", || !lives(pid)).await;
}

#[tokio::test]
async fn a_keeper_that_is_stopped_keeps_nobody_waiting() {
    let daemon = Daemon::start().await;
    let spec = Spec { stdin: true, ..line("setsid sleep 100 & echo told; exec sleep 101") };
    let process = daemon.start_process(spec).await.unwrap();
    let name = process.process;
    daemon.open_lines(name, After::Start).await.until(5).await;
    let left: Vec<u32> = children(children(daemon.serve().unwrap())[0]);
    stop(children(daemon.serve().unwrap())[0]);
    let listed: Processes = daemon.ask(Operation::Processes {}, "").await.unwrap();
    let told = (listed.processes[0].state, listed.processes[0].cursor, listed.processes[0].pid);
    assert_eq!(told, (State::Running, 5, process.pid));
    let signal = Operation::Signal(Signal { process: name, signal: "TERM".into(), scope: Scope::Tree });
    let refusal = daemon.ask::<serde_json::Value>(signal, "").await.unwrap_err();
    assert_eq!(refusal.code, Code::Failed, "{}", refusal.detail);
    // As many as its socket holds.
    let socket = daemon.path(&format!("run/processes/{name}/socket"));
    let mut connections = Vec::new();
    while let Ok(connection) = tokio::net::UnixStream::connect(&socket).await {
        connections.push(connection);
    }
    assert_eq!(daemon.get(name).await.unwrap().state, State::Running);
    daemon.forget(name).await.unwrap();
    until("all are killed", || !left.iter().any(|it| lives(*it))).await;
    assert_eq!(daemon.get(name).await.unwrap_err().code, Code::NoSuchProcess);
}

#[tokio::test]
async fn the_control_group_of_a_process_goes_with_it_even_if_its_keeper_is_killed() {
    let daemon = Daemon::start().await;
    let command = "for i in 1 2 3 4 5 6 7 8 9; do setsid sleep 100 & done; echo started; wait";
    let process = daemon.start_process(line(command)).await.unwrap().process;
    daemon.open_lines(process, After::Start).await.until(8).await;
    let description = description(&daemon, process);
    let Some(group) = description["cgroup"].as_str() else {
        println!("skipped: control groups cannot be made");
        return;
    };
    assert!(std::path::Path::new(group).exists());
    kill(children(daemon.serve().unwrap())[0]);
    daemon.until_state(process, State::Lost).await;
    daemon.forget(process).await.unwrap();
    until("the group is gone", || !std::path::Path::new(group).exists()).await;
}

#[tokio::test]
async fn an_empty_control_group_of_a_keeper_that_was_killed_goes_when_the_daemon_starts() {
    let daemon = Daemon::start().await;
    let spec = Spec { stdin: true, ..line("read x") };
    let process = daemon.start_process(spec).await.unwrap().process;
    let running = daemon.start_process(line("sleep 100")).await.unwrap().process;
    let group = |process| description(&daemon, process)["cgroup"].as_str().map(std::path::PathBuf::from);
    let (Some(group), Some(other)) = (group(process), group(running)) else {
        println!("skipped: control groups cannot be made");
        return;
    };
    // Its input ends with it, and so does the command.
    kill(children(daemon.serve().unwrap())[0]);
    daemon.until_state(process, State::Lost).await;
    until("nothing is in the group", || {
        std::fs::read_to_string(group.join("cgroup.procs")).unwrap().is_empty()
    })
    .await;
    daemon.kill().await;
    assert!(!group.exists() && other.exists());
    assert_eq!(daemon.get(process).await.unwrap().state, State::Lost);
}

#[tokio::test]
async fn a_restart_of_the_guest_leaves_nothing() {
    let mut daemon = Daemon::start().await;
    let process = daemon.start_process(line("echo told; sleep 100")).await.unwrap().process;
    daemon.open_lines(process, After::Start).await.until(5).await;
    daemon.restart_guest().await;
    assert_eq!(daemon.get(process).await.unwrap_err().code, Code::NoSuchProcess);
    let listed: Processes = daemon.ask(Operation::Processes {}, "").await.unwrap();
    assert_eq!(listed.processes, []);
}

#[tokio::test]
async fn the_oldest_processes_that_have_ended_make_room() {
    let daemon = Daemon::start_with(&["--limits", r#"{"ended":4}"#]).await;
    let lost = daemon.start_process(line("sleep 100")).await.unwrap();
    kill(children(daemon.serve().unwrap())[0]);
    daemon.until_state(lost.process, State::Lost).await;
    let folder = std::fs::File::open(daemon.path(&format!("run/processes/{}", lost.process))).unwrap();
    folder.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(7200)).unwrap();
    let mut all = Vec::new();
    for _ in 0..70 {
        let process = daemon.start_process(line("true")).await.unwrap().process;
        daemon.until_state(process, State::Exited).await;
        // It makes room only when nobody keeps it, and its keeper ends a moment after it.
        let keeper = description(&daemon, process)["keeper"].as_u64().unwrap();
        until("its keeper is gone", || !lives(keeper.try_into().unwrap())).await;
        // It has ended long ago.
        let exit = daemon.path(&format!("run/processes/{process}/exit"));
        let exit = std::fs::File::options().write(true).open(exit).unwrap();
        exit.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(3600)).unwrap();
        all.push(process);
    }
    let listed: Processes = daemon.ask(Operation::Processes {}, "").await.unwrap();
    assert_eq!(listed.processes.len(), 4 + 7);
    assert_eq!(daemon.get(lost.process).await.unwrap_err().code, Code::NoSuchProcess);
    until("what a lost one has left is killed", || !lives(lost.pid.unwrap())).await;
    for last in &all[66..] {
        assert!(daemon.get(*last).await.is_ok());
    }
    assert_eq!(daemon.get(all[0]).await.unwrap_err().code, Code::NoSuchProcess);
}

/// What the keeper of a process has noted about it.
fn description(daemon: &Daemon, process: Unique) -> serde_json::Value {
    let description = std::fs::read(daemon.path(&format!("run/processes/{process}/process"))).unwrap();
    serde_json::from_slice(&description).unwrap()
}
