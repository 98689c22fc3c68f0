//! Archives and links that are made to lead out of a folder.

use std::{
    fs,
    os::unix::fs::symlink,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use pve_edge_guest_protocol::answer::Code;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use tar::{EntryType, Header};

use super::{archives::gzip, names};
use crate::daemon::Daemon;

/// A member as no decent program writes it.
fn member(name: &str, kind: EntryType, link: &str, content: &[u8]) -> Vec<u8> {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(0o755);
    header.set_mtime(1);
    header.set_size(content.len() as u64);
    let gnu = header.as_gnu_mut().unwrap();
    gnu.name[..name.len()].copy_from_slice(name.as_bytes());
    gnu.linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn file(name: &str) -> Vec<u8> {
    member(name, EntryType::Regular, "", b"evil")
}

fn archive(members: &[Vec<u8>]) -> Vec<u8> {
    [&members.concat()[..], &[0; 1024]].concat()
}

#[tokio::test]
async fn an_archive_that_leads_out_is_refused_before_anything_is_written() {
    let daemon = Daemon::start().await;
    let good = file("good");
    let huge = {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::GNULongName);
        header.set_size(1 << 40);
        header.set_cksum();
        header.as_bytes().to_vec()
    };
    let sparse = member("sparse", EntryType::GNUSparse, "", b"");
    let pax = member("pax", EntryType::XHeader, "", b"22 path=../../../evil\n");
    let sized = member("pax", EntryType::XHeader, "", b"22 size=99999999999999\n");
    let broken = {
        let mut broken = file("broken");
        broken[0] ^= 1;
        broken
    };
    for (what, last) in [
        ("up", file("../evil")),
        ("up in the middle", file("a/../../evil")),
        ("link up", member("link", EntryType::Link, "../outside", b"")),
        ("link to nothing", member("link", EntryType::Link, "", b"")),
        ("symlink to nothing", member("link", EntryType::Symlink, "", b"")),
        ("device", member("null", EntryType::Char, "", b"")),
        ("block device", member("disk", EntryType::Block, "", b"")),
        ("FIFO", member("fifo", EntryType::Fifo, "", b"")),
        ("unknown", member("x", EntryType::new(b'Z'), "", b"")),
        ("no name", member("/", EntryType::Symlink, "x", b"")),
        ("nothing", file("./.")),
        ("sparse", sparse),
        ("long name", huge),
        ("pax path", [pax, file("x")].concat()),
        ("pax size", [sized, file("x")].concat()),
        ("checksum", broken),
    ] {
        let archive = archive(&[good.clone(), last]);
        for (archive, is_gzip) in [(gzip(&archive), true), (archive, false)] {
            let refusal = daemon.unpack("folder", archive, is_gzip).await.unwrap_err();
            assert_eq!(refusal.code, Code::BadArchive, "{what}: {refusal:?}");
            assert_eq!(names(daemon.home("folder")), Vec::<String>::new(), "{what}");
        }
    }
    assert_eq!(names(daemon.home("")), ["folder"]);
}

#[tokio::test]
async fn what_is_no_archive_or_cut_is_refused() {
    let daemon = Daemon::start().await;
    let whole = archive(&[file("good")]);
    let mut damaged = gzip(&whole);
    let end = damaged.len() - 6;
    damaged[end] ^= 1;
    for (bytes, is_gzip) in [
        (Vec::new(), false),
        (Vec::new(), true),
        (b"no archive".to_vec(), false),
        (b"no archive".to_vec(), true),
        (vec![b'x'; 2048], false),
        (whole.clone(), true),
        (gzip(&whole), false),
        (whole[..512].to_vec(), false),
        (whole[..1000].to_vec(), false),
        (whole[..1024].to_vec(), false),
        (gzip(&whole)[..60].to_vec(), true),
        (damaged, true),
    ] {
        let length = bytes.len();
        let refusal = daemon.unpack("folder", bytes, is_gzip).await.unwrap_err();
        assert_eq!(refusal.code, Code::BadArchive, "{length} {is_gzip}: {refusal:?}");
        assert_eq!(names(daemon.home("folder")), Vec::<String>::new());
    }
}

#[tokio::test]
async fn no_link_is_followed_out_of_the_folder() {
    let daemon = Daemon::start().await;
    fs::create_dir(daemon.home("outside")).unwrap();
    fs::write(daemon.home("outside/file"), "kept").unwrap();
    let link = |target: &str| member("link", EntryType::Symlink, target, b"");
    for target in ["..", "../outside", daemon.home("outside").to_str().unwrap(), "."] {
        let through = [link(target), file("link/evil")];
        let refusal = daemon.unpack("folder", archive(&through), false).await.unwrap_err();
        assert_eq!(refusal.code, Code::Failed, "{refusal:?}");
        assert!(refusal.detail.contains("link/evil"), "{}", refusal.detail);
        assert_eq!(names(daemon.home("folder")), ["link"]);
    }
    // A file takes the link's place, and is not written through it; nor is a file with another name changed.
    fs::remove_file(daemon.home("folder/link")).unwrap();
    let over = [link("../outside/file"), file("link")];
    daemon.unpack("folder", archive(&over), false).await.unwrap();
    assert_eq!(fs::read_to_string(daemon.home("folder/link")).unwrap(), "evil");
    fs::hard_link(daemon.home("outside/file"), daemon.home("folder/same")).unwrap();
    daemon.unpack("folder", archive(&[file("same")]), false).await.unwrap();
    // Another name of a link is a name of that, not of what it leads to.
    let second = [link("../outside/file"), member("second", EntryType::Link, "link", b""), file("second")];
    daemon.unpack("folder", archive(&second), false).await.unwrap();
    // One that leads to the root or to itself stays within.
    let same = [file("/etc/evil"), member("etc/evil", EntryType::Link, "/etc/evil", b"")];
    daemon.unpack("folder", archive(&same), false).await.unwrap();
    assert_eq!(fs::read_to_string(daemon.home("folder/etc/evil")).unwrap(), "evil");
    assert_eq!(names(daemon.home("outside")), ["file"]);
    assert_eq!(fs::read_to_string(daemon.home("outside/file")).unwrap(), "kept");
    assert_eq!(names(daemon.home("")), ["folder", "outside"]);
}

/// Exchanges a folder for a link that leads out, again and again.
fn exchange(daemon: &Daemon) -> (Arc<AtomicBool>, thread::JoinHandle<()>) {
    fs::create_dir_all(daemon.home("outside")).unwrap();
    fs::write(daemon.home("outside/kept"), "").unwrap();
    fs::create_dir_all(daemon.home("folder/sub")).unwrap();
    symlink(daemon.home("outside"), daemon.home("link")).unwrap();
    let ends = Arc::new(AtomicBool::new(false));
    let (ended, sub, link) = (ends.clone(), daemon.home("folder/sub"), daemon.home("link"));
    let thread = thread::spawn(move || {
        while !ended.load(Ordering::Relaxed) {
            let _ = renameat_with(CWD, &sub, CWD, &link, RenameFlags::EXCHANGE);
        }
    });
    (ends, thread)
}

#[tokio::test]
async fn a_folder_that_becomes_a_link_leads_nothing_out() {
    let daemon = Daemon::start().await;
    let (ends, thread) = exchange(&daemon);
    let members: Vec<_> = (0..200).map(|number| file(&format!("sub/{number}"))).collect();
    let archive = archive(&members);
    for _ in 0..10 {
        let _ = daemon.unpack("folder", archive.clone(), false).await;
        let _ = daemon.pack("folder", false).await;
        let (entries, _) = daemon.list("folder", 9, 1000).await.unwrap();
        assert!(entries.iter().all(|it| !it.path.ends_with("/kept")));
        let _ = daemon.remove("folder", true).await;
        let _ = daemon.mkdir("folder/sub", true).await;
    }
    ends.store(true, Ordering::Relaxed);
    thread.join().unwrap();
    assert_eq!(names(daemon.home("outside")), ["kept"]);
}
