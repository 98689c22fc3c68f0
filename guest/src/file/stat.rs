//! `stat`: what is at a path.

use std::{os::fd::AsFd, path::Path};

use pve_edge_guest_protocol::{
    answer::Refusal,
    file::{At, Entry, Kind},
};
use rustix::fs::{AtFlags, CWD, readlinkat, statat};

use super::{entry, part::Actor, refuse};

/// Tells what is at a path.
pub(super) fn stat(at: &At, actor: &Actor) -> Result<Entry, Refusal> {
    tell(&actor.path(&at.path)?, actor)
}

/// Tells what is at a path; a link is told as such.
pub(super) fn tell(path: &Path, actor: &Actor) -> Result<Entry, Refusal> {
    let stat = statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW).map_err(refuse::at(path))?;
    let target = (entry::kind(&stat) == Kind::Symlink).then(|| target(CWD, path)).flatten();
    Ok(actor.entry(path, &stat, target))
}

/// Where a link leads, if it is still there.
pub(super) fn target(folder: impl AsFd, name: impl rustix::path::Arg) -> Option<String> {
    readlinkat(folder, name, Vec::new()).ok().map(|it| it.to_string_lossy().into_owned())
}
