//! Trees that go in and out as tar archives.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::Path,
    process::Command,
    time::{Duration, SystemTime},
};

use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use pve_edge_guest_protocol::{answer::Code, call::Operation, file::Pack};

use super::names;
use crate::daemon::Daemon;

/// What is in a folder: kind and mode, second of the last change, content or target, and the names of a file.
fn tree(folder: &Path) -> BTreeMap<String, (u32, i64, Vec<u8>, u64)> {
    let mut found = BTreeMap::new();
    let mut left = vec![folder.to_owned()];
    while let Some(path) = left.pop() {
        for entry in fs::read_dir(path).unwrap() {
            let path = entry.unwrap().path();
            let about = path.symlink_metadata().unwrap();
            let content = match (about.is_symlink(), about.is_file()) {
                (true, _) => fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes(),
                (_, true) => fs::read(&path).unwrap(),
                _ => Vec::new(),
            };
            let links = if about.is_file() { about.nlink() } else { 0 };
            let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
            found.insert(name, (about.mode(), about.mtime(), content, links));
            if about.is_dir() {
                left.push(path);
            }
        }
    }
    found
}

/// Makes a tree with all that an archive can hold.
fn make_tree(folder: &Path) {
    let long = "l".repeat(120);
    fs::create_dir_all(folder.join("src/empty")).unwrap();
    fs::create_dir_all(folder.join(format!("{long}/{long}"))).unwrap();
    fs::write(folder.join("src/main"), "content").unwrap();
    fs::write(folder.join("nothing"), "").unwrap();
    fs::write(folder.join("block"), vec![7; 512]).unwrap();
    fs::write(folder.join("large"), vec![8; 700_001]).unwrap();
    fs::write(folder.join(format!("{long}/{long}/ä\n")), "long").unwrap();
    fs::hard_link(folder.join("src/main"), folder.join("src/same")).unwrap();
    symlink("src/main", folder.join("link")).unwrap();
    symlink("/usr/bin/env", folder.join("absolute")).unwrap();
    symlink("../../..", folder.join("src/up")).unwrap();
    symlink(format!("{long}/{long}"), folder.join("long")).unwrap();
    let mode =
        |name: &str, mode| fs::set_permissions(folder.join(name), fs::Permissions::from_mode(mode)).unwrap();
    mode("src/main", 0o4755);
    mode("nothing", 0o400);
    mode("src/empty", 0o1777);
    mode("src", 0o550);
    for (number, name) in ["src/main", "large", "src/empty", "src"].iter().enumerate() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000 + number as u64);
        fs::File::open(folder.join(name)).unwrap().set_modified(time).unwrap();
    }
}

#[tokio::test]
async fn a_tree_comes_back_as_it_was() {
    let daemon = Daemon::start().await;
    let made = daemon.home("made");
    make_tree(&made);
    for gzip in [false, true] {
        let archive = daemon.pack("made", gzip).await.unwrap();
        let target = if gzip { "new/zipped" } else { "new/plain" };
        let unpacked = daemon.unpack(target, archive.clone(), gzip).await.unwrap();
        let (made, back) = (tree(&made), tree(&daemon.home(target)));
        assert_eq!(made, back);
        assert_eq!(unpacked.entries, made.len() as u64);
        // Again, over what is there.
        daemon.unpack(target, archive, gzip).await.unwrap();
        assert_eq!(tree(&daemon.home(target)), made);
    }
}

