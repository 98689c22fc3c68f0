//! The output of a process, as its keeper writes it and followers read it.
//!
//! It is a sequence of [`record`]s in files ("segments"), of which the oldest are removed. A segment's name ends with the
//! place of its first byte, counted over both streams. Where the disk has no room, segments stand in the run folder.

mod read;
mod record;
mod room;
mod write;

use std::{ffi::OsStr, fs, io, path::PathBuf};

use pve_edge_guest_protocol::Unique;
use serde::{Deserialize, Serialize};

pub(crate) use self::{
    read::{Piece, Reader},
    write::Writer,
};

/// Bytes of output that are kept in the run folder for a process.
const MEMORY: u64 = 256 << 10;

/// Segments into which a log is cut.
const SEGMENTS: u64 = 16;

/// Where the output of one process is, and how much of it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Log {
    /// Process, with whose name a segment's name begins.
    pub(crate) process: Unique,
    /// Folder on the disk, which all processes share.
    pub(crate) disk: PathBuf,
    /// The run folder, which tells of each process whether it is over.
    pub(crate) run: PathBuf,
    /// Folder in the run folder, of this process alone.
    pub(crate) memory: PathBuf,
    /// Bytes that are kept of this process.
    pub(crate) each: u64,
    /// Bytes that are kept of all processes.
    pub(crate) all: u64,
}

/// A file of a log.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Segment {
    /// Place of its first byte of output.
    start: u64,
    path: PathBuf,
}

impl Log {
    fn name(&self, start: u64) -> String {
        format!("{}.{start:020}", self.process)
    }

    /// The segments, the oldest first.
    fn segments(&self) -> Vec<Segment> {
        let mut found = Vec::new();
        for folder in [&self.disk, &self.memory] {
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            found.extend(entries.filter_map(|entry| {
                let start = self.start(&entry.file_name())?;
                Some(Segment { start, path: entry.path() })
            }));
        }
        found.sort();
        found
    }

    /// Place that the name of one of this log's segments tells.
    fn start(&self, name: &OsStr) -> Option<u64> {
        let (process, start) = name.to_str()?.split_once('.')?;
        (process.parse() == Ok(self.process)).then(|| start.parse().ok())?
    }

    /// Bytes of output that the log has and had, as its files tell.
    pub(crate) fn end(&self) -> u64 {
        let last = self.segments().pop();
        last.and_then(|last| Some(last.start + record::count(&fs::read(last.path).ok()?))).unwrap_or(0)
    }

    /// Removes the log.
    pub(crate) fn remove(&self) -> io::Result<()> {
        self.segments().iter().try_for_each(|segment| match fs::remove_file(&segment.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;
    use pve_edge_guest_protocol::process::Stream;

    use super::{room::size, *};

    fn log(folder: &Path, each: u64) -> Log {
        let (disk, memory) = (folder.join("disk"), folder.join("memory"));
        fs::create_dir(&disk).unwrap();
        fs::create_dir(&memory).unwrap();
        Log { process: Unique([7; 16]), disk, run: folder.into(), memory, each, all: u64::MAX }
    }

    fn write(writer: &mut Writer, stream: Stream, data: &[u8]) {
        assert!(writer.is_ready(u64::MAX));
        writer.append(stream, data);
    }

    /// All that a reader tells from a place on, each byte with its stream; `None` for a byte that is gone.
    fn read(log: &Log, from: u64, until: u64) -> Vec<Option<(Stream, u8)>> {
        let mut reader = Reader::new(log.clone(), from);
        let mut told = Vec::new();
        while let Some(piece) = reader.next(until, 1000).unwrap() {
            match piece {
                Piece::Out(stream, data) => {
                    assert!(!data.is_empty() && data.len() <= 1000);
                    told.extend(data.into_iter().map(|it| Some((stream, it))));
                }
                Piece::Gap(bytes) => told.extend((0..bytes).map(|_| None)),
            }
            assert_eq!(reader.cursor(), from + told.len() as u64);
        }
        told
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_log_is_read_from_any_place_as_it_was_written(
            writes in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 1..300)), 1..60),
            each in prop_oneof![Just(4096_u64), Just(1 << 20)],
            from in any::<prop::sample::Index>(),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let log = log(folder.path(), each);
            let mut writer = Writer::new(log.clone());
            let mut all = Vec::new();
            for (is_stderr, data) in writes {
                let stream = if is_stderr { Stream::Stderr } else { Stream::Stdout };
                write(&mut writer, stream, &data);
                all.extend(data.into_iter().map(|it| (stream, it)));
            }
            let from = from.index(all.len() + 1);
            let end = all.len() as u64;
            prop_assert_eq!((writer.cursor(), log.end()), (end, end));
            let told = read(&log, from as u64, end);
            prop_assert_eq!(told.len(), all.len() - from);
            let kept = told.iter().skip_while(|it| it.is_none());
            prop_assert!(kept.clone().eq(all.iter().map(|it| Some(*it)).collect::<Vec<_>>()[all.len() - kept.count()..].iter()));
            prop_assert!(each == 4096 || told.iter().all(Option::is_some));
            prop_assert!(size(&log.disk) <= each + 304);
        }

        #[test]
        fn files_of_any_bytes_are_read_without_a_panic(
            files in prop::collection::vec((0_u64..500, prop::collection::vec(any::<u8>(), 0..200)), 0..5),
            from in any::<u64>(),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let log = log(folder.path(), 4096);
            for (start, bytes) in files {
                fs::write(log.disk.join(log.name(start)), bytes).unwrap();
            }
            let end = log.end();
            prop_assert_eq!(read(&log, from.min(end), end).len() as u64, end - from.min(end));
        }
    }

