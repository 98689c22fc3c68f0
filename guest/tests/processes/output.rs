//! Output: all of it, in order, from any place on.

use pve_edge_guest_protocol::{
    answer::Code,
    call::Operation,
    process::{After, Event, Follow, Line, Spec, State},
};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};

use super::{Told, argv, line, until};
use crate::daemon::{Daemon, children};

#[tokio::test]
async fn bytes_of_all_values_come_on_both_streams() {
    let daemon = Daemon::start().await;
    let all: Vec<u8> = (0..=255).collect();
    std::fs::write(daemon.path("home/all"), all.repeat(1000)).unwrap();
    let told = daemon.exec(line("cat all; cat all >&2")).await;
    assert!(told.stdout == all.repeat(1000) && told.stderr == told.stdout);
    assert_eq!(told.cursor, 512_000);
}

#[tokio::test]
async fn a_follower_that_is_cut_ten_times_loses_nothing_and_gets_nothing_twice() {
    let daemon = Daemon::start().await;
    let process = daemon.start_process(line("seq 1 300000; echo end >&2")).await.unwrap().process;
    let (mut stdout, mut cursor) = (Vec::new(), 0);
    for _ in 0..10 {
        let mut lines = daemon.open_lines(process, After::Cursor(cursor)).await;
        let told = lines.until(cursor + 30_000).await;
        stdout.extend(told.stdout);
        cursor = told.cursor;
    }
    let told = daemon.follow(process, After::Cursor(cursor)).await;
    stdout.extend(told.stdout);
    let right: String = (1..=300_000).map(|it| format!("{it}\n")).collect();
    assert!(stdout == right.as_bytes());
    assert_eq!((told.stderr.as_slice(), told.gaps), (&b"end\n"[..], 0));
}

#[tokio::test]
async fn output_is_told_from_any_place_on() {
    let daemon = Daemon::start().await;
    let process = daemon.start_process(line("printf abc; sleep 0.1; printf def >&2")).await.unwrap().process;
    daemon.until_state(process, State::Exited).await;
    for (after, stdout, stderr) in [
        (After::Start, "abc", "def"),
        (After::Cursor(0), "abc", "def"),
        (After::Cursor(2), "c", "def"),
        (After::Cursor(4), "", "ef"),
        (After::Cursor(6), "", ""),
        (After::End, "", ""),
    ] {
        let told = daemon.follow(process, after).await;
        assert_eq!((told.text(), str::from_utf8(&told.stderr)), (stdout, Ok(stderr)), "{after:?}");
        assert_eq!((told.code(), told.cursor), (0, 6));
    }
}

#[tokio::test]
async fn a_place_behind_all_output_is_refused_where_it_is_known_how_much_there_is() {
    let daemon = Daemon::start().await;
    let ended = daemon.start_process(line("printf abc")).await.unwrap().process;
    daemon.until_state(ended, State::Exited).await;
    let running = daemon.start_process(line("printf abc; exec sleep 100")).await.unwrap().process;
    daemon.open_lines(running, After::Start).await.until(3).await;
    let follow = |process, cursor| {
        Operation::Follow(Follow { process, after: After::Cursor(cursor), wait_ms: Some(0), most: None })
    };
    for process in [ended, running] {
        for behind in [4, u64::MAX] {
            let refusal = daemon.lines::<Line>(follow(process, behind), "").await.unwrap_err();
            assert_eq!(refusal.code, Code::BadCall, "{}", refusal.detail);
        }
        assert!(daemon.lines::<Line>(follow(process, 3), "").await.is_ok());
    }
    // A keeper that says nothing leaves it open.
    let keepers = crate::daemon::children(daemon.serve().unwrap());
    keepers.into_iter().for_each(crate::daemon::stop);
    assert!(daemon.lines::<Line>(follow(running, 4), "").await.is_ok());
}

#[tokio::test]
async fn a_place_that_only_a_keeper_knew_which_was_killed_is_not_refused_and_nothing_is_told_twice() {
    let daemon = Daemon::start().await;
    let spec = line("(while ! [ -e go ]; do sleep 0.01; done; printf more; exec sleep 100) & printf abc");
    let process = daemon.start_process(spec).await.unwrap().process;
    daemon.until_state(process, State::Exited).await;
    std::fs::write(daemon.path("home/go"), "").unwrap();
    while daemon.get(process).await.unwrap().cursor < 7 {}
    crate::daemon::kill(children(daemon.serve().unwrap())[0]);
    until("the keeper is gone", || children(daemon.serve().unwrap()).is_empty()).await;
    let told = daemon.follow(process, After::Cursor(7)).await;
    assert_eq!((told.text(), told.code(), told.cursor), ("", 0, 7));
}

