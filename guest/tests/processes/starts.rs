//! How processes are started: once, as they are told to.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use pve_edge_guest_protocol::{
    answer::Code,
    call::{Digest256, Operation},
    process::{After, Processes, Spec, Start, State},
};

use super::{argv, line};
use crate::daemon::{Daemon, unique};

#[tokio::test]
async fn a_line_is_for_the_shell_and_arguments_are_for_nobody() {
    let daemon = Daemon::start().await;
    let told = daemon.exec(line("echo a$((1+1)); echo b >&2; exit 3")).await;
    assert_eq!((told.text(), told.stderr.as_slice(), told.code()), ("a2\n", &b"b\n"[..], 3));
    assert_eq!(told.cursor, 5);
    let told = daemon.exec(argv(["printf", "%s|", "$HOME", "a b", ";", ""])).await;
    assert_eq!((told.text(), told.code()), ("$HOME|a b|;||", 0));
}

#[tokio::test]
async fn a_process_has_the_users_variables_and_those_of_its_start() {
    // A service manager's daemon hands nothing of its own on.
    let daemon = Daemon::start_by(&["env", "INVOCATION_ID=x"], |_| ()).await;
    let env = BTreeMap::from([("A".to_owned(), "x y\n".to_owned()), ("LOGNAME".into(), "me".into())]);
    let told = daemon.exec(Spec { env, ..argv(["env", "-0"]) }).await;
    let mut variables: Vec<&str> = told.text().split_terminator('\0').collect();
    variables.sort_unstable();
    let home = format!("HOME={}", daemon.path("home").display());
    assert_eq!(variables[0], "A=x y\n");
    assert_eq!(variables[1..3], [home.as_str(), "LOGNAME=me"]);
    assert_eq!(variables.iter().filter(|it| it.starts_with("PATH=")).count(), 1);
    assert_eq!(variables.len(), 6, "{variables:?}");
}

#[tokio::test]
async fn without_bash_a_line_is_for_sh() {
    let daemon = Daemon::start().await;
    std::fs::create_dir(daemon.path("home/bin")).unwrap();
    std::os::unix::fs::symlink("/bin/sh", daemon.path("home/bin/sh")).unwrap();
    let env = BTreeMap::from([("PATH".to_owned(), daemon.path("home/bin").to_str().unwrap().to_owned())]);
    let process = daemon.start_process(Spec { env, ..line("echo $0 $BASH_VERSION") }).await.unwrap();
    assert_eq!(process.argv[0], "sh");
    assert_eq!(daemon.follow(process.process, After::Start).await.code(), 0);
    let with = daemon.start_process(line("echo $BASH_VERSION")).await.unwrap();
    assert_eq!(with.argv[0], "bash");
}

#[tokio::test]
async fn a_process_starts_in_the_users_home_or_below_it_or_elsewhere() {
    let daemon = Daemon::start().await;
    std::fs::create_dir(daemon.path("home/src")).unwrap();
    let home = daemon.path("home").canonicalize().unwrap();
    for (cwd, right) in [(None, home.clone()), (Some("src"), home.join("src")), (Some("/usr"), "/usr".into())]
    {
        let told = daemon.exec(Spec { cwd: cwd.map(Into::into), ..argv(["pwd", "-P"]) }).await;
        assert_eq!(told.text().trim(), right.to_str().unwrap());
    }
}

#[tokio::test]
async fn what_cannot_be_run_ends_with_a_reason() {
    let daemon = Daemon::start().await;
    std::fs::write(daemon.path("home/text"), "no program").unwrap();
    let text = daemon.path("home/text").to_str().unwrap().to_owned();
    for (spec, code, reason) in [
        (argv(["no-such-program"]), 127, "no-such-program"),
        (argv([&text]), 126, "ermission denied"),
        (argv(["/usr"]), 126, "ermission denied"),
        (Spec { cwd: Some("nowhere".into()), ..argv(["true"]) }, 126, "working directory"),
        (Spec { cwd: Some("text".into()), ..argv(["true"]) }, 126, "working directory"),
    ] {
        let exit = daemon.exec(spec).await.exit.unwrap();
        let error = exit.error.unwrap();
        assert!(exit.exit_code == code && error.contains(reason), "{error}");
    }
}

#[tokio::test]
async fn a_wrong_spec_is_refused_and_nothing_is_left_of_it() {
    let daemon = Daemon::start().await;
    for spec in [Spec::default(), Spec { argv: Some(vec![]), ..line("true") }] {
        assert_eq!(daemon.start_process(spec).await.unwrap_err().code, Code::BadCall);
    }
    let listed: Processes = daemon.ask(Operation::Processes {}, "").await.unwrap();
    assert_eq!(listed.processes, []);
}

#[tokio::test]
async fn a_start_that_comes_again_starts_nothing() {
    let daemon = Daemon::start().await;
    let spec = line("echo run >> ran; read x");
    let start = Start { process: unique(), keyed: None };
    let spec = Spec { stdin: true, ..spec };
    let starts = join_all((0..8).map(|_| daemon.start_again(start.clone(), &spec))).await;
    assert!(starts.iter().all(|it| it.as_ref().unwrap().process == start.process));
    daemon.until_state(start.process, State::Running).await;
    let ran = || std::fs::read_to_string(daemon.path("home/ran")).unwrap_or_default();
    super::until("the process has written", || !ran().is_empty()).await;
    let again = daemon.start_again(start, &line("other")).await.unwrap();
    assert_eq!(again.state, State::Running);
    assert_eq!(ran(), "run\n");
}

