//! `list`: what is in a folder.

use pve_edge_guest_protocol::file::{Kind, List, ListLine};
use rustix::io::Errno;

use super::{
    channel::{Channel, Head},
    entry,
    part::{Actor, Stop},
    refuse, stat,
    walk::{self, Walk},
};

/// Bytes of a path that the kernel takes; folders behind it are not entered, because nothing in them has a path.
const LONGEST_PATH: usize = 4095;

/// Lists a folder, line by line. A folder that the user may not read is told, without what is in it.
pub(super) fn list(args: &List, actor: &Actor, channel: &mut Channel) -> Result<(), Stop> {
    let path = actor.path(&args.path)?;
    let folder = walk::open(&path).map_err(refuse::at(&path))?;
    let levels = usize::try_from(args.depth).unwrap_or(usize::MAX).max(1);
    let mut walk = Walk::new(folder, levels).map_err(refuse::at(&path))?;
    channel.head(&Head::Lines)?;
    let mut told = 0;
    let more = loop {
        let found = match walk.next() {
            None => break false,
            Some(Err((_, Errno::ACCESS | Errno::PERM))) => continue,
            Some(Err(_)) => return Err(Stop::Cut),
            Some(Ok(found)) => found,
        };
        if told == args.most {
            break true;
        }
        let whole = path.join(&found.path);
        if whole.as_os_str().len() >= LONGEST_PATH {
            walk.pass();
        }
        let is_link = entry::kind(&found.stat) == Kind::Symlink;
        let target = walk.folder().ok().filter(|_| is_link).and_then(|it| stat::target(it, &found.name));
        channel.add_line(&ListLine::Entry(actor.entry(&whole, &found.stat, target)))?;
        told += 1;
    };
    channel.add_line(&ListLine::Done { more })?;
    Ok(channel.end()?)
}
