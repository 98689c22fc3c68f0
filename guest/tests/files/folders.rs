//! Folders: listing, making, moving and removing.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
};

use pve_edge_guest_protocol::{
    answer::{Code, Metrics},
    call::Operation,
    file::{Kind, Mkdir, Remove},
};

use super::names;
use crate::daemon::Daemon;

#[tokio::test]
async fn a_folder_of_a_thousand_files_is_listed_up_to_the_most() {
    let daemon = Daemon::start().await;
    for number in 0..1_000 {
        fs::write(daemon.home(&number.to_string()), "").unwrap();
    }
    let (entries, more) = daemon.list(".", 1, 1_000).await.unwrap();
    assert_eq!((entries.len(), more), (1_000, false));
    let (entries, more) = daemon.list(".", 1, 999).await.unwrap();
    assert_eq!((entries.len(), more), (999, true));
}

#[tokio::test]
async fn parents_come_before_what_is_in_them_as_deep_as_wanted() {
    let daemon = Daemon::start().await;
    fs::create_dir_all(daemon.home("a/b/c")).unwrap();
    fs::write(daemon.home("a/b/c/file"), "123").unwrap();
    symlink("..", daemon.home("a/up")).unwrap();
    let home = daemon.home("").to_str().unwrap().to_owned();
    for (depth, count) in [(0, 1), (1, 1), (2, 3), (3, 4), (9, 5)] {
        let (entries, more) = daemon.list(".", depth, 100).await.unwrap();
        assert_eq!((entries.len(), more), (count, false), "{depth}");
        let mut known = vec![home.trim_end_matches('/').to_owned()];
        for entry in entries {
            let (parent, name) = entry.path.rsplit_once('/').unwrap();
            assert!(known.iter().any(|it| it == parent), "{parent} of {known:?}");
            if name == "up" {
                assert_eq!((entry.kind, entry.target.as_deref()), (Kind::Symlink, Some("..")));
            }
            known.push(entry.path);
        }
    }
    assert_eq!(daemon.list("a/b/c/file", 1, 9).await.unwrap_err().code, Code::NotADirectory);
    assert_eq!(daemon.list("missing", 1, 9).await.unwrap_err().code, Code::NoSuchFile);
    // A link to a folder is followed, if it is what is asked for.
    assert_eq!(daemon.list("a/up", 1, 9).await.unwrap().0.len(), 1);
}

#[tokio::test]
async fn folders_are_made_with_their_parents_and_left_if_they_are_there() {
    let daemon = Daemon::start().await;
    assert_eq!(daemon.mkdir("a/b", false).await.unwrap_err().code, Code::NoSuchFile);
    let made = daemon.mkdir("a/b/", true).await.unwrap();
    assert_eq!((made.kind, made.mode), (Kind::Directory, 0o755));
    assert_eq!(daemon.mkdir("a", false).await.unwrap().mode, 0o755);
    let with_mode = Mkdir { path: "shared".into(), user: None, mode: Some(0o2770), parents: false };
    let made: pve_edge_guest_protocol::file::Entry =
        daemon.ask(Operation::Mkdir(with_mode), "").await.unwrap();
    assert_eq!(made.mode, 0o2770);
    fs::write(daemon.home("file"), "").unwrap();
    assert_eq!(daemon.mkdir("file", true).await.unwrap_err().code, Code::Exists);
    assert_eq!(daemon.mkdir("file/a", true).await.unwrap_err().code, Code::NotADirectory);
    for path in ["/", ".", "a/b/..", "a/new/../../c"] {
        assert_eq!(daemon.mkdir(path, true).await.unwrap().kind, Kind::Directory, "{path}");
    }
    assert_eq!(names(daemon.home("a")), ["b", "new"]);
}