    #[test]
    fn a_gap_that_is_known_by_and_by_is_told_whole_and_what_comes_behind_it_once() {
        let folder = tempfile::tempdir().unwrap();
        let log = log(folder.path(), 4096);
        let record = |text: &[u8]| [&record::head(Stream::Stdout, text.len())[..], text].concat();
        fs::write(log.disk.join(log.name(0)), record(b"begin")).unwrap();
        fs::write(log.disk.join(log.name(30)), record(b"the end")).unwrap();
        let mut reader = Reader::new(log, 0);
        let mut told = Vec::new();
        for until in [3, 5, 9, 30, 37] {
            while let Some(piece) = reader.next(until, 1000).unwrap() {
                told.push((reader.cursor(), piece));
            }
        }
        let out = |text: &[u8]| Piece::Out(Stream::Stdout, text.to_vec());
        let right = [
            (3, out(b"beg")),
            (5, out(b"in")),
            (9, Piece::Gap(4)),
            (30, Piece::Gap(21)),
            (37, out(b"the end")),
        ];
        assert_eq!(told, right);
    }

    #[test]
    fn without_a_disk_a_quarter_of_a_mebibyte_is_kept_in_the_run_folder() {
        let folder = tempfile::tempdir().unwrap();
        let log = log(folder.path(), 1 << 20);
        fs::remove_dir(&log.disk).unwrap();
        let mut writer = Writer::new(log.clone());
        for _ in 0..1000 {
            write(&mut writer, Stream::Stdout, &[1; 1000]);
        }
        let told = read(&log, 0, 1_000_000);
        let gone = told.iter().take_while(|it| it.is_none()).count();
        assert!((1_000_000 - (256 << 10)..1_000_000 - (128 << 10)).contains(&gone), "{gone}");
        assert!(told[gone..].iter().all(|it| *it == Some((Stream::Stdout, 1))));
    }

    #[test]
    fn without_any_room_output_is_told_as_gone_and_room_is_used_again() {
        let folder = tempfile::tempdir().unwrap();
        let log = log(folder.path(), 1 << 20);
        fs::remove_dir(&log.disk).unwrap();
        fs::remove_dir(&log.memory).unwrap();
        let mut writer = Writer::new(log.clone());
        write(&mut writer, Stream::Stdout, b"gone");
        assert!(writer.is_ready(0), "it is of no use to wait for a follower");
        fs::create_dir(&log.disk).unwrap();
        write(&mut writer, Stream::Stderr, b"kept");
        let kept = b"kept".map(|it| Some((Stream::Stderr, it)));
        assert_eq!(read(&log, 0, 8), [[None; 4], kept].concat());
    }

    #[test]
    fn a_segment_that_somebody_reads_is_not_removed() {
        let folder = tempfile::tempdir().unwrap();
        let log = log(folder.path(), 16 << 10);
        let mut writer = Writer::new(log.clone());
        while writer.is_ready(5) {
            writer.append(Stream::Stdout, &[1; 500]);
        }
        let end = writer.cursor();
        assert!(read(&log, 0, end).iter().all(Option::is_some));
        assert!(end > 15 << 10);
        assert!(writer.is_ready(2000), "the first segment was read");
    }

    #[test]
    fn all_logs_together_have_a_bound() {
        let folder = tempfile::tempdir().unwrap();
        let mut first = log(folder.path(), 64 << 10);
        first.all = 20 << 10;
        let second = Log { process: Unique([8; 16]), ..first.clone() };
        for log in [&first, &second] {
            let mut writer = Writer::new(log.clone());
            for _ in 0..100 {
                write(&mut writer, Stream::Stdout, &[1; 500]);
            }
        }
        assert!(size(&first.disk) <= 24 << 10);
        assert!(read(&second, 0, 50_000).iter().any(Option::is_some));
        first.remove().unwrap();
        assert_eq!(first.segments(), []);
    }
}