#[tokio::test]
async fn a_follower_can_end_after_a_time_or_after_some_bytes() {
    let daemon = Daemon::start().await;
    let process = daemon.start_process(line("echo one; sleep 100")).await.unwrap().process;
    let follow = |after, wait_ms, most| Operation::Follow(Follow { process, after, wait_ms, most });
    // As soon as something was told and nothing more is there.
    let lines: Vec<Line> = daemon.lines(follow(After::Start, Some(60_000), None), "").await.unwrap();
    let [started, out] = lines.as_slice() else { panic!("{lines:?}") };
    assert!(matches!(started.event, Event::Started { .. }));
    assert_eq!(out.cursor, 4);
    // What has come is told also to who does not wait.
    let lines: Vec<Line> = daemon.lines(follow(After::Start, Some(0), None), "").await.unwrap();
    assert_eq!(lines.iter().map(|it| it.cursor).collect::<Vec<_>>(), [0, 4]);
    // As soon as the time is over, if nothing comes.
    let lines: Vec<Line> = daemon.lines(follow(After::End, Some(1), None), "").await.unwrap();
    assert_eq!(lines.len(), 1);
    let lines = daemon.lines(follow(After::Start, None, Some(3)), "").await.unwrap();
    let told = Told::of(lines);
    assert_eq!((told.text(), told.cursor, told.exit.as_ref()), ("one", 3, None));
}

