//! `move`: another name for a file or a folder.

use pve_edge_guest_protocol::{
    answer::Refusal,
    file::{Entry, Move},
};
use rustix::{fs::renameat, io::Errno};

use super::{name, part::Actor, path::Leaf, refuse, stat};

/// Gives something another name, in the same file system.
pub(super) fn rename(args: &Move, actor: &Actor) -> Result<Entry, Refusal> {
    let from = Leaf::open(&actor.path(&args.from)?)?;
    let to = Leaf::open(&actor.path(&args.to)?)?;
    if from.stat()?.is_none() {
        return Err(refuse::at(&from.path)(Errno::NOENT));
    }
    let (old, new) = ((&from.folder, &*from.name), (&to.folder, &*to.name));
    let renamed =
        if args.overwrite { renameat(old.0, old.1, new.0, new.1) } else { name::rename_to_free(old, new) };
    renamed.map_err(refuse::at(&to.path))?;
    stat::tell(&to.path, actor)
}
