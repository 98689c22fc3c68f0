//! Processes of other users than the daemon's.

use pve_edge_guest_protocol::{answer::Code, process::Spec};
use rustix::process::geteuid;

use super::{argv, line};
use crate::daemon::Daemon;

fn is_root() -> bool {
    let is_root = geteuid().is_root();
    if !is_root {
        println!("skipped: only root can be another user");
    }
    is_root
}

fn of(user: &str, spec: Spec) -> Spec {
    Spec { user: Some(user.into()), cwd: Some("/".into()), ..spec }
}

#[tokio::test]
async fn a_user_is_had_by_name_or_number() {
    if !is_root() {
        return;
    }
    let daemon = Daemon::start().await;
    for (user, right) in [
        ("root", "0 0 /"),
        ("0", "0 0 /"),
        ("daemon", "1 1 /"),
        ("1", "1 1 /"),
        ("47110815", "47110815 47110815 /"),
    ] {
        let told = daemon.exec(of(user, line("echo $(id -u) $(id -g) $PWD"))).await;
        assert_eq!(told.text().trim(), right, "{user}");
    }
    let told =
        daemon.exec(of("daemon", line("id -G; echo $USER $LOGNAME $HOME; echo x > /dev/stderr"))).await;
    assert_eq!(told.text(), "1\ndaemon daemon /usr/sbin\n");
    assert_eq!(told.stderr, b"x\n", "the streams are the user's");
    let told = daemon.exec(of("daemon", argv(["cat", "/etc/shadow"]))).await;
    assert_eq!((told.text(), told.code()), ("", 1));
}

#[tokio::test]
async fn a_terminal_is_the_users() {
    if !is_root() {
        return;
    }
    let daemon = Daemon::start().await;
    let size = pve_edge_guest_protocol::process::Size { cols: 80, rows: 24 };
    let spec = Spec { pty: Some(size), ..of("daemon", line("stat -c %U $(tty); echo x > $(tty)")) };
    assert_eq!(daemon.exec(spec).await.text(), "daemon\r\nx\r\n");
}

#[tokio::test]
async fn a_user_that_is_not_there_is_refused() {
    let daemon = Daemon::start().await;
    for user in ["no-such-user", "", "-1", "4294967295"] {
        let refusal = daemon.start_process(of(user, argv(["true"]))).await.unwrap_err();
        assert_eq!(refusal.code, Code::NoSuchUser, "{user}");
    }
}

#[tokio::test]
async fn a_user_cannot_start_where_it_may_not_be() {
    if !is_root() {
        return;
    }
    let daemon = Daemon::start().await;
    let spec = Spec { cwd: Some("/root".into()), ..of("daemon", argv(["true"])) };
    let exit = daemon.exec(spec).await.exit.unwrap();
    assert!(exit.exit_code == 126 && exit.error.unwrap().contains("ermission denied"));
}

#[tokio::test]
async fn a_daemon_of_an_ordinary_user_has_but_that_user() {
    if !is_root() {
        return;
    }
    let wrapper = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let daemon = Daemon::start_by(&wrapper, |folder| {
        for path in [folder.to_owned(), folder.join("home")] {
            std::os::unix::fs::chown(path, Some(65534), Some(65534)).unwrap();
        }
    })
    .await;
    let told = daemon.exec(line("id -u; pwd; echo x > /dev/stderr")).await;
    assert_eq!(told.text(), format!("65534\n{}\n", daemon.path("home").display()));
    assert_eq!((told.stderr.as_slice(), told.code()), (&b"x\n"[..], 0));
    assert_eq!(daemon.exec(of("65534", argv(["id", "-u"]))).await.text(), "65534\n");
    let refusal = daemon.start_process(of("root", argv(["id", "-u"]))).await.unwrap_err();
    assert_eq!(refusal.code, Code::NotPermitted);
    let process = daemon.start_process(line("trap '' TERM; while :; do sleep 1; done")).await.unwrap();
    daemon.forget(process.process).await.unwrap();
    assert!(!super::lives(process.pid.unwrap()));
}