#[tokio::test]
async fn processes_are_listed_with_what_their_start_told() {
    let daemon = Daemon::start().await;
    let first = Spec { tag: Some("first".into()), cwd: Some("/usr".into()), ..argv(["sleep", "100"]) };
    let first = daemon.start_process(first).await.unwrap();
    let second = daemon.start_process(line("exit 7")).await.unwrap();
    daemon.follow(second.process, After::Start).await;
    let listed: Processes = daemon.ask(Operation::Processes {}, "").await.unwrap();
    let [one, other] = listed.processes.as_slice() else { panic!("{listed:?}") };
    assert_eq!((one.process, one.state, one.tag.as_deref()), (first.process, State::Running, Some("first")));
    assert_eq!((one.cwd.as_deref(), one.argv.join(" ")), (Some("/usr"), "sleep 100".to_owned()));
    assert_eq!((one.boot, one.pid), (daemon.health().await.boot, first.pid));
    assert_eq!((other.process, other.state), (second.process, State::Exited));
    assert_eq!(other.argv[1..], ["-c", "exit 7"]);
    assert_eq!(other.exit.as_ref().unwrap().exit_code, 7);
    let comm = std::fs::read_to_string(format!("/proc/{}/comm", first.pid.unwrap())).unwrap();
    assert_eq!(comm.trim(), "sleep");
}

#[tokio::test]
async fn nothing_of_a_start_stands_in_a_list_of_processes() {
    let daemon = Daemon::start().await;
    let env = BTreeMap::from([("SECRET".to_owned(), "secret-value".to_owned())]);
    daemon.start_process(Spec { env, ..line("sleep 100 # secret-command") }).await.unwrap();
    let keepers = crate::daemon::children(daemon.serve().unwrap());
    assert_eq!(keepers.len(), 1);
    for file in ["cmdline", "environ"] {
        let bytes = std::fs::read(format!("/proc/{}/{file}", keepers[0])).unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains("secret"), "{file}");
    }
    let found =
        std::process::Command::new("grep").args(["-rl", "secret-value"]).arg(daemon.path("run")).output();
    assert_eq!(String::from_utf8(found.unwrap().stdout).unwrap(), "");
}

#[tokio::test]
async fn sixty_four_processes_run_at_once() {
    let daemon = Daemon::start().await;
    let run = |number: usize| {
        let daemon = &daemon;
        async move { daemon.exec(line(&format!("seq {number} 999; echo {number} >&2"))).await }
    };
    let told = join_all((0..64).map(run)).await;
    for (number, told) in told.into_iter().enumerate() {
        let right: String = (number..=999).map(|it| format!("{it}\n")).collect();
        assert_eq!((told.text(), told.code()), (right.as_str(), 0));
        assert_eq!(told.stderr, format!("{number}\n").into_bytes());
    }
}

#[tokio::test]
async fn a_start_with_a_key_outlives_the_guests_run() {
    let mut daemon = Daemon::start().await;
    let start = Start { process: unique(), keyed: Some(Digest256::of(b"one")) };
    daemon.start_again(start.clone(), &line("echo run >> ran")).await.unwrap();
    daemon.follow(start.process, After::Start).await;
    let other = Start { keyed: Some(Digest256::of(b"other")), ..start.clone() };
    assert_eq!(daemon.start_again(other.clone(), &line("true")).await.unwrap_err().code, Code::OtherRequest);
    let boot = daemon.health().await.boot;

    // What is in memory ends with the guest's run.
    daemon.restart_guest().await;
    assert_ne!(daemon.health().await.boot, boot);
    let again = daemon.start_again(start.clone(), &line("echo run >> ran")).await.unwrap();
    assert_eq!((again.state, again.boot), (State::Lost, boot));
    assert_eq!(daemon.get(start.process).await.unwrap().state, State::Lost);
    assert_eq!(daemon.start_again(other, &line("true")).await.unwrap_err().code, Code::OtherRequest);
    assert_eq!(std::fs::read_to_string(daemon.path("home/ran")).unwrap(), "run\n");
    assert!(!daemon.path(&format!("state/log/{boot}")).exists());
}

#[tokio::test]
async fn a_start_whose_key_cannot_be_noted_runs_nothing() {
    let daemon = Daemon::start().await;
    std::fs::remove_dir_all(daemon.path("state")).unwrap();
    std::fs::write(daemon.path("state"), "no folder").unwrap();
    let start = Start { process: unique(), keyed: Some(Digest256::of(b"one")) };
    let refusal = daemon.start_again(start.clone(), &line("echo run >> ran")).await.unwrap_err();
    assert_eq!(refusal.code, Code::DiskFull);
    assert_eq!(daemon.get(start.process).await.unwrap_err().code, Code::NoSuchProcess);
    let told = daemon.exec(line("cat ran; echo runs")).await;
    assert_eq!(told.text(), "runs\n", "without a key, nothing on the disk is needed");
}

#[tokio::test]
async fn a_start_with_a_key_that_is_repeated_while_it_is_noted_is_not_lost() {
    let daemon = Daemon::start().await;
    for _ in 0..20 {
        let start = Start { process: unique(), keyed: Some(Digest256::of(b"key")) };
        let spec = line("echo run >> ran");
        let starts = join_all((0..4).map(|_| daemon.start_again(start.clone(), &spec))).await;
        for answer in starts {
            assert_ne!(answer.unwrap().state, State::Lost);
        }
        daemon.until_state(start.process, State::Exited).await;
    }
    assert_eq!(daemon.exec(line("wc -l < ran")).await.text().trim(), "20");
}
