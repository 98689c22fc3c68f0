//! Writing a log.

use std::{
    collections::VecDeque,
    fs::{self, File},
    io::{self, IoSlice, Write},
    path::{Path, PathBuf},
};

use pve_edge_guest_protocol::process::Stream;
use rustix::fs::statvfs;

use super::{Log, MEMORY, SEGMENTS, record};

/// Writer of the log of one process.
pub(crate) struct Writer {
    log: Log,
    cursor: u64,
    disk: Place,
    memory: Place,
    current: Option<Current>,
}

/// Folder with segments, and how many bytes they may have.
struct Place {
    folder: PathBuf,
    most: u64,
    segment: u64,
    /// Segments that are there, the oldest first.
    segments: VecDeque<Written>,
}

/// Segment that was written.
struct Written {
    path: PathBuf,
    size: u64,
    /// Place behind its last byte of output.
    end: u64,
}

/// The segment that is written to: the last one of its place.
struct Current {
    file: File,
    is_on_disk: bool,
}

/// Why no new segment can be begun.
#[derive(Debug, PartialEq, Eq)]
enum NoRoom {
    /// A follower has not read the oldest one yet.
    Unread,
    /// The file system has none.
    Full,
}

impl Writer {
    pub(crate) fn new(log: Log) -> Self {
        let place = |folder: &PathBuf, most, count| Place {
            folder: folder.clone(),
            most,
            segment: most / count,
            segments: VecDeque::new(),
        };
        let disk = place(&log.disk, log.each, SEGMENTS);
        let memory = place(&log.memory, MEMORY.min(log.each), 4);
        Self { log, cursor: 0, disk, memory, current: None }
    }

    /// Bytes of output that were written, and dropped.
    pub(crate) fn cursor(&self) -> u64 {
        self.cursor
    }

    /// Bytes that the next record should have at most, so that segments are of their size.
    pub(crate) fn room(&self) -> usize {
        let current = self.current.as_ref();
        let place = current.map(|it| if it.is_on_disk { &self.disk } else { &self.memory });
        let room = place.and_then(|it| usize::try_from(it.room()).ok()).unwrap_or(0);
        if room == 0 { record::LARGEST } else { room.min(record::LARGEST) }
    }

    /// Makes room for the next record. `unread` is the first place that an attached follower has not read. Where room
    /// could only be had by removing what comes behind it, the answer is `false`: the command is to wait. Where there is
    /// none however long it waits, it goes on, and its output is dropped.
    pub(crate) fn is_ready(&mut self, unread: u64) -> bool {
        if self.current().is_some_and(|(place, _)| place.room() > 0) {
            return true;
        }
        let full = self.current.take();
        match self.begin(unread) {
            Ok(()) => true,
            Err(NoRoom::Unread) => {
                self.current = full;
                false
            }
            Err(NoRoom::Full) => true,
        }
    }

    /// Writes a record. Where nothing can be written, it is dropped, and readers are told a gap.
    pub(crate) fn append(&mut self, stream: Stream, data: &[u8]) {
        for data in data.chunks(record::LARGEST) {
            if self.put(stream, data).is_err() {
                self.give_up();
                let again = self.begin_in_memory(u64::MAX).is_ok() && self.put(stream, data).is_ok();
                if !again {
                    self.give_up();
                    self.cursor += data.len() as u64;
                }
            }
        }
    }

    /// Writes no more to the current segment. One that nothing was written to goes: the next one begins at its place.
    fn give_up(&mut self) {
        if let Some((place, _)) = self.current() {
            place.remove_empty();
        }
        self.current = None;
    }

    fn current(&mut self) -> Option<(&mut Place, &mut Current)> {
        let current = self.current.as_mut()?;
        Some((if current.is_on_disk { &mut self.disk } else { &mut self.memory }, current))
    }

    fn put(&mut self, stream: Stream, data: &[u8]) -> io::Result<()> {
        if self.current.is_none() && self.begin(u64::MAX).is_err() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let head = record::head(stream, data.len());
        let end = self.cursor + data.len() as u64;
        let (place, current) = self.current().ok_or(io::ErrorKind::NotFound)?;
        let written = place.segments.back_mut().ok_or(io::ErrorKind::NotFound)?;
        let total = head.len() + data.len();
        let result = current.file.write_vectored(&[IoSlice::new(&head), IoSlice::new(data)]);
        if !matches!(result, Ok(bytes) if bytes == total) {
            current.file.set_len(written.size)?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        written.size += total as u64;
        written.end = end;
        self.cursor = end;
        Ok(())
    }

    fn begin(&mut self, unread: u64) -> Result<(), NoRoom> {
        match self.begin_on_disk(unread) {
            Err(NoRoom::Full) => self.begin_in_memory(unread),
            other => other,
        }
    }

    fn begin_on_disk(&mut self, unread: u64) -> Result<(), NoRoom> {
        while self.disk.is_full() {
            self.disk.remove_oldest(unread)?;
        }
        if !self.log.make_room(self.disk.segment) {
            self.disk.remove_oldest(unread)?;
        }
        // A full disk takes files, but nothing in them: that is to be known before a record is there.
        if !has_room(&self.disk.folder) {
            return Err(NoRoom::Full);
        }
        let file = self.disk.begin(&self.log, self.cursor)?;
        self.current = Some(Current { file, is_on_disk: true });
        Ok(())
    }

    fn begin_in_memory(&mut self, unread: u64) -> Result<(), NoRoom> {
        while self.memory.is_full() {
            self.memory.remove_oldest(unread)?;
        }
        let file = match self.memory.begin(&self.log, self.cursor) {
            Err(NoRoom::Full) => {
                self.memory.remove_oldest(unread)?;
                self.memory.begin(&self.log, self.cursor)?
            }
            other => other?,
        };
        self.current = Some(Current { file, is_on_disk: false });
        Ok(())
    }
}

impl Place {
    /// Bytes of data that the last segment has room for.
    fn room(&self) -> u64 {
        let last = self.segments.back().map_or(self.segment, |it| it.size);
        self.segment.saturating_sub(last + record::HEAD as u64)
    }

    fn is_full(&self) -> bool {
        self.segments.iter().map(|it| it.size).sum::<u64>() + self.segment > self.most
    }

    fn remove_oldest(&mut self, unread: u64) -> Result<(), NoRoom> {
        let oldest = self.segments.front().ok_or(NoRoom::Full)?;
        if oldest.end > unread {
            return Err(NoRoom::Unread);
        }
        let _ = fs::remove_file(&oldest.path);
        self.segments.pop_front();
        Ok(())
    }

    /// Removes the last segment if nothing is in it.
    fn remove_empty(&mut self) {
        if let Some(empty) = self.segments.back().filter(|it| it.size == 0) {
            let _ = fs::remove_file(&empty.path);
            self.segments.pop_back();
        }
    }

    fn begin(&mut self, log: &Log, start: u64) -> Result<File, NoRoom> {
        let path = self.folder.join(log.name(start));
        let file = File::options().append(true).create_new(true).open(&path).map_err(|_| NoRoom::Full)?;
        self.segments.push_back(Written { path, size: 0, end: start });
        Ok(file)
    }
}

/// Whether a file system takes a record.
fn has_room(folder: &Path) -> bool {
    statvfs(folder)
        .is_ok_and(|it| it.f_bavail.saturating_mul(it.f_frsize) >= (record::HEAD + record::LARGEST) as u64)
}
