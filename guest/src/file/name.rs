//! Giving something a name that is free.

use std::{ffi::OsStr, os::fd::AsFd};

use rustix::{
    fs::{AtFlags, FileType, RenameFlags, linkat, renameat, renameat_with, statat, unlinkat},
    io::{self, Errno},
};

/// What hidden names begin with.
const HIDDEN: &str = ".pve-edge-";

/// A hidden name that nothing has.
pub(super) fn hidden() -> Result<String, Errno> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|_| Errno::AGAIN)?;
    Ok(format!("{HIDDEN}{}", hex::encode(random)))
}

/// Renames, unless something has the new name already.
pub(super) fn rename_to_free(from: (impl AsFd, &OsStr), to: (impl AsFd, &OsStr)) -> io::Result<()> {
    match renameat_with(&from.0, from.1, &to.0, to.1, RenameFlags::NOREPLACE) {
        // The file system does not know the flag, as ZFS before 2.2 and NFS.
        Err(Errno::INVAL | Errno::NOSYS) => rename_without_flag(from, to),
        result => result,
    }
}

fn rename_without_flag(from: (impl AsFd, &OsStr), to: (impl AsFd, &OsStr)) -> io::Result<()> {
    let stat = statat(&from.0, from.1, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        linkat(&from.0, from.1, &to.0, to.1, AtFlags::empty())?;
        return unlinkat(&from.0, from.1, AtFlags::empty());
    }
    match statat(&to.0, to.1, AtFlags::SYMLINK_NOFOLLOW) {
        // A folder that is made at this moment is replaced only if it is empty.
        Err(Errno::NOENT) => renameat(&from.0, from.1, &to.0, to.1),
        Err(errno) => Err(errno),
        Ok(_) => Err(Errno::EXIST),
    }
}

/// Whether it is a name from [`hidden`].
pub(super) fn is_hidden(name: &OsStr) -> bool {
    let random = name.to_str().and_then(|it| it.strip_prefix(HIDDEN));
    random.is_some_and(|it| it.len() == 32 && it.bytes().all(|it| it.is_ascii_hexdigit()))
}
