//! What is told of a file.

use std::path::{Path, PathBuf};

use pve_edge_guest_protocol::file::{Entry, Kind};
use rustix::fs::{FileType, Stat};

use super::part::Actor;

impl Actor {
    /// What is told of something at a path.
    pub(super) fn entry(&self, path: &Path, stat: &Stat, target: Option<String>) -> Entry {
        Entry {
            // Without `.`, which its components leave out.
            path: path.components().collect::<PathBuf>().to_string_lossy().into_owned(),
            kind: kind(stat),
            size: size(stat),
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            owner: self.names.user(stat.st_uid).map(str::to_owned),
            group: self.names.group(stat.st_gid).map(str::to_owned),
            modified_ns: nanoseconds(stat.st_mtime, i64::from(stat.st_mtime_nsec as u32)),
            etag: etag(stat),
            target,
        }
    }
}

/// Bytes of it.
pub(super) fn size(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or_default()
}

/// Kind of it.
pub(super) fn kind(stat: &Stat) -> Kind {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Symlink,
        _ => Kind::Other,
    }
}

/// Text that is another one when the content is. The kernel sets the time in it with each change, and nobody else can.
pub(super) fn etag(stat: &Stat) -> String {
    let changed = nanoseconds(stat.st_ctime, i64::from(stat.st_ctime_nsec as u32));
    format!("{:x}-{:x}-{changed:x}", stat.st_ino, size(stat))
}

/// Whether something is what a condition names.
pub(super) fn matches(wanted: &str, stat: &Stat) -> bool {
    wanted == "*" || wanted == etag(stat)
}

fn nanoseconds(seconds: i64, nanoseconds: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds)
}
