//! Reading a log.

use std::{fs::File, io, os::unix::fs::FileExt};

use pve_edge_guest_protocol::process::Stream;

use super::{
    Log,
    record::{HEAD, LARGEST, Record},
};

/// Reader of the log of one process, at some place in it.
pub(crate) struct Reader {
    log: Log,
    cursor: u64,
    open: Option<Open>,
}

/// Segment that is read.
struct Open {
    file: File,
    /// Offset in the file behind `bytes`.
    offset: u64,
    /// Bytes that were read from the file, and are not passed yet.
    bytes: Vec<u8>,
    /// How many of `bytes` are passed.
    passed: usize,
    /// Place of the next record's first byte of output.
    place: u64,
}

/// What a reader finds at its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// Bytes of one stream.
    Out(Stream, Vec<u8>),
    /// So many bytes are gone.
    Gap(u64),
}

impl Reader {
    pub(crate) fn new(log: Log, cursor: u64) -> Self {
        Self { log, cursor, open: None }
    }

    /// The place that is read next.
    pub(crate) fn cursor(&self) -> u64 {
        self.cursor
    }

    /// Reads on, at most `most` bytes of output and not beyond the place `until`, up to which the log is written.
    pub(crate) fn next(&mut self, until: u64, most: usize) -> io::Result<Option<Piece>> {
        let left = until.saturating_sub(self.cursor);
        let most = most.min(LARGEST).min(usize::try_from(left).unwrap_or(usize::MAX));
        if most == 0 {
            return Ok(None);
        }
        if let Some((stream, data)) = self.read(most)? {
            return Ok(Some(Piece::Out(stream, data)));
        }
        // The segment ends here, or none is open.
        let gone = self.seek()?;
        if gone > 0 {
            if gone > left {
                // The segment begins behind a place that is still to be reached: it is looked for again then.
                self.open = None;
            }
            let told = gone.min(left);
            self.cursor += told;
            return Ok(Some(Piece::Gap(told)));
        }
        let (stream, data) = self.read(most)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(Some(Piece::Out(stream, data)))
    }

    /// Reads bytes of one stream from the open segment.
    fn read(&mut self, most: usize) -> io::Result<Option<(Stream, Vec<u8>)>> {
        let Some(open) = &mut self.open else { return Ok(None) };
        let mut out: Option<(Stream, Vec<u8>)> = None;
        loop {
            let place = open.place;
            let Some(record) = open.record()? else { break };
            let (stream, told) = out.get_or_insert((record.stream, Vec::new()));
            if *stream != record.stream || told.len() >= most {
                break;
            }
            let skip = usize::try_from(self.cursor.saturating_sub(place)).unwrap_or(usize::MAX);
            let data = record.data.get(skip..).unwrap_or_default();
            let data = data.get(..most - told.len()).unwrap_or(data);
            told.extend_from_slice(data);
            let length = record.data.len();
            self.cursor += data.len() as u64;
            if self.cursor >= place + length as u64 {
                open.pass(length);
            }
        }
        Ok(out.filter(|(_, data)| !data.is_empty()))
    }

    /// Opens the segment that holds the cursor, or else the next one; returns how many bytes are gone before it.
    fn seek(&mut self) -> io::Result<u64> {
        self.open = None;
        let segments = self.log.segments();
        let before = segments.iter().rposition(|it| it.start <= self.cursor).unwrap_or(0);
        for segment in segments.iter().skip(before) {
            // A segment may be removed meanwhile: then it is gone, and the next one is the oldest.
            let Ok(file) = File::open(&segment.path) else { continue };
            let mut open = Open { file, offset: 0, bytes: Vec::new(), passed: 0, place: segment.start };
            if open.find(self.cursor)? {
                let gone = open.place.saturating_sub(self.cursor);
                self.open = Some(open);
                return Ok(gone);
            }
        }
        Ok(u64::MAX)
    }
}

impl Open {
    /// Goes to the record that holds the place, or to the first one if the place is before it; whether there is one.
    fn find(&mut self, place: u64) -> io::Result<bool> {
        loop {
            let Some(length) = self.record()?.map(|it| it.data.len()) else { return Ok(false) };
            if self.place + length as u64 > place {
                return Ok(true);
            }
            self.pass(length);
        }
    }

    /// The next record, if it is whole.
    fn record(&mut self) -> io::Result<Option<Record<'_>>> {
        if Record::parse(self.left()).is_none() {
            self.bytes.drain(..self.passed);
            self.passed = 0;
            self.fill()?;
        }
        Ok(Record::parse(self.left()).map(|(record, _)| record))
    }

    /// Goes behind the next record, whose data has this length.
    fn pass(&mut self, length: usize) {
        self.passed += HEAD + length;
        self.place += length as u64;
    }

    fn left(&self) -> &[u8] {
        self.bytes.get(self.passed..).unwrap_or_default()
    }

    /// Reads on, until so much is there as the largest record has, or the file ends.
    fn fill(&mut self) -> io::Result<()> {
        let mut length = self.bytes.len();
        self.bytes.resize(HEAD + LARGEST, 0);
        while let Some(rest) = self.bytes.get_mut(length..).filter(|it| !it.is_empty()) {
            match self.file.read_at(rest, self.offset) {
                Ok(0) => break,
                Ok(bytes) => {
                    length += bytes;
                    self.offset += bytes as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.bytes.truncate(length);
        Ok(())
    }
}
