//! Part `run`: the port stays taken, `serve` is started again, and everything is reaped.

use std::{
    fs,
    io::Read,
    net::TcpListener,
    os::unix::process::ExitStatusExt,
    process::{Child, Command, ExitStatus, Stdio},
    thread::sleep,
    time::Duration,
};

use pve_edge_guest_protocol::{
    answer::{Code, Hello},
    call::{Call, Operation},
};
use rustix::process::{Pid, Signal, kill_process};
use tokio::net::TcpStream;

use crate::{
    daemon::{Daemon, children, command, free_address, json, kill, line, request, send},
    processes,
};

#[tokio::test]
async fn a_daemon_that_is_killed_comes_back_in_the_same_boot_and_another_session() {
    let daemon = Daemon::start().await;
    let before = daemon.health().await;
    let call = Call { session: before.session, ..daemon.call(Operation::Renew {}, b"") };
    let signed = call.sign(&daemon.key).unwrap();
    kill(daemon.serve().unwrap());
    // The port is never free: this connection waits until it is answered.
    let waiting = TcpStream::connect(daemon.address).await;
    assert!(waiting.is_ok());
    let after = daemon.health().await;
    assert_eq!(after.boot, before.boot);
    assert_ne!(after.session, before.session);
    let request = request("renew", &signed).body(String::new()).unwrap();
    let refusal = json::<Hello>(send(daemon.address, request).await.unwrap()).await.unwrap_err();
    assert_eq!((refusal.code, refusal.session), (Code::Session, Some(after.session)));
    assert!(daemon.ask::<Hello>(Operation::Hello {}, "").await.is_ok());
}

#[tokio::test]
async fn the_daemon_opens_as_many_files_as_it_may_and_commands_as_many_as_it_was_given() {
    let given = ["sh", "-c", "ulimit -Sn 777; ulimit -Hn 3000; exec \"$@\"", "sh"];
    let daemon = Daemon::start_by(&given, |_| ()).await;
    let limits = fs::read_to_string(format!("/proc/{}/limits", daemon.serve().unwrap())).unwrap();
    let files = limits.lines().find_map(|it| it.strip_prefix("Max open files")).unwrap();
    assert_eq!(files.split_whitespace().take(2).collect::<Vec<_>>(), ["3000", "3000"]);
    let told = daemon.exec(processes::line("ulimit -Sn; ulimit -Hn")).await;
    assert_eq!(told.text(), "777\n3000\n");
    daemon.kill().await;
    assert_eq!(daemon.exec(processes::line("ulimit -Sn")).await.text(), "777\n");
}

#[tokio::test]
async fn serve_does_not_outlive_run() {
    let daemon = Daemon::start().await;
    let serve = daemon.serve().unwrap();
    kill(daemon.run());
    wait_until(|| !is_running(serve));
    assert!(TcpListener::bind(daemon.address).is_ok(), "the port is free");
}

#[tokio::test]
async fn what_has_lost_its_parent_is_reaped() {
    // Each inner shell ends at once, and leaves what it has started; that ends later than its parent.
    let orphans = "for i in $(seq 40); do sh -c 'sleep 0.2 & :'; done; touch $0; exec sleep 1000";
    let folder = tempfile::tempdir().unwrap();
    let made = folder.path().join("made");
    let daemon = Daemon::start_with(&["--", "sh", "-c", orphans, made.to_str().unwrap()]).await;
    wait_until(|| made.exists());
    let mut most = 0;
    wait_until(|| {
        let now = children(daemon.run());
        most = most.max(now.len());
        now.len() == 2
    });
    assert!(most > 2, "they were there");
    assert_eq!(zombies(daemon.run()), 0);
}

#[test]
fn an_entry_point_gets_the_signals_and_ends_the_guest() {
    let script = "trap 'exit 7' TERM; trap 'exit 8' INT; touch $0; while :; do sleep 0.05; done";
    for (sent, code) in [(Signal::TERM, 7), (Signal::INT, 8), (Signal::POWER, 7)] {
        let folder = tempfile::tempdir().unwrap();
        let ready = folder.path().join("ready");
        let mut run =
            command(&folder, free_address()).args(["--", "sh", "-c", script]).arg(&ready).spawn().unwrap();
        wait_until(|| ready.exists());
        signal(&run, sent);
        assert_eq!(ended(&mut run).code(), Some(code), "{sent:?}");
    }
    let folder = tempfile::tempdir().unwrap();
    let mut run = command(&folder, free_address()).args(["--", "sh", "-c", "kill -9 $$"]).spawn().unwrap();
    assert_eq!(ended(&mut run).code(), Some(137));
    let mut run =
        command(&folder, free_address()).args(["--", "/no/such"]).stderr(Stdio::piped()).spawn().unwrap();
    assert_eq!(ended(&mut run).code(), Some(1));
    assert!(told(&mut run).contains("/no/such"));
}

