//! `read`: bytes of a file.

use std::{
    fs::File,
    io::{self, Cursor, ErrorKind, Read as _, Seek, SeekFrom},
    path::Path,
};

use pve_edge_guest_protocol::{
    answer::{Code, Refusal},
    file::{Kind, Range, Read},
};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, Stat, fstat, openat, statat};

use super::{
    channel::{Channel, Head},
    entry,
    part::{Actor, Stop},
    refuse,
};

/// Bytes up to which a file is read as a whole before it is answered: its size may be a lie, as in `/sys`.
const SMALL: u64 = 64 << 10;

/// Bytes that are read of a file which says that it has none, as those of `/proc` do.
const LARGEST_SIZELESS: u64 = 8 << 20;

/// Answers with bytes of a regular file.
pub(super) fn read(args: &Read, actor: &Actor, channel: &mut Channel) -> Result<(), Stop> {
    let path = actor.path(&args.path)?;
    let (mut file, stat) = open(&path)?;
    if args.if_match.as_deref().is_some_and(|wanted| !entry::matches(wanted, &stat)) {
        return Err(refuse::refusal(Code::Changed, &path, "the file has changed").into());
    }
    let mut entry = actor.entry(&path, &stat, None);
    let small = whole(&mut file, entry.size).map_err(refuse::io_at(&path))?;
    if let Some(small) = &small {
        entry.size = small.len() as u64;
        if entry.size > LARGEST_SIZELESS {
            let words = "the file does not tell its size, and has more than 8 MiB";
            return Err(refuse::refusal(Code::Unsupported, &path, words).into());
        }
    }
    let size = entry.size;
    let (first, length) = part(args.range, size).ok_or_else(|| {
        let detail = format!("the range begins behind the end; the file has {size} bytes");
        Refusal { size: Some(size), ..refuse::refusal(Code::RangeNotSatisfiable, &path, detail) }
    })?;
    match small {
        Some(small) => send(Cursor::new(small), first, length, entry, channel),
        None => send(file, first, length, entry, channel),
    }
}

/// Opens a file to read it; a link is followed. Whatever else is there is not opened, or does not block.
pub(super) fn open(path: &Path) -> Result<(File, Stat), Refusal> {
    let regular = |stat: Stat| match entry::kind(&stat) {
        Kind::File => Ok(stat),
        Kind::Directory => Err(refuse::refusal(Code::NotAFile, path, "it is a folder")),
        _ => Err(refuse::refusal(Code::NotAFile, path, "it is a FIFO, a socket, or a device")),
    };
    regular(statat(CWD, path, AtFlags::empty()).map_err(refuse::at(path))?)?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = openat(CWD, path, flags, Mode::empty()).map_err(refuse::at(path))?;
    let stat = regular(fstat(&file).map_err(refuse::at(path))?)?;
    Ok((File::from(file), stat))
}

/// Reads a file as a whole if it is small, or says that it is empty.
fn whole(file: &mut File, size: u64) -> io::Result<Option<Vec<u8>>> {
    let most = match size {
        0 => LARGEST_SIZELESS,
        1..=SMALL => SMALL,
        _ => return Ok(None),
    };
    let mut content = Vec::new();
    match file.take(most + 1).read_to_end(&mut content) {
        Ok(_) => {}
        // A log of the kernel has no more for now.
        Err(error) if error.kind() == ErrorKind::WouldBlock => {}
        Err(error) => return Err(error),
    }
    if size > 0 && content.len() as u64 > most {
        // It has grown in the meantime: what it was before is answered.
        content.truncate(usize::try_from(size).unwrap_or_default());
    }
    Ok(Some(content))
}

/// Offset and length of what a range wants; `None` if it begins behind the end.
fn part(range: Option<Range>, size: u64) -> Option<(u64, u64)> {
    let (first, last) = match range {
        None => return Some((0, size)),
        Some(Range::From { first, last }) => (first, last.unwrap_or(u64::MAX)),
        Some(Range::Last { bytes }) if bytes > 0 => (size.saturating_sub(bytes), u64::MAX),
        Some(Range::Last { .. }) => return None,
    };
    let end = last.saturating_add(1).min(size);
    (first < size && first < end).then(|| (first, end - first))
}

/// Sends content. One that turns out to be shorter than it was is cut.
fn send(
    mut from: impl io::Read + Seek,
    first: u64,
    length: u64,
    entry: pve_edge_guest_protocol::file::Entry,
    channel: &mut Channel,
) -> Result<(), Stop> {
    from.seek(SeekFrom::Start(first))?;
    channel.head(&Head::Bytes { length: Some(length), entry: Some(Box::new(entry)) })?;
    let mut left = length;
    while left > 0 {
        match channel.add_from(&mut from, left)? {
            0 => return Err(Stop::Cut),
            count => left -= count as u64,
        }
    }
    Ok(channel.end()?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn range() -> impl Strategy<Value = Option<Range>> {
        let from =
            (0..40_u64, prop::option::of(0..40_u64)).prop_map(|(first, last)| Range::From { first, last });
        prop::option::of(prop_oneof![from, (0..40_u64).prop_map(|bytes| Range::Last { bytes })])
    }

    proptest! {
        #[test]
        fn a_part_is_within_the_file_and_as_wanted(range in range(), size in 0..40_u64) {
            let all: Vec<u64> = (0..size).collect();
            let wanted: Vec<u64> = match range {
                None => all,
                Some(Range::From { first, last }) => {
                    all.into_iter().filter(|it| *it >= first && last.is_none_or(|last| *it <= last)).collect()
                }
                Some(Range::Last { bytes }) => all.into_iter().filter(|it| it + bytes >= size).collect(),
            };
            match part(range, size) {
                None => prop_assert!(wanted.is_empty() && range.is_some()),
                Some((first, length)) => prop_assert_eq!((first..first + length).collect::<Vec<_>>(), wanted),
            }
        }
    }
}
