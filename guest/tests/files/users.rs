//! Users, and what the kernel lets them do.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use http_body_util::BodyExt;
use pve_edge_guest_protocol::{
    answer::Code,
    call::{Digest256, Operation},
    file::{Entry, Mkdir, Placing, Remove, Stage, Watch, Write},
};
use rustix::{
    fs::{CWD, RenameFlags, renameat_with},
    process::geteuid,
};

use super::{stage, write};
use crate::{
    daemon::{Daemon, children, stop},
    processes::until,
};

/// Number of a user that has no name.
const USER: u32 = 4711;
const NAME: Option<&str> = Some("4711");

/// A daemon of root, with a folder of the user's and a file that is root's alone.
async fn start() -> Option<Daemon> {
    if !geteuid().is_root() {
        println!("skipped: only root can become another user");
        return None;
    }
    let daemon = Daemon::start().await;
    open(daemon.folder.path());
    fs::create_dir(daemon.home("own")).unwrap();
    chown(daemon.home("own"), Some(USER), Some(USER)).unwrap();
    fs::create_dir(daemon.home("roots")).unwrap();
    fs::write(daemon.home("roots/secret"), "secret").unwrap();
    fs::set_permissions(daemon.home("roots/secret"), fs::Permissions::from_mode(0o600)).unwrap();
    Some(daemon)
}

/// Lets others into a folder.
fn open(folder: &Path) {
    for path in [folder, &folder.join("home")] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

fn path(daemon: &Daemon, path: &str) -> String {
    daemon.home(path).to_str().unwrap().to_owned()
}

fn user_write(path: &str) -> Write {
    Write { user: NAME.map(Into::into), ..write(path) }
}

#[tokio::test]
async fn what_a_user_makes_is_the_users() {
    let Some(daemon) = start().await else { return };
    let own = |it: &str| path(&daemon, &format!("own/{it}"));
    let entry = daemon.write_with(Write { mkdirs: true, ..user_write(&own("a/file")) }, "1").await.unwrap();
    assert_eq!((entry.uid, entry.gid, entry.owner), (USER, USER, None));
    let args = Stage { user: NAME.map(Into::into), ..stage(&own("staged")) };
    let name = args.stage;
    daemon.stage(args, "2").await.unwrap();
    let entry = daemon.commit(name, Digest256::of(b"2"), Placing::default()).await.unwrap();
    assert_eq!(entry.uid, USER);
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o640);
    header.set_size(0);
    header.set_uid(0);
    archive.append_data(&mut header, "x/y", &[][..]).unwrap();
    daemon.unpack_as(&own("tree"), archive.into_inner().unwrap(), false, NAME).await.unwrap();
    for made in ["own/a", "own/tree", "own/tree/x", "own/tree/x/y"] {
        let about = daemon.home(made).metadata().unwrap();
        assert_eq!((about.uid(), about.gid()), (USER, USER), "{made}");
    }
    let root = daemon.stat_as(&path(&daemon, "roots"), NAME).await.unwrap();
    assert_eq!((root.owner.as_deref(), root.group.as_deref()), (Some("root"), Some("root")));
}

#[tokio::test]
async fn a_user_may_not_do_what_the_kernel_refuses() {
    let Some(daemon) = start().await else { return };
    let roots = |it: &str| path(&daemon, &format!("roots/{it}"));
    let user = || NAME.map(Into::into);
    let refusals = [
        daemon.content_as(&roots("secret"), NAME).await.map(drop),
        daemon.write_with(user_write(&roots("secret")), "x").await.map(drop),
        daemon.write_with(user_write(&roots("new")), "x").await.map(drop),
        daemon.stage(Stage { user: user(), ..stage(&roots("new")) }, "x").await.map(drop),
        daemon
            .remove_with(Remove { path: roots("secret"), user: user(), recursive: false, if_match: None })
            .await
            .map(drop),
        daemon
            .remove_with(Remove { path: roots(""), user: user(), recursive: true, if_match: None })
            .await
            .map(drop),
        daemon
            .ask::<serde_json::Value>(
                Operation::Mkdir(Mkdir { path: roots("a"), user: user(), mode: None, parents: true }),
                "",
            )
            .await
            .map(drop),
        daemon
            .read(
                Operation::Pack(pve_edge_guest_protocol::file::Pack {
                    path: roots(""),
                    user: user(),
                    gzip: false,
                }),
                "",
            )
            .await
            .map(drop),
        daemon
            .read(Operation::Watch(Watch { path: "/root".into(), user: user(), recursive: true }), "")
            .await
            .map(drop),
    ];
    for (number, refusal) in refusals.into_iter().enumerate() {
        assert_eq!(refusal.unwrap_err().code, Code::NotPermitted, "{number}");
    }
    assert_eq!(daemon.content("roots/secret").await.unwrap(), "secret");
    assert_eq!(super::names(daemon.home("roots")), ["secret"]);
    assert_eq!(daemon.stat_as("/", Some("nobody-here")).await.unwrap_err().code, Code::NoSuchUser);
}

