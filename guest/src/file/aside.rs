//! Files that are written aside: nobody sees them before they are whole.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Write},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, linkat, openat, renameat, unlinkat},
    io::Errno,
};

use super::{name, path::Leaf};

/// File without a name, or where the file system has none such, with a hidden one, which goes with this.
pub(super) struct Aside {
    file: File,
    folder: OwnedFd,
    name: Option<OsString>,
}

impl Aside {
    /// Makes one in a folder.
    pub(super) fn new(folder: impl AsFd) -> Result<Self, Errno> {
        let folder = folder.as_fd().try_clone_to_owned().map_err(|_| Errno::MFILE)?;
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let (file, name) = match nameless(&folder, flags, mode) {
            Ok(file) => (file, None),
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {
                let name = name::hidden()?;
                let flags = flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
                (openat(&folder, &name, flags, mode)?, Some(name.into()))
            }
            Err(errno) => return Err(errno),
        };
        Ok(Self { file: file.into(), folder, name })
    }

    /// The file.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Gives it its name, in the folder that it was made in. Whoever opens that sees what was there or this, whole.
    pub(super) fn put(mut self, leaf: &Leaf, only_if_free: bool) -> Result<(), Errno> {
        let hidden = match &self.name {
            Some(name) => name.clone(),
            None => {
                let name = OsString::from(name::hidden()?);
                linkat(CWD, own(&self.file), &leaf.folder, &name, AtFlags::SYMLINK_FOLLOW)?;
                self.name.insert(name).clone()
            }
        };
        if only_if_free {
            name::rename_to_free((&self.folder, &hidden), (&leaf.folder, &leaf.name))?;
        } else {
            renameat(&self.folder, &hidden, &leaf.folder, &leaf.name)?;
        }
        self.name = None;
        Ok(())
    }
}

/// Makes a file without a name, if one can be given to it later.
fn nameless(folder: &OwnedFd, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
    if !Path::new("/proc/self/fd").exists() {
        return Err(Errno::OPNOTSUPP);
    }
    openat(folder, ".", flags | OFlags::TMPFILE, mode)
}

/// Path that leads to an open file.
fn own(file: &File) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

impl Drop for Aside {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            let _ = unlinkat(&self.folder, name, AtFlags::empty());
        }
    }
}

impl Write for Aside {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
