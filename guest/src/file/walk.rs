//! What is in a folder and in the folders below it.

use std::{
    ffi::OsString,
    os::{
        fd::{BorrowedFd, OwnedFd},
        unix::ffi::OsStringExt,
    },
    path::{Path, PathBuf},
};

use pve_edge_guest_protocol::file::Kind;
use rustix::{
    fs::{AtFlags, CWD, Dir, Mode, OFlags, Stat, openat, statat},
    io::{self, Errno},
};

use super::entry;

/// Opens a folder; a link to one is followed.
pub(super) fn open(path: &Path) -> io::Result<OwnedFd> {
    openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Opens a folder in another one; a link is not followed.
pub(super) fn open_in(folder: BorrowedFd<'_>, name: impl rustix::path::Arg) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(folder, name, flags, Mode::empty())
}

/// A name in a folder, without `.` and `..`.
pub(super) fn next_name(folder: &mut Dir) -> Option<io::Result<OsString>> {
    loop {
        let name = match folder.read()? {
            Ok(entry) => entry.file_name().to_bytes().to_vec(),
            Err(errno) => return Some(Err(errno)),
        };
        if name != b"." && name != b".." {
            return Some(Ok(OsString::from_vec(name)));
        }
    }
}

/// Way through a folder: each folder is told before what is in it, links are not followed, and nothing but one open
/// folder a level is kept, however many names there are.
pub(super) struct Walk {
    levels: Vec<Level>,
    most_levels: usize,
    /// Folder that was told last, to be entered next.
    enter: Option<OsString>,
}

struct Level {
    folder: Dir,
    path: PathBuf,
}

/// Something that was found.
pub(super) struct Found {
    /// Path below the folder in which the way began.
    pub(super) path: PathBuf,
    /// Name.
    pub(super) name: OsString,
    /// What it is.
    pub(super) stat: Stat,
}

impl Walk {
    /// Begins in a folder.
    pub(super) fn new(folder: OwnedFd, most_levels: usize) -> io::Result<Self> {
        let level = Level { folder: Dir::new(folder)?, path: PathBuf::new() };
        Ok(Self { levels: vec![level], most_levels, enter: None })
    }

    /// Folder of what was found last.
    pub(super) fn folder(&self) -> io::Result<BorrowedFd<'_>> {
        self.levels.last().ok_or(Errno::NOENT)?.folder.fd()
    }

    /// Does not enter the folder that was found last.
    pub(super) fn pass(&mut self) {
        self.enter = None;
    }

    /// Finds the next. An error is of the path beside it, and the way goes on behind that.
    pub(super) fn next(&mut self) -> Option<Result<Found, (PathBuf, Errno)>> {
        if let Some(name) = self.enter.take()
            && let Err(failed) = self.enter(&name)
        {
            return Some(Err(failed));
        }
        loop {
            let level = self.levels.last_mut()?;
            let name = match next_name(&mut level.folder) {
                None => {
                    self.levels.pop();
                    continue;
                }
                Some(Ok(name)) => name,
                Some(Err(errno)) => {
                    let path = self.levels.pop().map(|it| it.path).unwrap_or_default();
                    return Some(Err((path, errno)));
                }
            };
            let path = level.path.join(&name);
            let stat = level.folder.fd().and_then(|it| statat(it, &name, AtFlags::SYMLINK_NOFOLLOW));
            match stat {
                Ok(stat) => {
                    let enters =
                        entry::kind(&stat) == Kind::Directory && self.levels.len() < self.most_levels;
                    self.enter = enters.then(|| name.clone());
                    return Some(Ok(Found { path, name, stat }));
                }
                Err(Errno::NOENT) => {}
                Err(errno) => return Some(Err((path, errno))),
            }
        }
    }

    fn enter(&mut self, name: &OsString) -> Result<(), (PathBuf, Errno)> {
        let Some(level) = self.levels.last() else { return Ok(()) };
        let path = level.path.join(name);
        let opened = level.folder.fd().and_then(|it| open_in(it, name)).and_then(Dir::new);
        match opened {
            Ok(folder) => {
                self.levels.push(Level { folder, path });
                Ok(())
            }
            // It has become something else, or is gone.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(()),
            Err(errno) => Err((path, errno)),
        }
    }
}
