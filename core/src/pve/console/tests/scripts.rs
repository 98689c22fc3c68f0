//! What real shells make of the scripts that a hub runs.

#![expect(clippy::disallowed_methods, reason = "these are real shells, in real time")]

use std::{
    collections::BTreeMap,
    fs,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    process::{Command, Output, Stdio},
    thread::sleep,
    time::Duration,
};

use pve_edge_guest_protocol::{Unique, process::Scope};

use super::{
    super::{files, script},
    shells::shells,
};

const PROCESS: Unique = Unique([7; 16]);

fn run(shell: &[&str], text: &str, folder: &std::path::Path) -> Output {
    let mut command = Command::new(shell[0]);
    command.args(&shell[1..]).args(["-c", text]).current_dir(folder).stdin(Stdio::null());
    command.output().expect("a shell")
}

#[test]
fn only_a_user_who_is_there_is_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let users = folder.path().join("passwd");
    // As an editor leaves it: no newline at its end.
    fs::write(&users, "root:x:0:0::/:/bin/sh\nlast:x:0:0::/last:/bin/sh").expect("a file");
    for shell in shells() {
        for (user, wanted) in [("nobody", (126, "")), ("last", (0, "last\n")), ("root", (0, "root\n"))] {
            let text = script::as_user(Some(user), &BTreeMap::new(), "echo $USER");
            let text = text.replace("/etc/passwd", users.to_str().expect("a path"));
            let output = run(&shell, &text, folder.path());
            let told = String::from_utf8_lossy(&output.stdout);
            assert_eq!((output.status.code(), &*told), (Some(wanted.0), wanted.1), "{shell:?} {user}");
        }
    }
}

#[test]
fn a_signal_is_sent_once() {
    for shell in shells() {
        for (scope, own_group) in [(Scope::Tree, true), (Scope::Tree, false), (Scope::Process, true)] {
            let all = tempfile::tempdir().expect("a folder");
            let folder = all.path().join(PROCESS.to_string());
            fs::create_dir(&folder).expect("a folder");
            let mut command = Command::new("bash");
            let count = "trap 'echo x >>got' USR1; : >ready; while :; do read -t 0.02 <>wait; done";
            command.args(["-c", &format!("mkfifo wait; {count}")]).current_dir(&folder);
            if own_group {
                command.process_group(0);
            }
            let mut child = command.spawn().expect("bash");
            for (file, text) in [("c", "#\n"), ("go", ""), ("o", ""), ("e", "")] {
                fs::write(folder.join(file), text).expect("a file");
            }
            fs::write(folder.join("pid"), format!("{}\n", child.id())).expect("a file");
            while !folder.join("ready").exists() {
                sleep(Duration::from_millis(10));
            }
            let output = run(&shell, &script::signal(PROCESS, "USR1", scope), &folder);
            sleep(Duration::from_millis(300));
            let got = fs::read_to_string(folder.join("got"));
            child.kill().expect("it is there");
            child.wait().expect("it ends");
            assert_eq!(
                (output.status.code(), &*got.expect("a signal")),
                (Some(0), "x\n"),
                "{shell:?} {scope:?}"
            );
        }
    }
}

/// The same bytes are written by two at once, since the first one's answer was lost; and once more behind a writer that was
/// killed.
#[test]
fn input_that_is_written_again_is_not_doubled() {
    let data: Vec<u8> = (0..1_000_000_u32).map(|it| u8::try_from(it * 7 % 251).expect("a byte")).collect();
    for shell in shells() {
        let all = tempfile::tempdir().expect("a folder");
        let folder = all.path().join(PROCESS.to_string());
        fs::create_dir(&folder).expect("a folder");
        fs::write(all.path().join("data"), &data).expect("a file");
        for file in ["c", "i"] {
            fs::write(folder.join(file), "").expect("a file");
        }
        // Somebody reads what wakes the feeder.
        let mut reader = Command::new("sh");
        reader.args(["-c", "mkfifo q; exec cat <>q >/dev/null"]).current_dir(&folder);
        let mut reader = reader.spawn().expect("a shell");
        while !folder.join("q").exists() {
            sleep(Duration::from_millis(10));
        }
        std::os::unix::fs::symlink("999999999", folder.join("w")).expect("a lock whose owner is gone");
        let text = script::stdin(PROCESS, 0, false);
        let write = || {
            let mut command = Command::new(shell[0]);
            command.args(&shell[1..]).args(["-c", &text]).current_dir(&folder);
            command.stdin(fs::File::open(all.path().join("data")).expect("a file")).stdout(Stdio::null());
            command.spawn().expect("a shell")
        };
        for mut writer in [write(), write(), write()] {
            assert_eq!(writer.wait().expect("it ends").code(), Some(0), "{shell:?}");
        }
        reader.kill().expect("it is there");
        reader.wait().expect("it ends");
        assert!(fs::read(folder.join("i")).expect("a file") == data, "{shell:?}: other bytes");
    }
}

#[test]
fn programs_speak_english_to_scripts_about_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let stat = folder.path().join("stat");
    let said = "case $LC_ALL in C) echo 'stat: No such file or directory';; *) echo 'stat: Datei nicht gefunden';; esac; exit 1";
    fs::write(&stat, format!("#!/bin/sh\n{said}\n")).expect("a file");
    fs::set_permissions(&stat, fs::Permissions::from_mode(0o755)).expect("its mode");
    let path = format!("PATH={}:$PATH; LC_ALL=de_DE.UTF-8; export PATH LC_ALL\n", folder.path().display());
    // A busybox may have a `stat` of its own.
    for shell in shells().into_iter().filter(|it| it[0] != "busybox") {
        let text = format!("{path}{}", files::stat_script("/x"));
        let output = run(&shell, &text, folder.path());
        assert_eq!(String::from_utf8_lossy(&output.stdout), "stat: No such file or directory", "{shell:?}");
    }
}
