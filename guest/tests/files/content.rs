//! Reading and writing.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use pve_edge_guest_protocol::{
    answer::Code,
    call::Operation,
    file::{Kind, Placing, Range, Read, Write},
};

use super::write;
use crate::daemon::Daemon;

#[tokio::test]
async fn what_is_written_is_read() {
    let daemon = Daemon::start().await;
    let written = daemon.write("a file", "content").await.unwrap();
    assert_eq!(written.path, daemon.home("a file").to_str().unwrap());
    assert_eq!((written.kind, written.size, written.mode), (Kind::File, 7, 0o644));
    assert_eq!(daemon.stat("a file").await.unwrap(), written);
    let (bytes, length, entry) = daemon.range("a file", None).await.unwrap();
    assert_eq!((bytes.as_slice(), length, entry), (&b"content"[..], 7, written));
    let absolute = daemon.home("empty");
    let empty = daemon.write(absolute.to_str().unwrap(), "").await.unwrap();
    assert_eq!((empty.size, daemon.content("empty").await.unwrap().as_str()), (0, ""));
    assert_eq!(super::names(daemon.home("")), ["a file", "empty"]);
}

#[tokio::test]
async fn a_mebibyte_of_all_bytes_comes_back_in_any_range() {
    let daemon = Daemon::start().await;
    let content: Vec<u8> = (0..1_u32 << 20).map(|it| (it / 3 % 256) as u8).collect();
    daemon.write("large", content.clone()).await.unwrap();
    let size = content.len() as u64;
    for (range, from, to) in [
        (None, 0, size),
        (Some(Range::From { first: 0, last: Some(0) }), 0, 1),
        (Some(Range::From { first: 131_071, last: Some(131_072) }), 131_071, 131_073),
        (Some(Range::From { first: 500_000, last: None }), 500_000, size),
        (Some(Range::From { first: 500_000, last: Some(u64::MAX) }), 500_000, size),
        (Some(Range::Last { bytes: 10 }), size - 10, size),
        (Some(Range::Last { bytes: 2 * size }), 0, size),
    ] {
        let (bytes, length, entry) = daemon.range("large", range).await.unwrap();
        assert_eq!((length, entry.size), (to - from, size), "{range:?}");
        assert!(bytes == content[from as usize..to as usize], "{range:?}");
    }
    for range in [Range::From { first: size, last: None }, Range::Last { bytes: 0 }] {
        let refusal = daemon.range("large", Some(range)).await.unwrap_err();
        assert_eq!((refusal.code, refusal.size), (Code::RangeNotSatisfiable, Some(size)));
    }
}

#[tokio::test]
async fn an_update_of_what_has_changed_is_refused() {
    let daemon = Daemon::start().await;
    let placing = |if_match: &str| Placing { if_match: Some(if_match.into()), ..Placing::default() };
    let first = daemon.write("a", "1").await.unwrap();
    let args = |etag: &str| Write { placing: placing(etag), ..write("a") };
    let second = daemon.write_with(args(&first.etag), "2").await.unwrap();
    assert_ne!(first.etag, second.etag);
    let refusal = daemon.write_with(args(&first.etag), "3").await.unwrap_err();
    assert_eq!(refusal.code, Code::Changed);
    // The same length in place is another content too.
    fs::write(daemon.home("a"), "4").unwrap();
    assert_eq!(daemon.write_with(args(&second.etag), "5").await.unwrap_err().code, Code::Changed);
    assert_eq!(daemon.content("a").await.unwrap(), "4");
    daemon.write_with(args("*"), "6").await.unwrap();
    let missing = Write { placing: placing("*"), ..write("b") };
    assert_eq!(daemon.write_with(missing, "7").await.unwrap_err().code, Code::Changed);
    let read = Read { path: "a".into(), user: None, range: None, if_match: Some(second.etag) };
    let read = Operation::Read(read);
    assert_eq!(daemon.read(read, "").await.unwrap_err().code, Code::Changed);
    assert_eq!(super::names(daemon.home("")), ["a"]);
}

