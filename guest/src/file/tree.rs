//! Files of an archive, as they are written below a folder. No link is followed on the way to them, be it of the
//! archive or one that was there before: so nothing leads out.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{Read, Write},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    fs::{
        AtFlags, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, fchmod, futimens, linkat, mkdirat, openat,
        symlinkat, unlinkat, utimensat,
    },
    io::Errno,
};

use super::{
    archive::{Fault, Member, Names, What},
    unpack::os,
    walk::open_in,
};

/// Mode of a folder of which the archive says nothing.
const MODE: Mode = Mode::from_raw_mode(0o755);

/// Bytes that are written at a time.
const BUFFER: usize = 64 << 10;

/// Files below a folder.
pub(super) struct Tree<'a> {
    root: &'a OwnedFd,
    /// Path of the folder that was opened last, and the folder.
    last: (Vec<u8>, OwnedFd),
    /// Mode and time of folders, which are set when all is in them.
    folders: BTreeMap<Vec<u8>, (u32, (i64, u32))>,
    buffer: Vec<u8>,
}

impl<'a> Tree<'a> {
    pub(super) fn new(root: &'a OwnedFd) -> Result<Self, Errno> {
        let last = (Vec::new(), open_in(root.as_fd(), ".")?);
        Ok(Self { root, last, folders: BTreeMap::new(), buffer: vec![0; BUFFER] })
    }

    /// Writes a member. What is in its place goes, unless it is a folder.
    pub(super) fn write(&mut self, member: &Member, content: &mut dyn Read) -> Result<(), Fault> {
        let failed = |errno| Fault::Member(member.names.clone(), errno);
        let Some((parent, name)) = member.names.split() else { return Ok(()) };
        let name = os(name);
        self.enter(parent).map_err(failed)?;
        let folder = self.last.1.as_fd();
        match &member.what {
            What::Folder => {
                make_folder(folder, member).map_err(failed)?;
                let about = (member.mode, member.modified);
                self.folders.insert(member.names.as_bytes().to_vec(), about);
            }
            What::File(_) => {
                clear(folder, member).map_err(failed)?;
                write_file(folder, member, content, &mut self.buffer)?;
            }
            What::Symlink(target) => {
                clear(folder, member).map_err(failed)?;
                symlinkat(os(target), folder, name).map_err(failed)?;
                let _ = utimensat(folder, name, &times(member.modified), AtFlags::SYMLINK_NOFOLLOW);
            }
            What::Link(to) => self.link(to, member).map_err(failed)?,
        }
        Ok(())
    }

    /// Sets modes and times of folders, of the innermost first. Those of a folder that is another user's stay.
    pub(super) fn finish(&mut self) -> Result<(), Fault> {
        for (path, (mode, modified)) in std::mem::take(&mut self.folders).into_iter().rev() {
            let set = self.enter(&path).and_then(|()| {
                fchmod(&self.last.1, Mode::from_raw_mode(mode))?;
                futimens(&self.last.1, &times(modified))
            });
            match (set, Names::read(&path)) {
                (Err(errno), Some(names)) if errno != Errno::PERM => return Err(Fault::Member(names, errno)),
                _ => {}
            }
        }
        Ok(())
    }

    fn link(&mut self, to: &Names, member: &Member) -> Result<(), Errno> {
        let (Some((parent, name)), Some((new_parent, new_name))) = (to.split(), member.names.split()) else {
            return Err(Errno::INVAL);
        };
        if to == &member.names {
            return Ok(());
        }
        let new_folder = self.last.1.try_clone().map_err(|_| Errno::MFILE)?;
        self.enter(parent)?;
        let target = (&self.last.1, os(name));
        clear(new_folder.as_fd(), member)?;
        linkat(target.0, target.1, &new_folder, os(new_name), AtFlags::empty())?;
        self.last = (new_parent.to_vec(), new_folder);
        Ok(())
    }

    /// Opens a folder, and makes it if it is missing.
    fn enter(&mut self, path: &[u8]) -> Result<(), Errno> {
        if self.last.0 == path {
            return Ok(());
        }
        let mut folder = open_in(self.root.as_fd(), ".")?;
        for name in path.split(|it| *it == b'/').filter(|it| !it.is_empty()) {
            let opened = open_in(folder.as_fd(), os(name));
            folder = match opened {
                Err(Errno::NOENT) => {
                    mkdirat(&folder, os(name), MODE)?;
                    open_in(folder.as_fd(), os(name))?
                }
                opened => opened?,
            };
        }
        self.last = (path.to_vec(), folder);
        Ok(())
    }
}

/// Makes place for something that is no folder.
fn clear(folder: BorrowedFd<'_>, member: &Member) -> Result<(), Errno> {
    let name = member.names.split().map(|it| it.1).unwrap_or_default();
    match unlinkat(folder, os(name), AtFlags::empty()) {
        Err(Errno::NOENT) => Ok(()),
        result => result,
    }
}

fn make_folder(parent: BorrowedFd<'_>, member: &Member) -> Result<(), Errno> {
    let name = os(member.names.split().map(|it| it.1).unwrap_or_default());
    match mkdirat(parent, name, MODE) {
        Err(Errno::EXIST) => {}
        result => return result,
    }
    match open_in(parent, name) {
        Err(Errno::NOTDIR | Errno::LOOP) => {
            clear(parent, member)?;
            mkdirat(parent, name, MODE)
        }
        result => result.map(drop),
    }
}

fn write_file(
    folder: BorrowedFd<'_>,
    member: &Member,
    content: &mut dyn Read,
    buffer: &mut [u8],
) -> Result<(), Fault> {
    let failed = |errno| Fault::Member(member.names.clone(), errno);
    let name = os(member.names.split().map(|it| it.1).unwrap_or_default());
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(folder, name, flags, Mode::RUSR | Mode::WUSR).map_err(failed)?;
    let mut file = File::from(file);
    loop {
        let count = content.read(buffer)?;
        let Some(bytes) = buffer.get(..count).filter(|it| !it.is_empty()) else { break };
        file.write_all(bytes).map_err(|error| failed(Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;
    }
    fchmod(&file, Mode::from_raw_mode(member.mode)).map_err(failed)?;
    futimens(&file, &times(member.modified)).map_err(failed)
}

fn times((seconds, nanoseconds): (i64, u32)) -> Timestamps {
    let last_access = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
    Timestamps { last_access, last_modification: Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() } }
}