#[tokio::test]
async fn output_that_nobody_reads_is_dropped_from_the_beginning_and_told_as_a_gap() {
    let daemon = Daemon::start_with(&["--limits", r#"{"log":65536}"#]).await;
    let process = daemon.start_process(line("seq 1 100000")).await.unwrap().process;
    daemon.until_state(process, State::Exited).await;
    let told = daemon.follow(process, After::Start).await;
    let right: String = (1..=100_000).map(|it| format!("{it}\n")).collect();
    let kept = told.stdout.len();
    assert!((32_768..=65_536).contains(&kept), "{kept}");
    assert!(right.as_bytes().ends_with(&told.stdout));
    assert_eq!(told.gaps as usize + kept, right.len());
    assert_eq!(told.cursor as usize, right.len());
}

#[tokio::test]
async fn a_process_waits_for_its_follower_but_not_for_ever() {
    let daemon = Daemon::start_with(&["--limits", r#"{"log":65536,"stall_ms":1000}"#]).await;
    let spec = line("while ! [ -e go ]; do sleep 0.01; done; seq 1 3000000; touch done");
    let process = daemon.start_process(spec).await.unwrap().process;
    let mut lines = daemon.open_lines(process, After::Start).await;
    std::fs::write(daemon.path("home/go"), "").unwrap();
    let mut told = lines.until(1_000_000).await;
    assert_eq!(told.gaps, 0, "it reads");
    // It reads no more, and the process goes on in the end.
    until("the process goes on without it", || daemon.path("home/done").exists()).await;
    while let Some(line) = lines.next().await {
        told.add(line);
    }
    assert!(told.gaps > 0);
    assert_eq!(told.stdout.len() as u64 + told.gaps, told.cursor);
    assert_eq!(told.code(), 0);
}

#[tokio::test]
async fn the_logs_of_processes_that_have_ended_make_room_for_those_that_run() {
    let limits = r#"{"log":524288,"logs":786432}"#;
    let daemon = Daemon::start_with(&["--limits", limits]).await;
    let spec = || line("seq 1 50000");
    let mut ended = Vec::new();
    for _ in 0..2 {
        let process = daemon.start_process(spec()).await.unwrap().process;
        daemon.until_state(process, State::Exited).await;
        ended.push(process);
    }
    let running = daemon.start_process(line("seq 1 50000; touch done; sleep 100")).await.unwrap().process;
    until("it has written", || daemon.path("home/done").exists()).await;
    let told = daemon.open_lines(running, After::Start).await.until(288_894).await;
    assert_eq!((told.gaps, told.text().lines().count()), (0, 50_000));
    let (first, second) =
        (daemon.follow(ended[0], After::Start).await, daemon.follow(ended[1], After::Start).await);
    assert!(first.gaps > second.gaps, "{} {}", first.gaps, second.gaps);
    assert_eq!((first.code(), first.cursor, second.cursor), (0, 288_894, 288_894));
}

#[tokio::test]
async fn without_a_disk_output_is_kept_in_memory() {
    let daemon = Daemon::start().await;
    std::fs::remove_dir_all(daemon.path("state")).unwrap();
    std::fs::write(daemon.path("state"), "no folder").unwrap();
    let process = daemon.start_process(line("seq 1 100000")).await.unwrap().process;
    daemon.until_state(process, State::Exited).await;
    let told = daemon.follow(process, After::Start).await;
    assert!(told.gaps > 0 && told.text().ends_with("\n99999\n100000\n"));
    assert!((128 << 10..=256 << 10).contains(&told.stdout.len()));
}

#[tokio::test]
async fn what_a_child_writes_after_the_end_is_behind_the_cursor() {
    let daemon = Daemon::start().await;
    let spec = line("(while ! [ -e go ]; do sleep 0.01; done; echo later) & echo now");
    let process = daemon.start_process(spec).await.unwrap().process;
    let told = daemon.follow(process, After::Start).await;
    assert_eq!((told.text(), told.code(), told.cursor), ("now\n", 0, 4));
    std::fs::write(daemon.path("home/go"), "").unwrap();
    for _ in 0..3_000 {
        if daemon.get(process).await.unwrap().cursor == 10 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let told = daemon.follow(process, After::Cursor(4)).await;
    assert_eq!((told.text(), told.cursor), ("later\n", 10));
    let told = daemon.follow(process, After::Start).await;
    assert_eq!((told.text(), told.cursor), ("now\n", 4));
}

#[tokio::test]
async fn a_terminal_has_its_size_and_is_the_processs_own() {
    let daemon = Daemon::start().await;
    let size = pve_edge_guest_protocol::process::Size { cols: 101, rows: 33 };
    let pty = |spec| Spec { pty: Some(size), ..spec };
    let told = daemon
        .exec(pty(line("stty size; test -t 0 -a -t 1 -a -t 2 && echo tty > /dev/tty; echo $TERM")))
        .await;
    assert_eq!(told.text(), "33 101\r\ntty\r\nxterm-256color\r\n");
    let told = daemon.exec(pty(argv(["true"]))).await;
    assert_eq!((told.text(), told.code()), ("", 0));
}

#[tokio::test]
async fn a_follower_that_reads_faster_than_its_keeper_listens_is_told_all_that_comes_later() {
    let daemon = Daemon::start().await;
    // More than connections hold, and then many pieces.
    let command = "seq 1 1900000; i=0; while [ $i -lt 3000 ]; do echo a; echo b >&2; i=$((i + 1)); done; touch done; while ! [ -e go ]; do sleep 0.01; done; echo later; sleep 100";
    let process = daemon.start_process(line(command)).await.unwrap().process;
    until("it has written", || daemon.path("home/done").exists()).await;
    let cursor = daemon.get(process).await.unwrap().cursor;
    let mut lines = daemon.open_lines(process, After::Start).await;
    let mut told = lines.until(2).await;
    let keeper = children(daemon.serve().unwrap())[0];
    let signal = |it| kill_process(Pid::from_raw(keeper.cast_signed()).unwrap(), it).unwrap();
    signal(Signal::STOP);
    while told.cursor < cursor {
        told.add(lines.next().await.unwrap());
    }
    signal(Signal::CONT);
    std::fs::write(daemon.path("home/go"), "").unwrap();
    let later = tokio::time::timeout(std::time::Duration::from_secs(60), lines.until(cursor + 6)).await;
    assert_eq!(later.expect("it is told").text(), "later\n");
    assert_eq!(told.gaps, 0);
}

#[tokio::test]
async fn many_followers_keep_nobody_from_a_process() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let daemon = Daemon::start().await;
    let spec = Spec { stdin: true, ..line("read x") };
    let process = daemon.start_process(spec).await.unwrap().process;
    let follow = Operation::Follow(Follow { process, after: After::Start, wait_ms: None, most: None });
    let (mut followers, mut refused) = (Vec::new(), 0);
    for _ in 0..520 {
        match daemon.open(follow.clone(), "").await {
            Ok(answer) => followers.push(answer),
            Err(refusal) => {
                assert_eq!(refusal.code, Code::Busy);
                refused += 1;
            }
        }
    }
    let limit = std::time::Duration::from_secs(60);
    let stdin = daemon.write_stdin(process, 0, "go\n", true);
    tokio::time::timeout(limit, stdin).await.expect("its keeper listens").unwrap();
    daemon.until_state(process, State::Exited).await;
    assert!(followers.len() >= 400 && refused > 0);
}
