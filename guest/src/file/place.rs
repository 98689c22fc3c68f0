//! `write`, `stage` and `commit`: content that is written aside first, and then put in place as a whole.

use std::{
    io::{Read, Write},
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use pve_edge_guest_protocol::{
    answer::{Code, Refusal},
    call::{Digest256, Operation},
    file::{Entry, Kind, Placing, Stage, Staged, Write as WriteArgs},
};
use rustix::{
    fs::{FlockOperation, Mode, OFlags, Stat, fchmod, flock, fstat, openat},
    io::Errno,
};
use sha2::{Digest, Sha256};

use super::{
    aside::Aside,
    channel::{Channel, FRAME, Head, Request},
    entry, mkdir,
    part::{Actor, Stop},
    path::{self, Leaf},
    refuse, unpack,
};

/// Mode of a file that replaces none.
const MODE: u32 = 0o644;

/// Time that a change waits for another one in the same folder.
const PATIENCE: Duration = Duration::from_secs(2);

/// Puts the content that follows into a file.
pub(super) fn write(args: &WriteArgs, actor: &Actor, channel: &mut Channel) -> Result<(), Stop> {
    let leaf = open(&actor.path(&args.path)?, args.mkdirs)?;
    check(&args.placing, &leaf)?;
    let mut aside = Aside::new(&leaf.folder).map_err(refuse::at(&leaf.path))?;
    receive(channel, &mut aside, &leaf.path)?;
    let entry = put(aside, &leaf, &args.placing, actor)?;
    Ok(channel.json(&entry)?)
}

/// Takes the content that follows aside, and holds it until it is told what becomes of it.
pub(super) fn stage(args: &Stage, actor: &Actor, channel: &mut Channel) -> Result<(), Stop> {
    let path = actor.path(&args.path)?;
    if args.unpack {
        if args.mkdirs {
            mkdir::make_all(&path)?;
        }
        let folder = unpack::open(&path)?;
        let aside = hold(Aside::new(&folder).map_err(refuse::at(&path))?, channel, &path)?;
        return match next(channel)? {
            Some(Operation::Unpack(args)) => {
                Ok(channel.json(&unpack::unpack(aside.file(), &folder, &path, args.gzip)?)?)
            }
            _ => Ok(()),
        };
    }
    let leaf = open(&path, args.mkdirs)?;
    check(&Placing::default(), &leaf)?;
    let aside = hold(Aside::new(&leaf.folder).map_err(refuse::at(&path))?, channel, &path)?;
    match next(channel)? {
        Some(Operation::Commit(args)) => Ok(channel.json(&put(aside, &leaf, &args.placing, actor)?)?),
        _ => Ok(()),
    }
}

fn open(path: &Path, mkdirs: bool) -> Result<Leaf, Refusal> {
    if mkdirs {
        mkdir::make_all(path::split(path)?.0)?;
    }
    Leaf::open(path)
}

/// Receives content, and tells what it was.
fn hold(mut aside: Aside, channel: &mut Channel, path: &Path) -> Result<Aside, Stop> {
    channel.head(&Head::Ready)?;
    let staged = receive(channel, &mut aside, path)?;
    channel.json(&staged)?;
    Ok(aside)
}

fn receive(channel: &mut Channel, into: &mut Aside, path: &Path) -> Result<Staged, Stop> {
    let (mut hash, mut length) = (Sha256::new(), 0);
    let mut buffer = vec![0; FRAME];
    loop {
        let count = channel.read(&mut buffer)?;
        let bytes = buffer.get(..count).unwrap_or_default();
        if bytes.is_empty() {
            return Ok(Staged { length, sha256: Digest256(hash.finalize().into()) });
        }
        hash.update(bytes);
        into.write_all(bytes).map_err(refuse::io_at(path))?;
        length += count as u64;
    }
}

/// What is asked for next; nothing when the daemon does not want it any more.
fn next(channel: &mut Channel) -> Result<Option<Operation>, Stop> {
    Ok(channel.line::<Request>()?.map(|it| it.operation))
}

/// Puts a file in place. Two that are put under a condition at the same time, do it one after the other.
fn put(aside: Aside, leaf: &Leaf, placing: &Placing, actor: &Actor) -> Result<Entry, Refusal> {
    let failed = refuse::at(&leaf.path);
    let is_conditional = placing.if_match.is_some();
    let _turn = turn(leaf, is_conditional)?;
    let there = check(placing, leaf)?;
    let replaced = there.filter(|it| entry::kind(it) == Kind::File).map(|it| it.st_mode & 0o7777);
    let mode = placing.mode.or(replaced).unwrap_or(MODE);
    fchmod(aside.file(), Mode::from_raw_mode(mode & 0o7777)).map_err(&failed)?;
    let file = aside.file().try_clone().map_err(refuse::io_at(&leaf.path))?;
    aside.put(leaf, placing.if_none).map_err(&failed)?;
    let stat = fstat(&file).map_err(&failed)?;
    Ok(actor.entry(&leaf.path, &stat, None))
}

/// Checks the conditions under which a file is put in place; the answer is what is there.
fn check(placing: &Placing, leaf: &Leaf) -> Result<Option<Stat>, Refusal> {
    let there = leaf.stat()?;
    if there.is_some_and(|it| entry::kind(&it) == Kind::Directory) {
        return Err(refuse::at(&leaf.path)(Errno::ISDIR));
    }
    if placing.if_none && there.is_some() {
        return Err(refuse::at(&leaf.path)(Errno::EXIST));
    }
    if let Some(wanted) = &placing.if_match {
        leaf.must_match(wanted, there.as_ref())?;
    }
    Ok(there)
}

impl Leaf {
    /// Refuses if it is not what is wanted.
    pub(super) fn must_match(&self, wanted: &str, there: Option<&Stat>) -> Result<(), Refusal> {
        match there {
            Some(stat) if entry::matches(wanted, stat) => Ok(()),
            Some(_) => Err(refuse::refusal(Code::Changed, &self.path, "it has changed")),
            None => Err(refuse::refusal(Code::Changed, &self.path, "it is gone")),
        }
    }
}

/// Waits for this process's turn to change something in a folder under a condition: between the look at what is there
/// and the change, no other process `file` changes it. A folder that cannot be locked gives no turns.
pub(super) fn turn(leaf: &Leaf, is_needed: bool) -> Result<Option<rustix::fd::OwnedFd>, Refusal> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(folder) = openat(&leaf.folder, ".", flags, Mode::empty()) else { return Ok(None) };
    let until = Instant::now() + PATIENCE;
    loop {
        match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(Some(folder)),
            Err(Errno::AGAIN) if Instant::now() < until => sleep(Duration::from_millis(5)),
            Err(Errno::AGAIN) if is_needed => return Err(refuse::at(&leaf.path)(Errno::AGAIN)),
            Err(_) => return Ok(None),
        }
    }
}