#[tokio::test]
async fn without_an_entry_point_a_signal_ends_the_daemon_alone() {
    let mut daemon = Daemon::start().await;
    let serve = daemon.serve().unwrap();
    signal(daemon.child(), Signal::TERM);
    assert_eq!(ended(daemon.child()).code(), Some(0));
    wait_until(|| !is_running(serve));
}

#[test]
fn a_port_that_is_taken_is_told() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("keys"), line()).unwrap();
    let mut run = command(&folder, taken.local_addr().unwrap()).stderr(Stdio::piped()).spawn().unwrap();
    assert_eq!(ended(&mut run).code(), Some(1));
    let told = told(&mut run);
    assert!(told.contains("another program listens there: stop it, or use --listen"), "{told}");
}

#[test]
fn a_wrong_command_line_is_told() {
    let run = |arguments: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_pve-edge-guest")).args(arguments).output().unwrap()
    };
    let wrong = run(&["run", "--key", "/k"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(String::from_utf8(wrong.stderr).unwrap().contains("--keys FILE"));
    let version = run(&["--version"]);
    assert_eq!(version.stdout, format!("pve-edge-guest {}\n", env!("CARGO_PKG_VERSION")).as_bytes());
}

/// In a namespace of its own, as root there, the daemon is in a machine: it mounts its folder, and knows itself by its
/// cards, of which none has the address.
#[tokio::test]
async fn a_machine_has_its_folder_in_memory_and_another_identity() {
    let unshare = ["--user", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child"];
    let can = Command::new("unshare").args(unshare).arg("true").output();
    if !can.is_ok_and(|it| it.status.success()) {
        eprintln!("skipped: unshare makes no namespaces here");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("keys"), line()).unwrap();
    let address = free_address();
    let as_demo = command(&folder, address);
    let cards = folder.path().join("cards");
    let arguments = as_demo.get_args().filter(|it| *it != "--cards" && *it != cards);
    let run =
        Command::new("unshare").args(unshare).arg(as_demo.get_program()).args(arguments).spawn().unwrap();
    let daemon = Daemon::of(run, address, folder);
    daemon.wait().await;
    let first = children(daemon.run())[0];
    let mounts = fs::read_to_string(format!("/proc/{first}/mountinfo")).unwrap();
    let run = daemon.path("run");
    let mount = mounts.lines().find(|it| it.split(' ').nth(4) == run.to_str()).unwrap();
    for part in ["tmpfs", "nosuid", "nodev", "size=16384k", "mode=700"] {
        assert!(mount.contains(part), "{mount}");
    }
    assert!(!run.join("boot").exists(), "it is in no snapshot of the disk");
    let refusal = daemon.ask::<Hello>(Operation::Hello {}, "").await.unwrap_err();
    assert_eq!(refusal.code, Code::NotHere);
    assert_eq!((refusal.session, refusal.boot), (None, None));
}

fn signal(process: &Child, signal: Signal) {
    kill_process(Pid::from_child(process), signal).unwrap();
}

fn told(process: &mut Child) -> String {
    let mut told = String::new();
    process.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    told
}

/// Waits for the end of a process that was told to end.
fn ended(process: &mut Child) -> ExitStatus {
    let mut status = None;
    wait_until(|| {
        status = process.try_wait().unwrap();
        status.is_some()
    });
    status.unwrap_or_else(|| ExitStatus::from_raw(0))
}

fn wait_until(mut holds: impl FnMut() -> bool) {
    for _ in 0..6_000 {
        if holds() {
            return;
        }
        sleep(Duration::from_millis(10));
    }
    panic!("it does not come");
}

fn is_running(process: u32) -> bool {
    state(process).is_some_and(|it| it != 'Z')
}

fn zombies(parent: u32) -> usize {
    children(parent).into_iter().filter(|it| state(*it) == Some('Z')).count()
}

fn state(process: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}
