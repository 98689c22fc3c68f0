//! `mkdir`: a folder, and its parents.

use std::path::Path;

use pve_edge_guest_protocol::{
    answer::Refusal,
    file::{Entry, Mkdir},
};
use rustix::{
    fs::{AtFlags, CWD, FileType, Mode, fchmod, mkdirat, statat},
    io::Errno,
};

use super::{part::Actor, refuse, stat, walk::open_in};

/// Mode of a folder for which none is wanted.
const MODE: u32 = 0o755;

/// Makes a folder. One that is there already is left as it is.
pub(super) fn mkdir(args: &Mkdir, actor: &Actor) -> Result<Entry, Refusal> {
    let path = actor.path(&args.path)?;
    if args.parents
        && let Some(parent) = path.parent()
    {
        make_all(parent)?;
    }
    let mode = args.mode.unwrap_or(MODE) & 0o7777;
    make(&path, mode).map_err(refuse::at(&path))?;
    stat::tell(&path, actor)
}

/// Makes a folder and its parents, as far as they are missing.
pub(super) fn make_all(path: &Path) -> Result<(), Refusal> {
    let mut missing = Vec::new();
    for folder in path.ancestors() {
        match make(folder, MODE) {
            Ok(()) => break,
            Err(Errno::NOENT) => missing.push(folder),
            Err(Errno::EXIST) => return Err(refuse::at(folder)(Errno::NOTDIR)),
            Err(errno) => return Err(refuse::at(folder)(errno)),
        }
    }
    for folder in missing.iter().rev() {
        make(folder, MODE).map_err(refuse::at(folder))?;
    }
    Ok(())
}

fn make(path: &Path, mode: u32) -> Result<(), Errno> {
    // The kernel takes no such bits from mkdir.
    let is_taken = mode & 0o6000 == 0;
    match mkdirat(CWD, path, Mode::from_raw_mode(if is_taken { mode } else { 0o700 })) {
        Ok(()) if is_taken => Ok(()),
        // The folder may be exchanged for a link meanwhile, which is not followed.
        Ok(()) => fchmod(open_in(CWD, path)?, Mode::from_raw_mode(mode)),
        Err(errno @ (Errno::EXIST | Errno::ISDIR)) => match statat(CWD, path, AtFlags::empty()) {
            Ok(there) if FileType::from_raw_mode(there.st_mode) == FileType::Directory => Ok(()),
            _ => Err(errno),
        },
        Err(errno) => Err(errno),
    }
}
