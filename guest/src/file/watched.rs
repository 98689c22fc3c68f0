//! Folders that are watched: the one that is asked for, and those below it.

use std::{
    collections::HashMap,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use pve_edge_guest_protocol::file::Kind;
use rustix::{
    fs::{
        AtFlags, CWD,
        inotify::{WatchFlags, add_watch, remove_watch},
        statat,
    },
    io::Errno,
};

use super::{
    entry,
    walk::{self, Walk},
};

/// Folders that are watched by one call.
const MOST: usize = 32 << 10;

/// Folders that are watched, by the numbers that inotify gives them.
pub(super) struct Folders {
    inotify: OwnedFd,
    root: PathBuf,
    is_recursive: bool,
    paths: HashMap<i32, PathBuf>,
}

impl Folders {
    /// Watches a folder; a link to one is followed.
    pub(super) fn new(inotify: OwnedFd, root: PathBuf, is_recursive: bool) -> Result<Self, Errno> {
        let mut folders = Self { inotify, root, is_recursive, paths: HashMap::new() };
        folders.add(Path::new(""))?;
        folders.enter_below(Path::new(""), |_, _| ())?;
        Ok(folders)
    }

    /// What the events are read from.
    pub(super) fn inotify(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }

    /// Path of a folder below the one that is asked for.
    pub(super) fn path(&self, number: i32) -> Option<PathBuf> {
        self.paths.get(&number).cloned()
    }

    /// Whether something is at a path: inotify tells of files too that have no name, and calls them `#` and a number.
    pub(super) fn has(&self, path: &Path) -> bool {
        statat(CWD, self.root.join(path), AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// Watches a folder that is new, and those in it; each thing in it is told.
    pub(super) fn enter(&mut self, path: &Path, tell: impl FnMut(&Path, bool)) -> Result<(), Errno> {
        if !self.is_recursive {
            return Ok(());
        }
        match self.add(path) {
            Ok(()) => self.enter_below(path, tell),
            // It is gone, has become something else, or may not be read.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::ACCESS) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    /// Watches those folders too that were made when events were lost.
    pub(super) fn look_again(&mut self) {
        let _ = self.enter_below(Path::new(""), |_, _| ());
    }

    /// Watches a folder and those below it no more.
    pub(super) fn leave(&mut self, path: &Path) {
        let inotify = &self.inotify;
        self.paths.retain(|number, it| {
            let stays = !it.starts_with(path);
            if !stays {
                let _ = remove_watch(inotify, *number);
            }
            stays
        });
    }

    /// Forgets a folder that inotify has let go.
    pub(super) fn forget(&mut self, number: i32) {
        self.paths.remove(&number);
    }

    fn add(&mut self, path: &Path) -> Result<(), Errno> {
        if self.paths.len() >= MOST {
            return Err(Errno::NOSPC);
        }
        let changes = WatchFlags::CREATE
            | WatchFlags::MODIFY
            | WatchFlags::ATTRIB
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF;
        let mut flags = changes | WatchFlags::ONLYDIR | WatchFlags::EXCL_UNLINK;
        flags.set(WatchFlags::DONT_FOLLOW, !path.as_os_str().is_empty());
        let number = add_watch(&self.inotify, self.root.join(path), flags)?;
        self.paths.insert(number, path.to_owned());
        Ok(())
    }

    /// Watches folders in a folder. Each is watched before it is read, so that nothing in it is missed.
    fn enter_below(&mut self, path: &Path, mut tell: impl FnMut(&Path, bool)) -> Result<(), Errno> {
        if !self.is_recursive {
            return Ok(());
        }
        let Ok(folder) = walk::open(&self.root.join(path)) else { return Ok(()) };
        let mut walk = Walk::new(folder, usize::MAX)?;
        while let Some(found) = walk.next() {
            let Ok(found) = found else { continue };
            let below = path.join(&found.path);
            let is_folder = entry::kind(&found.stat) == Kind::Directory;
            tell(&below, is_folder);
            if is_folder {
                match self.add(&below) {
                    Ok(()) => {}
                    Err(errno @ (Errno::NOSPC | Errno::NOMEM)) => return Err(errno),
                    Err(_) => walk.pass(),
                }
            }
        }
        Ok(())
    }
}
