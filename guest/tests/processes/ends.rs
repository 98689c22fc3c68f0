//! How processes end: by themselves, by signals, by their time, and with all that they have started.

use pve_edge_guest_protocol::{
    Unique,
    answer::{Code, Refusal},
    call::Operation,
    process::{After, Exit, Process, Scope, Signal, Spec, State},
};

use super::{argv, line, lives, until};
use crate::daemon::Daemon;

/// A line that writes the numbers of three processes: a shell that ignores TERM, one with a session of its own, and one
/// that has lost its parent.
const TREE: &str = "setsid sleep 100 & a=$!; (setsid sleep 101 & echo $! > lost); trap '' TERM; \
                    echo $$ $a $(cat lost); while :; do wait; done";

impl Daemon {
    async fn signal(&self, process: Unique, signal: &str, scope: Scope) -> Result<Process, Refusal> {
        self.ask(Operation::Signal(Signal { process, signal: signal.into(), scope }), "").await
    }

    /// Starts [`TREE`], and returns its processes.
    async fn start_tree(&self, spec: Spec) -> (Unique, Vec<u32>) {
        let process = self.start_process(Spec { ..spec }).await.unwrap().process;
        let mut lines = self.open_lines(process, After::Start).await;
        let mut told = lines.until(1).await;
        while !told.text().ends_with('\n') {
            told.add(lines.next().await.unwrap());
        }
        let pids: Vec<u32> = told.text().split_whitespace().map(|it| it.parse().unwrap()).collect();
        assert!(pids.len() == 3 && pids.iter().all(|it| lives(*it)), "{pids:?}");
        (process, pids)
    }
}

#[tokio::test]
async fn a_signal_ends_a_process_and_is_named() {
    let daemon = Daemon::start().await;
    for (signal, code) in [("TERM", 143), ("KILL", 137), ("USR1", 138)] {
        let process = daemon.start_process(argv(["sleep", "100"])).await.unwrap().process;
        // The stage before the program ignores nothing, and ends by it as well.
        daemon.signal(process, signal, Scope::Process).await.unwrap();
        let exit = daemon.follow(process, After::Start).await.exit.unwrap();
        let right = Exit { exit_code: code, signal: Some(signal.into()), ..Exit::default() };
        assert_eq!(exit, right);
    }
}

#[tokio::test]
async fn a_signal_goes_to_the_process_or_to_all_its_descendants() {
    let daemon = Daemon::start().await;
    let (process, pids) = daemon.start_tree(line(TREE)).await;
    daemon.signal(process, "TERM", Scope::Process).await.unwrap();
    daemon.signal(process, "STOP", Scope::Tree).await.unwrap();
    daemon.signal(process, "CONT", Scope::Tree).await.unwrap();
    assert!(pids.iter().all(|it| lives(*it)));
    daemon.signal(process, "TERM", Scope::Tree).await.unwrap();
    until("the children have ended", || !lives(pids[1]) && !lives(pids[2])).await;
    assert!(lives(pids[0]));
    let unknown = daemon.signal(process, "SIGTERM", Scope::Tree).await.unwrap_err();
    assert_eq!(unknown.code, Code::NoSuchSignal);
    let none = daemon.signal(Unique([1; 16]), "TERM", Scope::Tree).await.unwrap_err();
    assert_eq!(none.code, Code::NoSuchProcess);
    let ended = daemon.start_process(argv(["true"])).await.unwrap().process;
    daemon.until_state(ended, State::Exited).await;
    let gone = daemon.signal(ended, "TERM", Scope::Tree).await.unwrap_err();
    assert_eq!(gone.code, Code::ProcessGone);
}

#[tokio::test]
async fn a_process_whose_time_is_over_is_killed_with_all_it_has_started() {
    let daemon = Daemon::start().await;
    let spec = Spec { timeout_ms: Some(1500), ..line(TREE) };
    let (process, pids) = daemon.start_tree(spec).await;
    let exit = daemon.follow(process, After::Start).await.exit.unwrap();
    assert_eq!((exit.exit_code, exit.signal.as_deref(), exit.timed_out), (137, Some("KILL"), true));
    until("all have ended", || !pids.iter().any(|it| lives(*it))).await;
    let told = daemon
        .exec(Spec { timeout_ms: Some(200), ..line("trap 'echo term; exit 4' TERM; sleep 100 & wait") });
    let told = told.await;
    assert_eq!((told.text(), told.code(), told.exit.as_ref().unwrap().timed_out), ("term\n", 4, true));
    let told = daemon.exec(Spec { timeout_ms: Some(60_000), ..argv(["true"]) }).await;
    assert!(!told.exit.unwrap().timed_out);
}

#[tokio::test]
async fn what_is_forgotten_is_killed_and_nothing_is_left_of_it() {
    for limits in ["{}", r#"{"cgroups":false}"#] {
        let daemon = Daemon::start_with(&["--limits", limits]).await;
        let (process, pids) = daemon.start_tree(line(TREE)).await;
        let (other, others) = daemon.start_tree(line(TREE)).await;
        daemon.forget(process).await.unwrap();
        assert!(!pids.iter().any(|it| lives(*it)), "{limits}");
        assert!(others.iter().all(|it| lives(*it)), "{limits}");
        assert_eq!(daemon.get(process).await.unwrap_err().code, Code::NoSuchProcess);
        assert_eq!(daemon.forget(process).await.unwrap_err().code, Code::NoSuchProcess);
        let boot = daemon.health().await.boot;
        let left = |folder: String| std::fs::read_dir(daemon.path(&folder)).unwrap().count();
        assert_eq!((left("run/processes".into()), left(format!("state/log/{boot}"))), (1, 1));
        daemon.forget(other).await.unwrap();
        until("no keeper is left as a zombie", || {
            crate::daemon::children(daemon.serve().unwrap()).is_empty()
        })
        .await;
    }
}