#[tokio::test]
async fn of_many_updates_of_the_same_file_one_wins() {
    let daemon = Daemon::start().await;
    let first = daemon.write("a", "").await.unwrap();
    let placing = Placing { if_match: Some(first.etag), ..Placing::default() };
    let args = Write { placing, ..write("a") };
    let updates = (0..16).map(|number| daemon.write_with(args.clone(), number.to_string()));
    let done = futures_util::future::join_all(updates).await;
    let won: Vec<_> = (0..16).filter(|it| done[*it].is_ok()).collect();
    assert_eq!(won.len(), 1, "{done:?}");
    assert_eq!(daemon.content("a").await.unwrap(), won[0].to_string());
    let placing = Placing { if_none: true, ..Placing::default() };
    let args = Write { placing, ..write("new") };
    let made = (0..16).map(|number| daemon.write_with(args.clone(), number.to_string()));
    let made = futures_util::future::join_all(made).await;
    assert_eq!(made.iter().filter(|it| it.is_ok()).count(), 1);
    assert!(made.iter().flat_map(|it| it.as_ref().err()).all(|it| it.code == Code::Exists), "{made:?}");
}

#[tokio::test]
async fn a_reader_sees_the_old_content_or_the_new_one() {
    let daemon = Daemon::start().await;
    let content = |letter: &str| letter.repeat(100_000);
    daemon.write("a", content("x")).await.unwrap();
    let (path, ends) = (daemon.home("a"), Arc::new(AtomicBool::new(false)));
    let reader = thread::spawn({
        let ends = ends.clone();
        move || {
            let mut seen = BTreeSet::new();
            while !ends.load(Ordering::Relaxed) {
                let content = fs::read(&path).unwrap();
                assert_eq!(content.len(), 100_000);
                assert!(content.iter().all(|it| *it == content[0]));
                seen.insert(content[0]);
            }
            seen.len()
        }
    });
    for letter in ["a", "b", "c", "d"].repeat(5) {
        daemon.write("a", content(letter)).await.unwrap();
    }
    ends.store(true, Ordering::Relaxed);
    assert!(reader.join().unwrap() > 1);
}

