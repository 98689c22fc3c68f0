//! Disks that take no more.

use std::fs;

use pve_edge_guest_protocol::{
    answer::Code,
    call::Digest256,
    file::{Placing, Write},
};
use rustix::{fs::statvfs, process::geteuid};

use super::{archives::gzip, stage, write};
use crate::daemon::{Daemon, children};

/// A daemon whose home has `full`, a file system of a mebibyte and 24 inodes, and `fixed`, which takes nothing; they are
/// in a namespace of its own.
async fn start() -> Option<Daemon> {
    const MOUNT: &str = "mount --make-rprivate / && cd home && mkdir full fixed && \
        mount -t tmpfs -o size=1m,nr_inodes=24,mode=755 none full && mount -t tmpfs -o mode=755 none fixed && \
        mkdir fixed/folder && echo content > fixed/file && mount -o remount,ro fixed && cd / && exec \"$@\"";
    let can =
        std::process::Command::new("unshare").args(["-m", "mount", "-t", "tmpfs", "none", "/mnt"]).status();
    if !geteuid().is_root() || !can.is_ok_and(|it| it.success()) {
        println!("skipped: file systems cannot be mounted");
        return None;
    }
    Some(Daemon::start_by(&["unshare", "-m", "sh", "-ec", MOUNT, "sh"], |_| ()).await)
}

/// The home as the daemon sees it.
fn seen(daemon: &Daemon, path: &str) -> std::path::PathBuf {
    let process = children(daemon.run())[0];
    let home = daemon.home(path);
    format!("/proc/{process}/root{}", home.display()).into()
}

fn free(daemon: &Daemon) -> (u64, u64) {
    let disk = statvfs(seen(daemon, "full")).unwrap();
    (disk.f_bfree, disk.f_ffree)
}

#[tokio::test]
async fn a_full_disk_is_told_and_nothing_is_left_on_it() {
    let Some(daemon) = start().await else { return };
    let before = free(&daemon);
    daemon.write("full/file", "first").await.unwrap();
    let written = free(&daemon);
    let content = vec![1; 1 << 20];
    assert_eq!(daemon.write("full/file", content.clone()).await.unwrap_err().code, Code::DiskFull);
    let args = stage("full/file");
    let refusal = daemon.stage(args.clone(), vec![1; 3 << 20]).await.unwrap_err();
    assert_eq!(refusal.code, Code::DiskFull);
    assert!(refusal.detail.contains("full/file"), "{}", refusal.detail);
    let gone = daemon.commit(args.stage, Digest256::of(&content), Placing::default()).await.unwrap_err();
    assert_eq!(gone.code, Code::NoSuchStage);
    // Little that becomes much.
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(4 << 20);
    header.set_mode(0o644);
    archive.append_data(&mut header, "full/large", &vec![0; 4 << 20][..]).unwrap();
    let archive = gzip(&archive.into_inner().unwrap());
    let refusal = daemon.unpack("full/folder", archive, true).await.unwrap_err();
    assert_eq!(refusal.code, Code::DiskFull, "{refusal:?}");
    daemon.remove("full/folder", false).await.unwrap();
    assert_eq!(daemon.content("full/file").await.unwrap(), "first");
    assert_eq!(free(&daemon), written);
    daemon.remove("full/file", false).await.unwrap();
    assert_eq!(free(&daemon), before);
}

#[tokio::test]
async fn a_disk_without_inodes_is_told() {
    let Some(daemon) = start().await else { return };
    let mut number = 0;
    let refusal = loop {
        match daemon.write(&format!("full/{number}"), "").await {
            Ok(_) => number += 1,
            Err(refusal) => break refusal,
        }
        assert!(number < 100);
    };
    assert_eq!(refusal.code, Code::DiskFull);
    assert!(number > 3);
    assert_eq!(daemon.mkdir("full/folder", false).await.unwrap_err().code, Code::DiskFull);
    let args = stage("full/new");
    assert_eq!(daemon.stage(args, "x").await.unwrap_err().code, Code::DiskFull);
    // What is there can be read and removed, and then there is room.
    assert_eq!(daemon.list("full", 1, 1000).await.unwrap().0.len(), number);
    daemon.remove("full/0", false).await.unwrap();
    daemon.write("full/new", "").await.unwrap();
}

#[tokio::test]
async fn a_read_only_disk_is_read_and_told() {
    let Some(daemon) = start().await else { return };
    assert_eq!(daemon.content("fixed/file").await.unwrap(), "content\n");
    let write = Write { mkdirs: true, ..write("fixed/folder/new/file") };
    let refusals = [
        daemon.write("fixed/file", "x").await.map(drop),
        daemon.write_with(write, "x").await.map(drop),
        daemon.stage(stage("fixed/new"), "x").await.map(drop),
        daemon.mkdir("fixed/new", false).await.map(drop),
        daemon.rename("fixed/file", "fixed/new", false).await.map(drop),
        daemon.remove("fixed/folder", true).await.map(drop),
        daemon.unpack("fixed/folder", Vec::new(), false).await.map(drop),
    ];
    for refusal in refusals {
        let refusal = refusal.unwrap_err();
        assert_eq!(refusal.code, Code::NotPermitted);
        assert!(refusal.detail.contains("read-only"), "{}", refusal.detail);
    }
    assert_eq!(daemon.pack("fixed", false).await.unwrap().len(), 2048 + 512);
    // From one disk to another nothing is moved.
    let refusal = daemon.rename("fixed/file", "moved", false).await.unwrap_err();
    assert!(matches!(refusal.code, Code::Unsupported | Code::NotPermitted), "{refusal:?}");
    fs::write(daemon.home("file"), "").unwrap();
    assert_eq!(daemon.rename("file", "full/file", true).await.unwrap_err().code, Code::Unsupported);
}