#[tokio::test]
async fn something_is_moved_over_nothing_or_over_what_is_there() {
    let daemon = Daemon::start().await;
    daemon.write("a", "1").await.unwrap();
    daemon.write("b", "2").await.unwrap();
    assert_eq!(daemon.rename("a", "b", false).await.unwrap_err().code, Code::Exists);
    assert_eq!(daemon.content("b").await.unwrap(), "2");
    let moved = daemon.rename("a", "b", true).await.unwrap();
    assert!(moved.path.ends_with("/b"));
    assert_eq!(daemon.content("b").await.unwrap(), "1");
    assert_eq!(daemon.rename("a", "c", false).await.unwrap_err().code, Code::NoSuchFile);
    fs::create_dir_all(daemon.home("folder/below")).unwrap();
    assert_eq!(daemon.rename("folder", "folder/below/it", false).await.unwrap_err().code, Code::BadPath);
    assert_eq!(daemon.rename("b", "folder", true).await.unwrap_err().code, Code::NotAFile);
    daemon.rename("folder/", "other/", false).await.unwrap();
    symlink("nowhere", daemon.home("link")).unwrap();
    daemon.rename("link", "other/link", false).await.unwrap();
    assert_eq!(names(daemon.home("other")), ["below", "link"]);
    assert_eq!(daemon.rename("other", "missing/other", false).await.unwrap_err().code, Code::NoSuchFile);
}

#[tokio::test]
async fn a_folder_is_removed_with_what_is_in_it_and_no_link_is_followed() {
    let daemon = Daemon::start().await;
    fs::create_dir_all(daemon.home("kept")).unwrap();
    fs::write(daemon.home("kept/file"), "").unwrap();
    for number in 0..300 {
        fs::create_dir_all(daemon.home(&format!("tree/{}/below", number % 30))).unwrap();
        fs::write(daemon.home(&format!("tree/{}/{number}", number % 30)), "").unwrap();
    }
    symlink("../kept", daemon.home("tree/link")).unwrap();
    symlink(daemon.home("kept"), daemon.home("tree/1/link")).unwrap();
    fs::set_permissions(daemon.home("tree/2"), fs::Permissions::from_mode(0o500)).unwrap();
    assert_eq!(daemon.remove("tree", false).await.unwrap_err().code, Code::Exists);
    daemon.remove("tree/", true).await.unwrap();
    assert_eq!(daemon.remove("tree", true).await.unwrap_err().code, Code::NoSuchFile);
    symlink("kept", daemon.home("link")).unwrap();
    daemon.remove("link", true).await.unwrap();
    assert_eq!(names(daemon.home("")), ["kept"]);
    assert_eq!(names(daemon.home("kept")), ["file"]);
    for path in ["/", ".", "kept/..", "kept/."] {
        assert_eq!(daemon.remove(path, true).await.unwrap_err().code, Code::BadPath, "{path}");
    }
}

#[tokio::test]
async fn figures_of_the_guest_are_told() {
    let daemon = Daemon::start().await;
    let metrics = daemon.ask::<Metrics>(Operation::Metrics {}, "").await.unwrap();
    assert!(metrics.cpus > 0.0 && metrics.memory_used > 0 && metrics.disk_used <= metrics.disk_total);
    assert!(metrics.memory_used <= metrics.memory_total && metrics.processes > 2);
    let later = daemon.ask::<Metrics>(Operation::Metrics {}, "").await.unwrap();
    assert!(later.cpu_used_us >= metrics.cpu_used_us && later.uptime_ms >= metrics.uptime_ms);
}

#[tokio::test]
async fn what_has_changed_is_not_removed() {
    let daemon = Daemon::start().await;
    let first = daemon.write("a", "1").await.unwrap();
    let second = daemon.write("a", "2").await.unwrap();
    let args = |etag: String| Remove { path: "a".into(), user: None, recursive: false, if_match: Some(etag) };
    assert_eq!(daemon.remove_with(args(first.etag)).await.unwrap_err().code, Code::Changed);
    daemon.remove_with(args(second.etag.clone())).await.unwrap();
    assert_eq!(daemon.remove_with(args(second.etag)).await.unwrap_err().code, Code::Changed);
}

#[tokio::test]
async fn a_thousand_nested_folders_are_removed() {
    let daemon = Daemon::start().await;
    let path = format!("top/{}", "d/".repeat(1_000));
    daemon.mkdir(&path, true).await.unwrap();
    assert_eq!(daemon.list("top", u32::MAX, 5_000).await.unwrap().0.len(), 1_000);
    daemon.remove("top", true).await.unwrap();
    assert_eq!(names(daemon.home("")), Vec::<String>::new());
}
