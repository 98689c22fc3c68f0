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

const FLAGS: OFlags = OFlags::RDWR.union(OFlags::CLOEXEC);
const MODE: Mode = Mode::RUSR.union(Mode::WUSR);

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
        let (file, name) = match nameless(&folder) {
            Ok(file) => (file, None),
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {
                named(&folder).map(|(file, name)| (file, Some(name)))?
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
fn nameless(folder: &OwnedFd) -> Result<OwnedFd, Errno> {
    if !Path::new("/proc/self/fd").exists() {
        return Err(Errno::OPNOTSUPP);
    }
    openat(folder, ".", FLAGS | OFlags::TMPFILE, MODE)
}

/// Makes a file with a hidden name.
fn named(folder: &OwnedFd) -> Result<(OwnedFd, OsString), Errno> {
    let name = name::hidden()?;
    let flags = FLAGS | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
    Ok((openat(folder, &name, flags, MODE)?, name.into()))
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::file::walk;

    /// As [`Aside::new`] does it where files without a name are not known.
    fn named(folder: &Path) -> Aside {
        let folder = walk::open(folder).unwrap();
        let (file, name) = super::named(&folder).unwrap();
        Aside { file: file.into(), folder, name: Some(name) }
    }

    #[test]
    fn a_file_is_put_in_place_or_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let nameless = || Aside::new(walk::open(folder.path()).unwrap()).unwrap();
        for make in [&nameless as &dyn Fn() -> Aside, &|| named(folder.path())] {
            let leaf = Leaf::open(&folder.path().join("file")).unwrap();
            let mut aside = make();
            aside.write_all(b"1").unwrap();
            drop(aside);
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
            for (content, only_if_free) in [("2", true), ("3", false)] {
                let mut aside = make();
                aside.write_all(content.as_bytes()).unwrap();
                aside.put(&leaf, only_if_free).unwrap();
                assert_eq!(fs::read_to_string(&leaf.path).unwrap(), content);
            }
            assert_eq!(make().put(&leaf, true), Err(Errno::EXIST));
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
            fs::remove_file(&leaf.path).unwrap();
        }
    }
}
