//! Staging of a body, and putting it in place.

use std::{convert::Infallible, fs, io, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http_body_util::StreamBody;
use hyper::body::Frame;
use pve_edge_guest_protocol::{
    answer::{Code, Refusal},
    call::{Digest256, Operation},
    file::{Placing, Stage, Staged},
};
use tokio::time::sleep;

use super::{names, stage};
use crate::daemon::{Daemon, descendants, json, request, send};

fn content() -> Vec<u8> {
    (0..5_000_000_u32).map(|it| (it / 7 % 251) as u8).collect()
}

#[tokio::test]
async fn what_was_staged_is_seen_when_it_is_put_in_place_and_not_before() {
    let daemon = Daemon::start().await;
    let content = content();
    let args = Stage { mkdirs: true, ..stage("new/folder/file") };
    let name = args.stage;
    let staged = daemon.stage(args, content.clone()).await.unwrap();
    let sha256 = Digest256::of(&content);
    assert_eq!(staged, Staged { length: content.len() as u64, sha256 });
    assert_eq!(names(daemon.home("new/folder")), Vec::<String>::new());
    let placing = Placing { mode: Some(0o600), if_none: true, ..Placing::default() };
    let entry = daemon.commit(name, sha256, placing.clone()).await.unwrap();
    assert_eq!((entry.size, entry.mode), (content.len() as u64, 0o600));
    assert!(fs::read(daemon.home("new/folder/file")).unwrap() == content);
    assert_eq!(names(daemon.home("new/folder")), ["file"]);
    // It is said again, and not done again.
    daemon.write("new/folder/file", "other").await.unwrap();
    assert_eq!(daemon.commit(name, sha256, placing).await.unwrap(), entry);
    assert_eq!(daemon.content("new/folder/file").await.unwrap(), "other");
}

#[tokio::test]
async fn other_bytes_leave_nothing() {
    let daemon = Daemon::start().await;
    let args = stage("file");
    let name = args.stage;
    daemon.stage(args, "what came").await.unwrap();
    let signed = Digest256::of(b"what was sent");
    let refusal = daemon.commit(name, signed, Placing::default()).await.unwrap_err();
    assert_eq!(refusal.code, Code::OtherBytes);
    // Nor can it be put in place later.
    let refusal = daemon.commit(name, Digest256::of(b"what came"), Placing::default()).await.unwrap_err();
    assert_eq!(refusal.code, Code::NoSuchStage);
    assert_eq!(names(daemon.home("")), Vec::<String>::new());
    no_process_is_left(&daemon).await;
}

#[tokio::test]
async fn a_condition_is_checked_when_it_is_put_in_place() {
    let daemon = Daemon::start().await;
    let before = daemon.write("file", "before").await.unwrap();
    let sha256 = Digest256::of(b"staged");
    for (placing, code) in [
        (Placing { if_none: true, ..Placing::default() }, Code::Exists),
        (Placing { if_match: Some("other".into()), ..Placing::default() }, Code::Changed),
    ] {
        let args = stage("file");
        let name = args.stage;
        daemon.stage(args, "staged").await.unwrap();
        for _ in 0..2 {
            let refusal = daemon.commit(name, sha256, placing.clone()).await.unwrap_err();
            assert_eq!(refusal.code, code);
        }
    }
    assert_eq!(daemon.stat("file").await.unwrap(), before);
    assert_eq!(names(daemon.home("")), ["file"]);
}

/// Sends the beginning of a body, and then breaks the connection.
async fn cut(daemon: &Daemon, args: Stage) {
    let call = daemon.call(Operation::Stage(args), b"");
    let signed = call.sign(&daemon.key).unwrap();
    let parts = (0..20).map(|_| Ok(Frame::data(Bytes::from_static(&[7; 10_000]))));
    let broken = stream::iter(parts).chain(stream::once(async { Err(io::Error::other("cut")) }));
    let request = request("stage", &signed).body(StreamBody::new(broken)).unwrap();
    assert!(send(daemon.address, request).await.is_err());
}

#[tokio::test]
async fn a_cut_body_leaves_nothing() {
    let daemon = Daemon::start().await;
    // The session is known then.
    daemon.stat(".").await.unwrap();
    let args = stage("file");
    for _ in 0..20 {
        cut(&daemon, args.clone()).await;
    }
    no_process_is_left(&daemon).await;
    let refusal = daemon.commit(args.stage, Digest256::of(b""), Placing::default()).await.unwrap_err();
    assert_eq!(refusal.code, Code::NoSuchStage);
    assert_eq!(names(daemon.home("")), Vec::<String>::new());
}

#[tokio::test]
async fn sixteen_are_staged_at_a_time() {
    let daemon = Daemon::start().await;
    let mut staged = Vec::new();
    for number in 0..16 {
        let args = stage(&number.to_string());
        staged.push(args.stage);
        daemon.stage(args, number.to_string()).await.unwrap();
    }
    assert_eq!(daemon.stage(stage("more"), "more").await.unwrap_err().code, Code::Busy);
    let again = Stage { stage: staged[0], ..stage("0") };
    assert_eq!(daemon.stage(again, "0").await.unwrap_err().code, Code::Exists);
    for (number, name) in staged.iter().enumerate() {
        let sha256 = Digest256::of(number.to_string().as_bytes());
        daemon.commit(*name, sha256, Placing::default()).await.unwrap();
    }
    assert_eq!(names(daemon.home("")).len(), 16);
    daemon.stage(stage("more"), "more").await.unwrap();
    // What is staged goes with the daemon.
    daemon.kill().await;
    assert_eq!(names(daemon.home("")).len(), 16);
    no_process_is_left(&daemon).await;
}

#[tokio::test]
async fn a_refusal_is_seen_by_who_still_sends() {
    let daemon = Daemon::start().await;
    daemon.stat(".").await.unwrap();
    let call = daemon.call(Operation::Stage(stage("missing/file")), b"");
    let signed = call.sign(&daemon.key).unwrap();
    let parts = (0..500).map(|_| Ok::<_, Infallible>(Frame::data(Bytes::from_static(&[7; 10_000]))));
    let request = request("stage", &signed).body(StreamBody::new(stream::iter(parts))).unwrap();
    let answer = send(daemon.address, request).await.unwrap();
    let refusal: Refusal = json::<Staged>(answer).await.unwrap_err();
    assert_eq!(refusal.code, Code::NoSuchFile);
}

/// Waits until no process of files is left.
async fn no_process_is_left(daemon: &Daemon) {
    let is_file = |process: &u32| {
        let arguments = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
        arguments.split(|it| *it == 0).nth(1) == Some(b"file")
    };
    for _ in 0..3_000 {
        if !descendants(daemon.run()).iter().any(is_file) {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("processes are left");
}
