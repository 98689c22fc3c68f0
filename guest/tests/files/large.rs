//! Large files: they are streamed, and nothing of the daemon grows with them.

use std::{convert::Infallible, fs, time::Instant};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use pve_edge_guest_protocol::{
    call::{Digest256, Operation},
    file::{List, Pack, Placing, Read, Staged},
};
use sha2::{Digest, Sha256};

use super::stage;
use crate::daemon::{Daemon, descendants, json, request, send};

const MEBIBYTE: usize = 1 << 20;

/// Largest amount of memory that a process has had, in KiB.
fn memory(process: u32) -> usize {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.map_or(0, |it| it.trim().trim_end_matches(" kB").parse().unwrap())
}

/// The most that any process of the daemon has had.
fn most_memory(daemon: &Daemon) -> usize {
    descendants(daemon.run()).into_iter().map(memory).max().unwrap()
}

/// Sends a file of so many mebibytes there, and reads it back; the answer tells how fast that was.
async fn there_and_back(count: usize) -> String {
    let daemon = Daemon::start().await;
    daemon.stat(".").await.unwrap();
    let part: Vec<u8> = (0..MEBIBYTE).map(|it| (it * it % 251) as u8).collect();
    let mut hash = Sha256::new();
    (0..count).for_each(|_| hash.update(&part));
    let sha256 = Digest256(hash.finalize().into());
    let part = Bytes::from(part);

    let began = Instant::now();
    let args = stage("large");
    let name = args.stage;
    let signed = daemon.call(Operation::Stage(args), b"").sign(&daemon.key).unwrap();
    let parts = stream::iter(0..count).map(move |_| Ok::<_, Infallible>(Frame::data(part.clone())));
    let request = request("stage", &signed).body(StreamBody::new(parts)).unwrap();
    let staged: Staged = json(send(daemon.address, request).await.unwrap()).await.unwrap();
    let sent = began.elapsed().as_secs_f64();
    assert_eq!(staged, Staged { length: (count * MEBIBYTE) as u64, sha256 });
    assert!(most_memory(&daemon) < 32 << 10, "{} KiB", most_memory(&daemon));
    daemon.commit(name, sha256, Placing::default()).await.unwrap();

    let began = Instant::now();
    let read = Read { path: "large".into(), user: None, range: None, if_match: None };
    let mut answer = daemon.open(Operation::Read(read), "").await.unwrap();
    let mut hash = Sha256::new();
    while let Some(frame) = answer.frame().await {
        hash.update(frame.unwrap().into_data().unwrap());
    }
    let read = began.elapsed().as_secs_f64();
    assert_eq!(Digest256(hash.finalize().into()), sha256);
    assert!(most_memory(&daemon) < 32 << 10, "{} KiB", most_memory(&daemon));

    let began = Instant::now();
    let pack = Pack { path: "large".into(), user: None, gzip: false };
    let mut answer = daemon.open(Operation::Pack(pack), "").await.unwrap();
    let mut packed = 0;
    while let Some(frame) = answer.frame().await {
        packed += frame.unwrap().into_data().unwrap().len();
    }
    let pack = began.elapsed().as_secs_f64();
    assert_eq!(packed, count * MEBIBYTE + 512 + 1024);
    let rate = |seconds: f64| (count * MEBIBYTE) as f64 / seconds / 1e6;
    format!(
        "{count} MiB: {:.0} MB/s in, {:.0} MB/s out, {:.0} MB/s packed, at most {} KiB in a process",
        rate(sent),
        rate(read),
        rate(pack),
        most_memory(&daemon)
    )
}

#[tokio::test]
async fn a_large_file_goes_through_little_memory() {
    there_and_back(64).await;
}

/// Makes a folder of so many files, and lists it.
async fn list(count: usize) {
    let daemon = Daemon::start().await;
    for number in 0..count {
        fs::write(daemon.home(&format!("file {number}")), "").unwrap();
    }
    let list = List { path: ".".into(), user: None, depth: 1, most: u64::MAX };
    let mut answer = daemon.open(Operation::List(list), "").await.unwrap();
    let (mut lines, mut most) = (0, 0);
    while let Some(frame) = answer.frame().await {
        lines += frame.unwrap().into_data().unwrap().iter().filter(|it| **it == b'\n').count();
        most = most.max(most_memory(&daemon));
    }
    assert_eq!(lines, count + 1);
    assert!(most < 32 << 10, "{most} KiB");
}

#[tokio::test]
async fn a_large_folder_is_listed_in_little_memory() {
    list(5_000).await;
}

#[tokio::test]
#[ignore = "a hundred thousand files are for a measurement"]
async fn a_hundred_thousand_files_are_listed_in_little_memory() {
    list(100_000).await;
}

#[tokio::test]
#[ignore = "a gibibyte is for a measurement"]
async fn a_gibibyte_goes_there_and_back() {
    println!("{}", there_and_back(1024).await);
}
