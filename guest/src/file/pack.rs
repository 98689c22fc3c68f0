//! `pack`: a folder or a file becomes a tar archive.

use std::{
    collections::HashMap,
    ffi::OsStr,
    fs::File,
    io::{self, Read, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
};

use flate2::{Compression, write::GzEncoder};
use pve_edge_guest_protocol::{
    answer::Refusal,
    file::{Kind, Pack},
};
use rustix::{
    fs::{Access, AtFlags, Mode, OFlags, Stat, accessat, fstat, openat, readlinkat},
    io::Errno,
};
use tar::{Builder, EntryType, Header};

use super::{
    channel::{Channel, Head},
    entry,
    part::{Actor, Stop},
    read, refuse,
    walk::{self, Found, Walk},
};

/// Files with several names of which is remembered which was first; behind them, names are files of their own.
const MOST_LINKS: usize = 32 << 10;

/// Answers with an archive of a folder's content, or of a file. All of it can be read when the answer begins; what goes
/// wrong behind that cuts it.
pub(super) fn pack(args: &Pack, actor: &Actor, channel: &mut Channel) -> Result<(), Stop> {
    let path = actor.path(&args.path)?;
    let source = match walk::open(&path) {
        Ok(folder) => {
            check(folder.try_clone().map_err(refuse::io_at(&path))?, &path)?;
            Source::Folder(folder)
        }
        Err(Errno::NOTDIR) => {
            let (file, stat) = read::open(&path)?;
            Source::File(file, stat, path.file_name().unwrap_or_default().into())
        }
        Err(errno) => return Err(refuse::at(&path)(errno).into()),
    };
    channel.head(&Head::Bytes { length: None, entry: None })?;
    if args.gzip {
        let into = GzEncoder::new(&mut *channel, Compression::fast());
        Archive::new(into, actor).write(source)?.finish()?;
    } else {
        Archive::new(&mut *channel, actor).write(source)?;
    }
    Ok(channel.end()?)
}

enum Source {
    Folder(OwnedFd),
    File(File, Stat, PathBuf),
}

/// Refuses a folder in which is something that the user may not read.
fn check(folder: OwnedFd, path: &Path) -> Result<(), Refusal> {
    let mut walk = again(&folder).map_err(refuse::at(path))?;
    while let Some(found) = walk.next() {
        let found = found.map_err(|(below, errno)| refuse::at(&path.join(below))(errno))?;
        if entry::kind(&found.stat) != Kind::File {
            continue;
        }
        let folder = walk.folder().map_err(refuse::at(path))?;
        match accessat(folder, &found.name, Access::READ_OK, AtFlags::EACCESS) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(refuse::at(&path.join(&found.path))(errno)),
        }
    }
    Ok(())
}

/// A way through a folder from its first name on.
fn again(folder: &OwnedFd) -> Result<Walk, Errno> {
    Walk::new(walk::open_in(folder.as_fd(), ".")?, usize::MAX)
}

struct Archive<'a, W: Write> {
    into: Builder<W>,
    actor: &'a Actor,
    /// First names of files that have several, by device and inode.
    links: HashMap<(u64, u64), PathBuf>,
}

impl<'a, W: Write> Archive<'a, W> {
    fn new(into: W, actor: &'a Actor) -> Self {
        Self { into: Builder::new(into), actor, links: HashMap::new() }
    }

    /// Writes all of it, and its end.
    fn write(mut self, source: Source) -> io::Result<W> {
        match source {
            Source::File(file, stat, name) => self.add_file(file, &stat, &name)?,
            Source::Folder(folder) => {
                let mut walk = again(&folder)?;
                while let Some(found) = walk.next() {
                    let found = found.map_err(|(_, errno)| errno)?;
                    self.add(&found, &walk)?;
                }
            }
        }
        self.into.into_inner()
    }

    fn add(&mut self, found: &Found, walk: &Walk) -> io::Result<()> {
        let folder = walk.folder()?;
        match entry::kind(&found.stat) {
            Kind::Directory => {
                let mut header = self.header(&found.stat, EntryType::Directory);
                self.into.append_data(&mut header, found.path.join(""), io::empty())
            }
            Kind::Symlink => {
                let target = match readlinkat(folder, &found.name, Vec::new()) {
                    Ok(target) => target,
                    Err(Errno::NOENT | Errno::INVAL) => return Ok(()),
                    Err(errno) => return Err(errno.into()),
                };
                let mut header = self.header(&found.stat, EntryType::Symlink);
                self.into.append_link(&mut header, &found.path, OsStr::from_bytes(target.to_bytes()))
            }
            Kind::File => {
                let flags =
                    OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::NOCTTY | OFlags::CLOEXEC;
                let file = match openat(folder, &found.name, flags, Mode::empty()) {
                    Ok(file) => File::from(file),
                    // It is gone, or has become a link.
                    Err(Errno::NOENT | Errno::LOOP) => return Ok(()),
                    Err(errno) => return Err(errno.into()),
                };
                let stat = fstat(&file)?;
                if entry::kind(&stat) == Kind::File {
                    self.add_file(file, &stat, &found.path)
                } else {
                    Ok(())
                }
            }
            Kind::Other => Ok(()),
        }
    }

    fn add_file(&mut self, file: File, stat: &Stat, path: &Path) -> io::Result<()> {
        let inode = (stat.st_dev, stat.st_ino);
        if stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&inode) {
                let mut header = self.header(stat, EntryType::Link);
                return self.into.append_link(&mut header, path, first);
            }
            if self.links.len() < MOST_LINKS {
                self.links.insert(inode, path.to_owned());
            }
        }
        let size = entry::size(stat);
        let mut header = self.header(stat, EntryType::Regular);
        header.set_size(size);
        self.into.append_data(&mut header, path, Exactly { file, left: size })
    }

    fn header(&self, stat: &Stat, kind: EntryType) -> Header {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(stat.st_mode & 0o7777);
        header.set_uid(stat.st_uid.into());
        header.set_gid(stat.st_gid.into());
        header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or_default());
        header.set_size(0);
        // A name that is too long is left out: the number is there.
        let _ = header.set_username(self.actor.names.user(stat.st_uid).unwrap_or_default());
        let _ = header.set_groupname(self.actor.names.group(stat.st_gid).unwrap_or_default());
        header
    }
}

/// So many bytes of a file: no more when it grows, and an error when it shrinks.
struct Exactly {
    file: File,
    left: u64,
}

impl Read for Exactly {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(into.len());
        let count = self.file.read(into.get_mut(..most).unwrap_or_default())?;
        if count == 0 && most > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= count as u64;
        Ok(count)
    }
}
