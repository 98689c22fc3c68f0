//! `remove`: a file, or a folder with what is in it.

use std::{ffi::OsString, os::fd::BorrowedFd, path::PathBuf};

use pve_edge_guest_protocol::{
    answer::{Code, Done, Refusal},
    file::{Kind, Remove},
};
use rustix::{
    fs::{AtFlags, Dir, unlinkat},
    io::{self, Errno},
};

use super::{
    entry,
    part::Actor,
    path::Leaf,
    place, refuse,
    walk::{next_name, open_in},
};

/// Removes what is at a path.
pub(super) fn remove(args: &Remove, actor: &Actor) -> Result<Done, Refusal> {
    let leaf = Leaf::open(&actor.path(&args.path)?)?;
    let failed = refuse::at(&leaf.path);
    let _turn = args.if_match.as_ref().map(|_| place::turn(&leaf, true)).transpose()?;
    let there = leaf.stat()?;
    if let Some(wanted) = &args.if_match {
        leaf.must_match(wanted, there.as_ref())?;
    }
    let there = there.ok_or_else(|| failed(Errno::NOENT))?;
    if entry::kind(&there) != Kind::Directory {
        return unlinkat(&leaf.folder, &leaf.name, AtFlags::empty()).map(|()| Done {}).map_err(failed);
    }
    if args.recursive {
        let folder = open_in(std::os::fd::AsFd::as_fd(&leaf.folder), &leaf.name).and_then(Dir::new);
        empty(folder.map_err(&failed)?).map_err(|stopped| stopped.refusal(&leaf))?;
    }
    unlinkat(&leaf.folder, &leaf.name, AtFlags::REMOVEDIR).map(|()| Done {}).map_err(failed)
}

/// Why a folder could not be emptied.
struct Stopped {
    path: PathBuf,
    errno: Errno,
    removed: u64,
}

impl Stopped {
    fn refusal(&self, leaf: &Leaf) -> Refusal {
        let refusal = refuse::at(&leaf.path.join(&self.path))(self.errno);
        match self.removed {
            0 => refusal,
            count => Refusal::new(Code::Failed, format!("{}; {count} were removed before", refusal.detail)),
        }
    }
}

struct Level {
    folder: Dir,
    name: OsString,
    /// Whether something was removed since its names were read from the first one on: some file systems leave names out
    /// then, so they are read again.
    is_changed: bool,
}

/// Removes all that is in a folder, without following links.
fn empty(folder: Dir) -> Result<(), Stopped> {
    let mut levels = vec![Level { folder, name: OsString::new(), is_changed: false }];
    let mut removed = 0;
    while !levels.is_empty() {
        if let Err((name, errno)) = step(&mut levels, &mut removed) {
            let mut path: PathBuf = levels.iter().map(|it| &it.name).collect();
            path.push(name);
            return Err(Stopped { path, errno, removed });
        }
    }
    Ok(())
}

/// Removes one name, or goes a level up or down.
fn step(levels: &mut Vec<Level>, removed: &mut u64) -> Result<(), (OsString, Errno)> {
    let Some(level) = levels.last_mut() else { return Ok(()) };
    let Some(name) = next_name(&mut level.folder) else {
        if std::mem::take(&mut level.is_changed) {
            level.folder.rewind();
            return Ok(());
        }
        let name = levels.pop().map(|it| it.name).unwrap_or_default();
        if let Some(parent) = levels.last_mut() {
            unlink(parent, &name, AtFlags::REMOVEDIR, removed).map_err(|errno| (name, errno))?;
        }
        return Ok(());
    };
    let name = name.map_err(|errno| (OsString::new(), errno))?;
    match unlink(level, &name, AtFlags::empty(), removed) {
        Err(Errno::ISDIR | Errno::PERM) => {}
        done => return done.map_err(|errno| (name, errno)),
    }
    match level.folder.fd().and_then(|it: BorrowedFd<'_>| open_in(it, &name)).and_then(Dir::new) {
        Ok(folder) => levels.push(Level { folder, name, is_changed: false }),
        Err(Errno::NOENT) => {}
        // It was no folder, and may not be removed.
        Err(Errno::NOTDIR | Errno::LOOP) => return Err((name, Errno::PERM)),
        Err(errno) => return Err((name, errno)),
    }
    Ok(())
}

fn unlink(level: &mut Level, name: &OsString, flags: AtFlags, removed: &mut u64) -> io::Result<()> {
    match unlinkat(level.folder.fd()?, name, flags) {
        Ok(()) => {
            level.is_changed = true;
            *removed += 1;
            Ok(())
        }
        Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno),
    }
}