#[tokio::test]
async fn a_child_that_keeps_the_output_open_does_not_keep_the_answer() {
    let daemon = Daemon::start().await;
    let told = daemon.exec(line("sleep 100 & echo $!; exit 5")).await;
    let child: u32 = told.text().trim().parse().unwrap();
    assert!(told.code() == 5 && lives(child));
}

#[tokio::test]
async fn zombies_of_descendants_are_reaped() {
    let daemon = Daemon::start().await;
    let process =
        daemon.start_process(line("for i in $(seq 50); do (setsid true &); done; echo done; sleep 100"));
    let process = process.await.unwrap();
    daemon.open_lines(process.process, After::Start).await.until(5).await;
    let keeper = crate::daemon::children(daemon.serve().unwrap())[0];
    until("the shell is the only child", || crate::daemon::children(keeper).len() == 1).await;
}

#[tokio::test]
async fn at_a_limit_of_processes_none_is_run_and_all_can_be_killed() {
    let Some(limit) = Limit::make(60) else { return };
    let daemon = Daemon::start().await;
    limit.enter(daemon.run());
    limit.enter(daemon.serve().unwrap());
    // One that had to start another would end at the limit, and make room.
    let bomb = "f() { while :; do setsid sleep 1000 & done 2> /dev/null; }; f";
    let process = daemon.start_process(line(bomb)).await.unwrap().process;
    until("nobody can start a process", || limit.is_reached()).await;
    let refusal = daemon.start_process(line("echo run >> ran")).await.unwrap_err();
    assert_eq!(refusal.code, Code::TooManyProcesses);
    daemon.forget(process).await.unwrap();
    assert_eq!(daemon.exec(line("echo runs; cat ran")).await.text(), "runs\n");
}

#[tokio::test]
async fn a_command_that_is_killed_for_want_of_memory_says_so() {
    let Some(group) = Memory::make() else { return };
    let enter = format!(
        "mount --make-rprivate / && echo $$ > {0}/cgroup.procs && mount --bind {0} {1} && exec \"$@\" --limits '{{\"cgroups\":false}}'",
        group.path.display(),
        group.root.display()
    );
    let daemon = Daemon::start_by(&["unshare", "-m", "sh", "-ec", &enter, "sh"], |_| ()).await;
    let exit = daemon.exec(argv(["tail", "/dev/zero"])).await.exit.unwrap();
    let right = Exit { exit_code: 137, signal: Some("KILL".into()), oom_killed: true, ..Exit::default() };
    assert_eq!(exit, right);
    let exit = daemon.exec(line("kill -9 $$")).await.exit.unwrap();
    assert_eq!(exit, Exit { oom_killed: false, ..right });
}

/// Control group with a limit on memory, which the daemon is to take for its guest's root.
struct Memory {
    path: std::path::PathBuf,
    root: std::path::PathBuf,
}

impl Memory {
    fn make() -> Option<Self> {
        let first = std::path::Path::new("/sys/fs/cgroup/memory");
        let (root, limit, swap) = if first.exists() {
            (first, "memory.limit_in_bytes", "memory.swappiness")
        } else {
            (std::path::Path::new("/sys/fs/cgroup"), "memory.max", "memory.swap.max")
        };
        let path = root.join(format!("pve-edge-test-memory-{}", std::process::id()));
        let _ = std::fs::write(root.join("cgroup.subtree_control"), "+memory");
        let made = std::fs::create_dir(&path).and_then(|()| {
            let _ = std::fs::write(path.join(swap), "0");
            std::fs::write(path.join(limit), (48 << 20).to_string())
        });
        let group = Self { path, root: root.into() };
        let can = ["-m", "mount", "-t", "tmpfs", "none", "/mnt"];
        let can = std::process::Command::new("unshare").args(can).status().is_ok_and(|it| it.success());
        if made.is_err() || !can {
            println!("skipped: no control group with a limit on memory can be made: {made:?}");
            return None;
        }
        Some(group)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        for _ in 0..1000 {
            if std::fs::remove_dir(&self.path).is_ok() || !self.path.exists() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}

/// Control group (version 1) with a limit on processes.
struct Limit(std::path::PathBuf);

impl Limit {
    fn make(most: u32) -> Option<Self> {
        let path =
            std::path::PathBuf::from(format!("/sys/fs/cgroup/pids/pve-edge-test-{}", std::process::id()));
        let made =
            std::fs::create_dir(&path).and_then(|()| std::fs::write(path.join("pids.max"), most.to_string()));
        if let Err(error) = made {
            println!("skipped: no control group with a limit on processes can be made: {error}");
            return None;
        }
        Some(Self(path))
    }

    fn enter(&self, process: u32) {
        std::fs::write(self.0.join("cgroup.procs"), process.to_string()).unwrap();
    }

    fn is_reached(&self) -> bool {
        let read = |file| std::fs::read_to_string(self.0.join(file)).unwrap().trim().to_owned();
        read("pids.current") == read("pids.max")
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        for _ in 0..1000 {
            if std::fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}
