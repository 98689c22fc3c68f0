//! `unpack`: a tar archive becomes files, and none of them outside of a folder.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, BufReader, Read, Seek, SeekFrom},
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use flate2::bufread::MultiGzDecoder;
use pve_edge_guest_protocol::{
    answer::{Code, Refusal},
    file::Unpacked,
};
use rustix::fs::fstatvfs;

use super::{
    archive::{Fault, Member, Members, What},
    refuse,
    tree::Tree,
    walk,
};

/// Bytes that are read at a time.
const BUFFER: usize = 128 << 10;

/// Bytes of names of folders, whose times are set at the end.
const LARGEST_NAMES: usize = 8 << 20;

/// Opens the folder into which something is to be unpacked.
pub(super) fn open(path: &Path) -> Result<OwnedFd, Refusal> {
    walk::open(path).map_err(refuse::at(path))
}

/// Unpacks an archive into a folder. All of it is looked at before anything is written.
pub(super) fn unpack(archive: &File, folder: &OwnedFd, path: &Path, gzip: bool) -> Result<Unpacked, Refusal> {
    let room = room(folder);
    let mut size = Checked::default();
    each(archive, gzip, room, |member, _| size.add(member)).map_err(|fault| refused(fault, path, None))?;
    let mut tree = Tree::new(folder).map_err(refuse::at(path))?;
    let mut written = Unpacked { entries: 0, bytes: 0 };
    let unpacked = each(archive, gzip, u64::MAX, |member, content| {
        if let What::File(size) = member.what {
            written.bytes += size;
        }
        tree.write(member, content)?;
        written.entries += 1;
        Ok(())
    });
    unpacked.and_then(|()| tree.finish()).map_err(|fault| refused(fault, path, Some(written.entries)))?;
    Ok(written)
}

/// Bytes that the disk still takes.
fn room(folder: impl AsFd) -> u64 {
    match fstatvfs(folder) {
        Ok(disk) if disk.f_blocks > 0 => disk.f_bavail.saturating_mul(disk.f_frsize),
        _ => u64::MAX,
    }
}

/// Hands each member of an archive out, with its content.
fn each(
    archive: &File,
    gzip: bool,
    room: u64,
    mut with: impl FnMut(&Member, &mut dyn Read) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let mut archive = archive;
    archive.seek(SeekFrom::Start(0))?;
    let archive = BufReader::with_capacity(BUFFER, archive);
    let input: Box<dyn Read> = if gzip { Box::new(MultiGzDecoder::new(archive)) } else { Box::new(archive) };
    let mut members = Members::new(Bounded { input, room });
    while let Some(member) = members.next()? {
        with(&member, &mut members)?;
    }
    members.finish()
}

/// Archive of which no more is read than the disk would take.
struct Bounded<R> {
    input: R,
    room: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(into)?;
        self.room = self.room.checked_sub(count as u64).ok_or(io::ErrorKind::StorageFull)?;
        Ok(count)
    }
}

/// What was seen when an archive was looked at.
#[derive(Default)]
struct Checked {
    names: usize,
}

impl Checked {
    fn add(&mut self, member: &Member) -> Result<(), Fault> {
        if member.what == What::Folder {
            self.names += member.names.as_bytes().len() + size_of::<Member>();
        }
        match self.names {
            0..=LARGEST_NAMES => Ok(()),
            _ => Err(Fault::Broken("it has too many folders".to_owned())),
        }
    }
}

/// Refusal of an archive, of which so many members were written.
fn refused(fault: Fault, folder: &Path, written: Option<u64>) -> Refusal {
    let refusal = match fault {
        Fault::Broken(words) => Refusal::new(Code::BadArchive, format!("the archive is refused: {words}")),
        Fault::Io(error) if error.kind() == io::ErrorKind::StorageFull && written.is_none() => {
            refuse::refusal(Code::DiskFull, folder, "the archive has more bytes than the disk has room")
        }
        Fault::Io(error) => refuse::io_at(folder)(error),
        Fault::Member(names, errno) => refuse::at(&folder.join(os(names.as_bytes())))(errno),
    };
    match written {
        None | Some(0) => refusal,
        Some(count) => {
            Refusal::new(Code::Failed, format!("{}; {count} entries were written", refusal.detail))
        }
    }
}

/// A name as the kernel takes it.
pub(super) fn os(name: &[u8]) -> &OsStr {
    OsStr::from_bytes(name)
}
