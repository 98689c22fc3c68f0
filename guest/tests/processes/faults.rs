//! File systems that take no more.

use pve_edge_guest_protocol::{
    answer::Code,
    call::Digest256,
    process::{After, Spec, Start, State},
};
use rustix::process::geteuid;

use super::line;
use crate::daemon::{Daemon, unique};

/// A daemon whose folder `state` or `run` is a small file system of its own, in a namespace of its own.
async fn start(small: &str, size: &str) -> Option<Daemon> {
    start_with(small, size, "{}").await
}

/// The same with limits.
async fn start_with(small: &str, size: &str, limits: &str) -> Option<Daemon> {
    let mount = format!(
        "mount --make-rprivate / && mkdir -p {small} && mount -t tmpfs -o size={size},mode=700 none {small} && exec \"$@\" --limits '{limits}'"
    );
    let can = ["-m", "mount", "-t", "tmpfs", "none", "/mnt"];
    let can = std::process::Command::new("unshare").args(can).status();
    if !geteuid().is_root() || !can.is_ok_and(|it| it.success()) {
        println!("skipped: file systems cannot be mounted");
        return None;
    }
    Some(Daemon::start_by(&["unshare", "-m", "sh", "-ec", &mount, "sh"], |_| ()).await)
}

/// A line that fills the daemon's folder to the last byte.
fn fill(folder: &str) -> Spec {
    line(&format!("cat /dev/zero > ../{folder}/fill; echo full"))
}

#[tokio::test]
async fn on_a_full_disk_processes_run_and_starts_with_a_key_do_not() {
    let Some(daemon) = start("state", "1m").await else { return };
    assert_eq!(daemon.exec(fill("state")).await.text(), "full\n");
    let process = daemon.start_process(line("seq 1 100000")).await.unwrap().process;
    daemon.until_state(process, State::Exited).await;
    let told = daemon.follow(process, After::Start).await;
    assert!(told.gaps > 0 && told.text().ends_with("\n99999\n100000\n"));
    let start = Start { process: unique(), keyed: Some(Digest256::of(b"key")) };
    let refusal = daemon.start_again(start.clone(), &line("echo run >> ran")).await.unwrap_err();
    assert_eq!(refusal.code, Code::DiskFull);
    let room = daemon.exec(line("rm ../state/fill; cat ran; echo room")).await;
    assert_eq!(room.text(), "room\n", "nothing was run");
    let started = daemon.start_again(start, &line("true")).await.unwrap();
    assert_eq!(daemon.follow(started.process, After::Start).await.code(), 0);
}

#[tokio::test]
async fn without_room_for_it_a_process_is_not_run_and_those_that_run_end_as_ever() {
    let Some(daemon) = start("run", "512k").await else { return };
    let spec = Spec { stdin: true, ..line("read x; rm ../run/fill; exit 7") };
    let running = daemon.start_process(spec).await.unwrap();
    // The exit of this one is noted although nothing more can be written.
    let told = daemon.exec(fill("run")).await;
    assert_eq!((told.text(), told.code()), ("full\n", 0));
    // That one makes room for this one, which runs on.
    let more = line("cat /dev/zero > ../run/more 2> ../more; echo full; sleep 100");
    let more = daemon.start_process(more).await.unwrap().process;
    daemon.open_lines(more, After::Start).await.until(5).await;
    let start = Start { process: unique(), keyed: None };
    let refusal = daemon.start_again(start.clone(), &line("echo run >> ran")).await.unwrap_err();
    assert_eq!(refusal.code, Code::DiskFull, "{}", refusal.detail);
    let groups = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    for line in groups.lines().filter(|it| it.contains(" - cgroup2 ")) {
        let group = format!("{}/pve-edge-{}", line.split(' ').nth(4).unwrap(), start.process);
        assert!(!std::path::Path::new(&group).exists(), "{group} is left");
    }
    let process = running.process;
    daemon.write_stdin(process, 0, "go\n", true).await.unwrap();
    assert_eq!(daemon.follow(process, After::Start).await.code(), 7);
    assert_eq!(daemon.exec(line("cat ran; echo room")).await.text(), "room\n");
}

#[tokio::test]
async fn output_that_has_no_room_on_the_disk_is_told_from_memory() {
    let Some(daemon) = start_with("state", "1m", r#"{"log":65536}"#).await else { return };
    let told = daemon.exec(fill("state")).await;
    assert_eq!((told.text(), told.gaps), ("full\n", 0));
    let told = daemon.exec(line("seq 1 1000; seq 1 1000 >&2")).await;
    assert_eq!(told.gaps, 0);
    assert_eq!(told.stdout, told.stderr);
}

#[tokio::test]
async fn on_a_full_disk_a_process_waits_for_its_follower_too() {
    let Some(daemon) = start_with("state", "1m", r#"{"log":65536}"#).await else { return };
    assert_eq!(daemon.exec(fill("state")).await.text(), "full\n");
    let spec = line("while ! [ -e go ]; do sleep 0.01; done; seq 1 3000000; touch done");
    let process = daemon.start_process(spec).await.unwrap().process;
    let mut lines = daemon.open_lines(process, After::Start).await;
    std::fs::write(daemon.path("home/go"), "").unwrap();
    let mut told = lines.until(100_000).await;
    // More is written than connections hold.
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert!(!daemon.path("home/done").exists());
    while let Some(line) = lines.next().await {
        told.add(line);
    }
    assert_eq!((told.gaps, told.text().lines().count(), told.code()), (0, 3_000_000, 0));
}

#[tokio::test]
async fn output_that_has_no_room_anywhere_is_told_as_a_gap_and_stops_nothing() {
    let Some(daemon) = start("run", "1m,nr_inodes=60").await else { return };
    std::fs::remove_dir_all(daemon.path("state")).unwrap();
    std::fs::write(daemon.path("state"), "no folder").unwrap();
    let spec = line(
        "while ! [ -e go ]; do sleep 0.01; done; i=0; while : > ../run/$i; do i=$((i + 1)); done; \
         seq 1 100000; rm ../run/[0-9]*; seq 1 1000",
    );
    let spec = Spec { command: spec.command.map(|it| format!("exec 2> /dev/null; {it}")), ..spec };
    let process = daemon.start_process(spec).await.unwrap().process;
    let mut lines = daemon.open_lines(process, After::Start).await;
    std::fs::write(daemon.path("home/go"), "").unwrap();
    let all = async {
        let mut told = super::Told::default();
        while let Some(line) = lines.next().await {
            told.add(line);
        }
        told
    };
    let told = tokio::time::timeout(std::time::Duration::from_secs(60), all).await.expect("it goes on");
    assert!(told.gaps > 0 && told.text().ends_with("\n999\n1000\n"), "{}", told.gaps);
    assert_eq!(told.code(), 0);
}

#[tokio::test]
async fn many_processes_that_have_ended_keep_nobody_from_starting_and_run_no_second_time() {
    let Some(daemon) = start_with("run", "256k", r#"{"ended":8}"#).await else { return };
    let first = unique();
    let start = |process| Start { process, keyed: None };
    let spec = line("echo run >> ran");
    daemon.start_again(start(first), &spec).await.unwrap();
    daemon.until_state(first, State::Exited).await;
    for _ in 0..150 {
        let process = daemon.start_process(line("true")).await.unwrap().process;
        daemon.until_state(process, State::Exited).await;
    }
    assert_eq!(daemon.start_again(start(first), &spec).await.unwrap().state, State::Lost);
    assert_eq!(daemon.exec(line("cat ran")).await.text(), "run\n");
}