#[tokio::test]
async fn archives_are_those_of_the_tar_program() {
    if Command::new("tar").arg("--version").output().is_err() {
        println!("skipped: there is no tar");
        return;
    }
    let daemon = Daemon::start().await;
    let made = daemon.home("made");
    make_tree(&made);
    let packed = daemon.home("packed.tar");
    fs::write(&packed, daemon.pack("made", false).await.unwrap()).unwrap();
    fs::create_dir(daemon.home("theirs")).unwrap();
    let extract = |arguments: &[&str]| {
        let done = Command::new("tar").args(arguments).current_dir(daemon.home("")).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        done.stdout
    };
    extract(&["-xpf", "packed.tar", "-C", "theirs"]);
    assert_eq!(tree(&daemon.home("theirs")), tree(&made));
    for (number, format) in ["gnu", "pax", "posix", "ustar"].iter().enumerate() {
        // The oldest format takes no name as long as these.
        let exclude = if *format == "ustar" { "--exclude=l*" } else { "--exclude=nothing-at-all" };
        let archive = extract(&["-cf", "-", "--format", format, exclude, "-C", "made", "."]);
        let target = format!("ours{number}");
        daemon.unpack(&target, archive, false).await.unwrap();
        let mut made = tree(&made);
        if *format == "ustar" {
            made.retain(|name, _| !name.starts_with('l'));
        }
        assert_eq!(tree(&daemon.home(&target)), made, "{format}");
    }
}

#[tokio::test]
async fn a_file_is_packed_too_and_what_is_no_file_is_left_out() {
    let daemon = Daemon::start().await;
    fs::create_dir(daemon.home("made")).unwrap();
    fs::write(daemon.home("made/file"), "content").unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(daemon.home("made/socket")).unwrap();
    let fifo = daemon.home("made/fifo");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RUSR).unwrap();
    for path in ["made", "made/file"] {
        let archive = daemon.pack(path, true).await.unwrap();
        let mut archive = tar::Archive::new(GzDecoder::new(&archive[..]));
        let names: Vec<_> =
            archive.entries().unwrap().map(|it| it.unwrap().path().unwrap().into_owned()).collect();
        assert_eq!(names, [Path::new("file")]);
    }
    assert_eq!(daemon.pack("made/fifo", false).await.unwrap_err().code, Code::NotAFile);
    assert_eq!(daemon.pack("missing", false).await.unwrap_err().code, Code::NoSuchFile);
}

#[tokio::test]
async fn an_archive_is_cut_when_a_file_shrinks() {
    use http_body_util::BodyExt;
    let daemon = Daemon::start().await;
    fs::create_dir(daemon.home("made")).unwrap();
    let file = fs::File::create(daemon.home("made/file")).unwrap();
    file.set_len(64 << 20).unwrap();
    let pack = Pack { path: "made".into(), user: None, gzip: false };
    let mut answer = daemon.open(Operation::Pack(pack), "").await.unwrap();
    assert!(answer.frame().await.unwrap().unwrap().is_data());
    file.set_len(1).unwrap();
    assert!(answer.into_body().collect().await.is_err());
}

#[tokio::test]
async fn what_is_unpacked_takes_the_place_of_what_was_there() {
    let daemon = Daemon::start().await;
    fs::create_dir_all(daemon.home("kept/folder")).unwrap();
    fs::write(daemon.home("kept/more"), "more").unwrap();
    fs::write(daemon.home("outside"), "outside").unwrap();
    symlink("../outside", daemon.home("kept/file")).unwrap();
    symlink("..", daemon.home("kept/new")).unwrap();
    let mut archive = tar::Builder::new(Vec::new());
    let mut add = |name: &str, kind, content: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        archive.append_data(&mut header, name, content).unwrap();
    };
    add("./file", tar::EntryType::Regular, b"new");
    add("./new/", tar::EntryType::Directory, b"");
    add("./folder", tar::EntryType::Directory, b"");
    add("./deep/er/file", tar::EntryType::Regular, b"deep");
    daemon.unpack("kept", archive.into_inner().unwrap(), false).await.unwrap();
    assert_eq!(fs::read_to_string(daemon.home("outside")).unwrap(), "outside");
    assert_eq!(names(daemon.home("kept")), ["deep", "file", "folder", "more", "new"]);
    assert!(daemon.home("kept/new").symlink_metadata().unwrap().is_dir());
    assert_eq!(daemon.content("kept/file").await.unwrap(), "new");
    assert_eq!(daemon.content("kept/deep/er/file").await.unwrap(), "deep");
}

/// Compresses.
pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut into = GzEncoder::new(Vec::new(), Compression::fast());
    into.write_all(bytes).unwrap();
    into.finish().unwrap()
}