#[tokio::test]
async fn a_file_that_is_replaced_gives_its_mode_on() {
    let daemon = Daemon::start().await;
    let mode = |mode| Placing { mode: Some(mode), ..Placing::default() };
    let script = Write { placing: mode(0o4750), ..write("script") };
    assert_eq!(daemon.write_with(script, "1").await.unwrap().mode, 0o4750);
    assert_eq!(daemon.write("script", "2").await.unwrap().mode, 0o4750);
    fs::set_permissions(daemon.home("script"), fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(daemon.write("script", "3").await.unwrap().mode, 0o600);
}

#[tokio::test]
async fn a_link_is_followed_to_read_and_replaced_to_write() {
    let daemon = Daemon::start().await;
    fs::create_dir(daemon.home("folder")).unwrap();
    fs::write(daemon.home("target"), "target").unwrap();
    symlink("target", daemon.home("link")).unwrap();
    symlink("folder", daemon.home("parent")).unwrap();
    let link = daemon.stat("link").await.unwrap();
    assert_eq!((link.kind, link.target.as_deref()), (Kind::Symlink, Some("target")));
    assert_eq!(daemon.content("link").await.unwrap(), "target");
    let written = daemon.write("link", "new").await.unwrap();
    assert_eq!((written.kind, written.mode), (Kind::File, 0o644));
    assert_eq!(fs::read_to_string(daemon.home("target")).unwrap(), "target");
    daemon.write("parent/a", "behind a link").await.unwrap();
    assert_eq!(fs::read_to_string(daemon.home("folder/a")).unwrap(), "behind a link");
    symlink("link", daemon.home("loop")).unwrap();
    fs::remove_file(daemon.home("link")).unwrap();
    symlink("loop", daemon.home("link")).unwrap();
    assert_eq!(daemon.content("loop").await.unwrap_err().code, Code::BadPath);
}

#[tokio::test]
async fn files_of_the_kernel_are_read_to_their_end() {
    let daemon = Daemon::start().await;
    let version = daemon.content("/proc/version").await.unwrap();
    assert_eq!(version, fs::read_to_string("/proc/version").unwrap());
    let (bytes, length, entry) = daemon.range("/proc/cpuinfo", None).await.unwrap();
    assert!(length > 0 && length == bytes.len() as u64 && entry.size == length);
    let part = Range::From { first: 1, last: Some(4) };
    assert_eq!(daemon.range("/proc/version", Some(part)).await.unwrap().0, &version.as_bytes()[1..5]);
    // This one says that it has a page.
    let state = daemon.content("/sys/kernel/mm/transparent_hugepage/enabled").await;
    if let Ok(state) = state {
        assert_eq!(state, fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled").unwrap());
    }
}

#[tokio::test]
async fn what_is_no_regular_file_is_refused_at_once() {
    let daemon = Daemon::start().await;
    let fifo = daemon.home("fifo");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RUSR).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(daemon.home("socket")).unwrap();
    for path in ["fifo", "socket", "/dev/null", "/dev/zero", "/dev/tty", "."] {
        assert_eq!(daemon.content(path).await.unwrap_err().code, Code::NotAFile, "{path}");
    }
    assert_eq!(daemon.stat("fifo").await.unwrap().kind, Kind::Other);
    // A file takes its place, as it does that of a link.
    daemon.write("fifo", "a").await.unwrap();
    assert_eq!(daemon.content("fifo").await.unwrap(), "a");
    assert_eq!(daemon.write(".", "a").await.unwrap_err().code, Code::BadPath);
    fs::create_dir(daemon.home("folder")).unwrap();
    assert_eq!(daemon.write("folder", "a").await.unwrap_err().code, Code::NotAFile);
    let stage = super::stage("folder");
    assert_eq!(daemon.stage(stage, "a").await.unwrap_err().code, Code::NotAFile);
}

#[tokio::test]
async fn paths_are_taken_as_they_are_or_refused_with_their_name() {
    let daemon = Daemon::start().await;
    let long = format!("{}/x", vec!["d".repeat(200); 18].join("/"));
    for path in ["a\nb", "ä\t\u{1}\"\\", " ", "-", &long, "a/../a\nb"] {
        let args = Write { mkdirs: true, ..write(path) };
        daemon.write_with(args, path.to_owned()).await.unwrap();
        assert_eq!(daemon.content(path).await.unwrap(), path);
    }
    assert!(daemon.list(".", 100, 1000).await.unwrap().0.iter().any(|it| it.path.ends_with(&long)));
    daemon.remove(long.split('/').next().unwrap(), true).await.unwrap();
    let component = "n".repeat(256);
    let longest = "x/".repeat(2048);
    let (more, nul) = (format!("{longest}x"), "a\0b".to_owned());
    for path in ["", &component, &longest, &more, &nul] {
        assert_eq!(daemon.content(path).await.unwrap_err().code, Code::BadPath, "{path:.20?}");
    }
    let refusal = daemon.content("missing\nfile").await.unwrap_err();
    assert_eq!(refusal.code, Code::NoSuchFile);
    assert!(refusal.detail.contains("missing\\nfile"), "{}", refusal.detail);
    assert_eq!(daemon.content("a\nb/c").await.unwrap_err().code, Code::NotADirectory);
    assert_eq!(daemon.write("missing/a", "").await.unwrap_err().code, Code::NoSuchFile);
}

#[tokio::test]
async fn an_answer_is_cut_when_the_file_shrinks() {
    use http_body_util::BodyExt;
    let daemon = Daemon::start().await;
    let file = fs::File::create(daemon.home("a")).unwrap();
    file.set_len(64 << 20).unwrap();
    let read = Read { path: "a".into(), user: None, range: None, if_match: None };
    let mut answer = daemon.open(Operation::Read(read), "").await.unwrap();
    let first = answer.frame().await.unwrap().unwrap();
    assert!(first.is_data());
    file.set_len(0).unwrap();
    assert!(answer.into_body().collect().await.is_err());
}

#[tokio::test]
async fn the_daemons_own_folder_is_where_its_keys_are() {
    let daemon = Daemon::start().await;
    daemon.write("/etc/pve-edge/env", "A=1\n").await.unwrap();
    assert_eq!(fs::read_to_string(daemon.path("env")).unwrap(), "A=1\n");
    let keys = fs::read_to_string(daemon.path("keys")).unwrap();
    assert_eq!(daemon.content("/etc/pve-edge/keys").await.unwrap(), keys);
    assert!(daemon.stat("/etc/pve-edge-other/keys").await.is_err());
}