#[tokio::test]
async fn a_path_that_becomes_a_link_gives_a_user_nothing() {
    let Some(daemon) = start().await else { return };
    let own = daemon.home("own");
    fs::create_dir(own.join("a")).unwrap();
    chown(own.join("a"), Some(USER), Some(USER)).unwrap();
    fs::write(own.join("a/secret"), "mine").unwrap();
    chown(own.join("a/secret"), Some(USER), Some(USER)).unwrap();
    symlink(daemon.home("roots"), own.join("b")).unwrap();
    let ends = Arc::new(AtomicBool::new(false));
    let exchanger = thread::spawn({
        let (ends, a, b) = (ends.clone(), own.join("a"), own.join("b"));
        move || {
            while !ends.load(Ordering::Relaxed) {
                let _ = renameat_with(CWD, &a, CWD, &b, RenameFlags::EXCHANGE);
            }
        }
    });
    let secret = path(&daemon, "own/a/secret");
    for _ in 0..100 {
        match daemon.content_as(&secret, NAME).await {
            Ok(content) => assert_eq!(content, "mine"),
            Err(refusal) => assert_eq!(refusal.code, Code::NotPermitted),
        }
        if let Err(refusal) = daemon.write_with(user_write(&secret), "mine").await {
            assert_eq!(refusal.code, Code::NotPermitted);
        }
    }
    ends.store(true, Ordering::Relaxed);
    exchanger.join().unwrap();
    assert_eq!(fs::read_to_string(daemon.home("roots/secret")).unwrap(), "secret");
    assert_eq!(super::names(daemon.home("roots")), ["secret"]);
}

#[tokio::test]
async fn the_mode_of_a_new_folder_is_no_other_folders_that_a_user_puts_there() {
    let Some(daemon) = start().await else { return };
    let (new, link, roots) = (daemon.home("own/new"), daemon.home("own/link"), daemon.home("roots"));
    let before = roots.metadata().unwrap().mode();
    symlink(&roots, &link).unwrap();
    let ends = Arc::new(AtomicBool::new(false));
    let exchanger = thread::spawn({
        let (ends, new) = (ends.clone(), new.clone());
        move || {
            while !ends.load(Ordering::Relaxed) {
                // Once there is a folder, it becomes the link.
                let _ = renameat_with(CWD, &new, CWD, &link, RenameFlags::EXCHANGE);
            }
        }
    });
    let args = Mkdir { path: path(&daemon, "own/new"), user: None, mode: Some(0o6777), parents: false };
    for _ in 0..300 {
        let _ = daemon.ask::<Entry>(Operation::Mkdir(args.clone()), "").await;
        while fs::remove_dir(&new).or_else(|_| fs::remove_dir(daemon.home("own/link"))).is_err() {}
        let _ = (fs::remove_file(&new), fs::remove_file(daemon.home("own/link")));
        symlink(&roots, daemon.home("own/link")).unwrap();
    }
    ends.store(true, Ordering::Relaxed);
    exchanger.join().unwrap();
    assert_eq!(roots.metadata().unwrap().mode(), before);
    let entry: Entry = daemon.ask(Operation::Mkdir(args), "").await.unwrap();
    assert_eq!(entry.mode & 0o7777, 0o6777);
}

#[tokio::test]
async fn a_user_who_stops_what_is_done_as_him_keeps_nobody_out() {
    let Some(daemon) = start().await else { return };
    let own = path(&daemon, "own");
    let watch = Operation::Watch(Watch { path: own.clone(), user: NAME.map(Into::into), recursive: false });
    let mut watches = Vec::new();
    let refusal = loop {
        match daemon.open(watch.clone(), "").await {
            Ok(answer) => watches.push(answer.into_body()),
            Err(refusal) => break refusal,
        }
    };
    assert_eq!(refusal.code, Code::Busy);
    children(daemon.serve().unwrap()).into_iter().for_each(stop);
    for user in [None, NAME, Some("4712")] {
        daemon.stat_as(&own, user).await.unwrap();
    }
    let root = Operation::Watch(Watch { path: own, user: None, recursive: false });
    watches.push(daemon.open(root, "").await.unwrap().into_body());
    // Those that are stopped end, and with them their answers.
    let of_root = watches.pop();
    for watch in watches {
        assert!(watch.collect().await.is_err());
    }
    drop(of_root);
    until("no process is left", || children(daemon.serve().unwrap()).is_empty()).await;
    drop(daemon.open(watch, "").await.unwrap());
}

#[tokio::test]
async fn a_daemon_of_an_ordinary_user_does_what_that_user_may() {
    if !geteuid().is_root() {
        println!("skipped: only root can start a daemon of another user");
        return;
    }
    let user = USER.to_string();
    let wrapper = ["setpriv", "--reuid", &user, "--regid", &user, "--clear-groups"];
    let daemon = Daemon::start_by(&wrapper, |folder| {
        open(folder);
        for path in [folder, &folder.join("home")] {
            chown(path, Some(USER), Some(USER)).unwrap();
        }
    })
    .await;
    let entry = daemon.write("file", "content").await.unwrap();
    assert_eq!((entry.uid, entry.path), (USER, path(&daemon, "file")));
    assert_eq!(daemon.stat_as("file", NAME).await.unwrap().uid, USER);
    for other in ["root", "0", "1"] {
        assert_eq!(daemon.stat_as("/", Some(other)).await.unwrap_err().code, Code::NotPermitted, "{other}");
    }
    assert_eq!(daemon.write("/etc/pve-edge-test", "").await.unwrap_err().code, Code::NotPermitted);
}
