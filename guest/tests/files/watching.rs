//! Watching of folders.

use std::{fs, os::unix::fs::PermissionsExt, time::Duration};

use http_body_util::BodyExt;
use hyper::body::Incoming;
use pve_edge_guest_protocol::{
    answer::{Code, Refusal},
    call::Operation,
    file::{Change, Changed, Watch},
};
use tokio::time::timeout;

use crate::daemon::{Daemon, descendants};

/// Changes, as they come.
struct Changes {
    body: Incoming,
    bytes: Vec<u8>,
}

impl Changes {
    async fn of(daemon: &Daemon, path: &str, recursive: bool) -> Result<Self, Refusal> {
        let watch = Watch { path: path.into(), user: None, recursive };
        let answer = daemon.open(Operation::Watch(watch), "").await?;
        assert_eq!(answer.headers()["content-type"], "application/x-ndjson");
        let mut changes = Self { body: answer.into_body(), bytes: Vec::new() };
        assert_eq!(changes.next().await, Some(Change::Watching));
        Ok(changes)
    }

    async fn next(&mut self) -> Option<Change> {
        loop {
            if let Some(end) = self.bytes.iter().position(|it| *it == b'\n') {
                let line: Vec<u8> = self.bytes.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let frame = timeout(Duration::from_secs(60), self.body.frame()).await.expect("a change");
            self.bytes.extend_from_slice(&frame?.unwrap().into_data().unwrap());
        }
    }

    /// Reads on up to a change.
    async fn until(&mut self, last: &Change) -> Vec<Change> {
        let mut seen = Vec::new();
        loop {
            let next = self.next().await.unwrap();
            seen.push(next.clone());
            if next == *last {
                return seen;
            }
        }
    }
}

fn at(path: &str, directory: bool) -> Changed {
    Changed { path: path.into(), directory, bytes: None }
}

#[tokio::test]
async fn what_happens_in_a_folder_is_told_in_order() {
    let daemon = Daemon::start().await;
    fs::create_dir_all(daemon.home("watched/below")).unwrap();
    fs::write(daemon.home("outside"), "").unwrap();
    let mut changes = Changes::of(&daemon, "watched", false).await.unwrap();
    daemon.write("watched/file", "1").await.unwrap();
    assert_eq!(changes.next().await, Some(Change::Created(at("file", false))));
    fs::write(daemon.home("watched/below/unseen"), "").unwrap();
    fs::write(daemon.home("watched/file"), "2").unwrap();
    assert_eq!(changes.next().await, Some(Change::Modified(at("file", false))));
    fs::set_permissions(daemon.home("watched/file"), fs::Permissions::from_mode(0o600)).unwrap();
    changes.until(&Change::Attributes(at("file", false))).await;
    fs::rename(daemon.home("watched/file"), daemon.home("watched/new")).unwrap();
    assert_eq!(changes.next().await, Some(Change::Removed(at("file", false))));
    assert_eq!(changes.next().await, Some(Change::Created(at("new", false))));
    fs::rename(daemon.home("outside"), daemon.home("watched/in")).unwrap();
    assert_eq!(changes.next().await, Some(Change::Created(at("in", false))));
    fs::rename(daemon.home("watched/in"), daemon.home("out")).unwrap();
    assert_eq!(changes.next().await, Some(Change::Removed(at("in", false))));
    fs::remove_file(daemon.home("watched/new")).unwrap();
    assert_eq!(changes.next().await, Some(Change::Removed(at("new", false))));
    daemon.remove("watched", true).await.unwrap();
    assert_eq!(changes.next().await, Some(Change::Removed(at("below", true))));
    assert_eq!(changes.next().await, Some(Change::Gone));
    assert_eq!(changes.next().await, None);
}

#[tokio::test]
async fn folders_below_are_watched_wherever_they_come_from_and_go() {
    let daemon = Daemon::start().await;
    fs::create_dir_all(daemon.home("watched/a/b")).unwrap();
    fs::create_dir_all(daemon.home("outside/x/y")).unwrap();
    fs::write(daemon.home("outside/x/file"), "").unwrap();
    let mut changes = Changes::of(&daemon, "watched", true).await.unwrap();
    fs::write(daemon.home("watched/a/b/file"), "").unwrap();
    assert_eq!(changes.next().await, Some(Change::Created(at("a/b/file", false))));
    fs::rename(daemon.home("outside/x"), daemon.home("watched/x")).unwrap();
    let seen = [changes.next().await, changes.next().await, changes.next().await];
    assert_eq!(seen[0], Some(Change::Created(at("x", true))));
    for made in [at("x/y", true), at("x/file", false)] {
        assert!(seen.contains(&Some(Change::Created(made))), "{seen:?}");
    }
    fs::write(daemon.home("watched/x/y/deep"), "").unwrap();
    assert_eq!(changes.next().await, Some(Change::Created(at("x/y/deep", false))));
    fs::rename(daemon.home("watched/x"), daemon.home("watched/z")).unwrap();
    assert_eq!(changes.next().await, Some(Change::Removed(at("x", true))));
    changes.until(&Change::Created(at("z/y/deep", false))).await;
    fs::rename(daemon.home("watched/z"), daemon.home("gone")).unwrap();
    let rest = changes.until(&Change::Removed(at("z", true))).await;
    assert!(rest.iter().all(|it| !matches!(it, Change::Removed(it) if it.path.starts_with('x'))), "{rest:?}");
    fs::write(daemon.home("gone/y/unseen"), "").unwrap();
    fs::create_dir_all(daemon.home("watched/new/er/est")).unwrap();
    let seen = changes.until(&Change::Created(at("new/er/est", true))).await;
    assert!(seen.iter().all(|it| !format!("{it:?}").contains("unseen")), "{seen:?}");
    // Each is watched when it is told, so nothing behind that is missed.
    fs::write(daemon.home("watched/new/er/est/file"), "").unwrap();
    changes.until(&Change::Created(at("new/er/est/file", false))).await;
}

#[tokio::test]
async fn changes_that_were_lost_are_told() {
    let daemon = Daemon::start().await;
    fs::create_dir(daemon.home("watched")).unwrap();
    let most: usize =
        fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap().trim().parse().unwrap();
    if most > 1 << 16 {
        println!("skipped: the kernel keeps {most} events");
        return;
    }
    let mut changes = Changes::of(&daemon, "watched", true).await.unwrap();
    // Nobody reads: what is on the way fills up, then what the kernel keeps. The long names make that soon.
    let name = "n".repeat(200);
    for number in 0..most + 50_000 {
        let path = daemon.home(&format!("watched/{name}{number}"));
        fs::write(&path, "").unwrap();
        fs::remove_file(path).unwrap();
    }
    changes.until(&Change::Overflow).await;
    fs::create_dir(daemon.home("watched/folder")).unwrap();
    changes.until(&Change::Created(at("folder", true))).await;
    fs::write(daemon.home("watched/folder/file"), "").unwrap();
    changes.until(&Change::Created(at("folder/file", false))).await;
}

#[tokio::test]
async fn a_watch_ends_with_its_listener() {
    let daemon = Daemon::start().await;
    let before = descendants(daemon.run()).len();
    let changes = Changes::of(&daemon, ".", true).await.unwrap();
    assert_eq!(descendants(daemon.run()).len(), before + 1);
    drop(changes);
    for _ in 0..3_000 {
        if descendants(daemon.run()).len() == before {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it does not end");
}

#[tokio::test]
async fn what_is_no_folder_is_not_watched() {
    let daemon = Daemon::start().await;
    daemon.write("file", "").await.unwrap();
    assert_eq!(Changes::of(&daemon, "file", false).await.err().map(|it| it.code), Some(Code::NotADirectory));
    assert_eq!(Changes::of(&daemon, "missing", true).await.err().map(|it| it.code), Some(Code::NoSuchFile));
}

#[tokio::test]
async fn names_that_are_no_text_are_told_with_their_bytes() {
    use std::os::unix::ffi::OsStrExt;
    let daemon = Daemon::start().await;
    let mut changes = Changes::of(&daemon, ".", false).await.unwrap();
    fs::write(daemon.home("").join(std::ffi::OsStr::from_bytes(b"a\xff\n")), "").unwrap();
    let Some(Change::Created(changed)) = changes.next().await else { panic!("nothing was made") };
    assert_eq!(changed.path, "a\u{fffd}\n");
    assert_eq!(changed.bytes.map(|it| it.0), Some(b"a\xff\n".to_vec()));
}
