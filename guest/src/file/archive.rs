//! Members of a tar archive: one after the other, and with no more memory than their names may take.

use std::io::{self, ErrorKind, Read};

use rustix::io::Errno;
use tar::{EntryType, Header};

/// Bytes of a block.
const BLOCK: usize = 512;

/// Bytes of a name, and of what stands before a member to say more about it.
const LONGEST_NAME: usize = 4096;
const LARGEST_EXTENSION: u64 = 64 << 10;

/// Why an archive cannot be read.
#[derive(Debug)]
pub(super) enum Fault {
    /// It is broken, or has something that is not taken.
    Broken(String),
    /// Its bytes cannot be read.
    Io(io::Error),
    /// A member cannot be written.
    Member(Names, Errno),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::UnexpectedEof => broken("it is cut"),
            // What gzip says of bytes that are not its own.
            ErrorKind::InvalidInput | ErrorKind::InvalidData | ErrorKind::Other => broken(error),
            _ => Self::Io(error),
        }
    }
}

fn broken(words: impl ToString) -> Fault {
    Fault::Broken(words.to_string())
}

/// Member of an archive. Its content is read from [`Members`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    /// Names on the way to it, from the folder on in which it is unpacked.
    pub(super) names: Names,
    /// What it is.
    pub(super) what: What,
    /// Permission bits.
    pub(super) mode: u32,
    /// Seconds and nanoseconds since 1970.
    pub(super) modified: (i64, u32),
}

/// What a member is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// Regular file of so many bytes.
    File(u64),
    /// Folder.
    Folder,
    /// Symbolic link, and where it leads.
    Symlink(Vec<u8>),
    /// Another name of a file that was before.
    Link(Names),
}

/// Names of nested folders, and of something in the last. None of them leads up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Names(Vec<u8>);

impl Names {
    /// Reads a path of an archive. What leads to the root or nowhere is left out; `None` if it leads up.
    pub(super) fn read(path: &[u8]) -> Option<Self> {
        let names: Vec<&[u8]> =
            path.split(|it| *it == b'/').filter(|it| !matches!(*it, b"" | b".")).collect();
        let leads_up = names.contains(&&b".."[..]);
        (!leads_up && !path.contains(&0) && path.len() <= LONGEST_NAME).then(|| Self(names.join(&b'/')))
    }

    /// The path, with `/` between the names.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The folder's path and the last name; `None` if there are no names.
    pub(super) fn split(&self) -> Option<(&[u8], &[u8])> {
        match self.0.iter().rposition(|it| *it == b'/') {
            Some(at) => Some((self.0.get(..at)?, self.0.get(at + 1..)?)),
            None => (!self.0.is_empty()).then(|| (&[][..], &*self.0)),
        }
    }
}

/// Members of an archive, in order. Reading from it reads the content of the member that was last.
pub(super) struct Members<R> {
    input: R,
    /// Bytes of the content that are not read yet, and of what fills its last block.
    left: u64,
    filling: u64,
}

/// What stands before a member to say more about it.
#[derive(Default)]
struct Extension {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    modified: Option<(i64, u32)>,
}

impl<R: Read> Members<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, left: 0, filling: 0 }
    }

    /// Finds the next member; `None` at the end that the archive itself tells.
    pub(super) fn next(&mut self) -> Result<Option<Member>, Fault> {
        let mut extension = Extension::default();
        loop {
            self.pass(self.left.saturating_add(self.filling))?;
            let Some(header) = self.header()? else { return Ok(None) };
            let size = header.entry_size()?;
            match header.entry_type() {
                EntryType::GNULongName => extension.path = Some(self.name(size)?),
                EntryType::GNULongLink => extension.link = Some(self.name(size)?),
                EntryType::XHeader => extension.read_pax(&self.extension(size)?)?,
                EntryType::XGlobalHeader => drop(self.extension(size)?),
                kind => {
                    let member = member(&header, kind, extension)?;
                    self.begin(if let What::File(size) = member.what { size } else { size });
                    return Ok(Some(member));
                }
            }
        }
    }

    /// Reads on to the end of the input, which may tell that what came before was wrong.
    pub(super) fn finish(&mut self) -> Result<(), Fault> {
        io::copy(&mut self.input, &mut io::sink())?;
        Ok(())
    }

    fn begin(&mut self, size: u64) {
        self.left = size;
        self.filling = size.next_multiple_of(BLOCK as u64) - size;
    }

    fn header(&mut self) -> Result<Option<Header>, Fault> {
        let mut header = Header::new_old();
        self.input.read_exact(header.as_mut_bytes())?;
        if header.as_bytes().iter().all(|it| *it == 0) {
            return Ok(None);
        }
        // The sum is made with spaces in its own place.
        let bytes = header.as_bytes().iter().enumerate();
        let sum: u32 = bytes.map(|(at, it)| if (148..156).contains(&at) { 32 } else { u32::from(*it) }).sum();
        if header.cksum()? != sum {
            return Err(broken("it is no tar archive, or damaged: the checksum of a header is wrong"));
        }
        Ok(Some(header))
    }

    fn extension(&mut self, size: u64) -> Result<Vec<u8>, Fault> {
        if size > LARGEST_EXTENSION {
            return Err(broken("it has a name or an extension that is too large"));
        }
        self.begin(size);
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn name(&mut self, size: u64) -> Result<Vec<u8>, Fault> {
        let mut name = self.extension(size)?;
        name.truncate(name.iter().position(|it| *it == 0).unwrap_or(name.len()));
        Ok(name)
    }

    fn pass(&mut self, count: u64) -> Result<(), Fault> {
        let passed = io::copy(&mut (&mut self.input).take(count), &mut io::sink())?;
        (self.left, self.filling) = (0, 0);
        if passed < count { Err(broken("it is cut")) } else { Ok(()) }
    }
}

/// Content of a member; its end before its size is an error.
impl<R: Read> Read for Members<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(into.len());
        let count = self.input.read(into.get_mut(..most).unwrap_or_default())?;
        if count == 0 && most > 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.left -= count as u64;
        Ok(count)
    }
}

fn member(header: &Header, kind: EntryType, extension: Extension) -> Result<Member, Fault> {
    let path = extension.path.unwrap_or_else(|| header.path_bytes().into_owned());
    let shown = String::from_utf8_lossy(path.get(..300).unwrap_or(&path)).into_owned();
    let refused = |words: &str| broken(format!("{shown:?} {words}"));
    let names = Names::read(&path).ok_or_else(|| refused("leads out of the folder, or is too long"))?;
    let link = || {
        let link = extension.link.or_else(|| header.link_name_bytes().map(Into::into)).unwrap_or_default();
        if link.is_empty() || link.contains(&0) || link.len() > LONGEST_NAME {
            return Err(refused("is a link to nowhere"));
        }
        Ok(link)
    };
    let what = match kind {
        EntryType::Regular | EntryType::Continuous if path.ends_with(b"/") => What::Folder,
        EntryType::Regular | EntryType::Continuous => {
            What::File(extension.size.map_or_else(|| header.entry_size(), Ok)?)
        }
        EntryType::Directory => What::Folder,
        EntryType::Symlink => What::Symlink(link()?),
        EntryType::Link => {
            What::Link(Names::read(&link()?).ok_or_else(|| refused("is a link out of the folder"))?)
        }
        EntryType::GNUSparse => return Err(refused("is a sparse file, which is not taken")),
        EntryType::Char | EntryType::Block => return Err(refused("is a device, which is not taken")),
        EntryType::Fifo => return Err(refused("is a FIFO, which is not taken")),
        _ => return Err(refused("is of a kind that is not known")),
    };
    if names.split().is_none() && what != What::Folder {
        return Err(refused("is no name"));
    }
    let modified = match extension.modified {
        Some(modified) => modified,
        None => (i64::try_from(header.mtime()?).unwrap_or_default(), 0),
    };
    Ok(Member { names, what, mode: header.mode()? & 0o7777, modified })
}

impl Extension {
    fn read_pax(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let (key, value, more) = record(rest).ok_or_else(|| broken("an extension is no record"))?;
            rest = more;
            match key {
                b"path" => self.path = Some(value.to_vec()),
                b"linkpath" => self.link = Some(value.to_vec()),
                b"size" => self.size = Some(number(value).ok_or_else(|| broken("a size is no number"))?),
                b"mtime" => self.modified = time(value),
                key if key.starts_with(b"GNU.sparse.") => {
                    return Err(broken("it has a sparse file, which is not taken"));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Reads a record `length key=value` and a newline, and what is behind it. The length counts all of it, and a value may
/// have newlines.
fn record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().position(|it| *it == b' ')?;
    let length = usize::try_from(number(bytes.get(..space)?)?).ok()?;
    let record = bytes.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|it| *it == b'=')?;
    Some((record.get(..equals)?, record.get(equals + 1..)?, bytes.get(length..)?))
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Reads a time such as `1700000000.25`.
fn time(text: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    let nanoseconds: u32 = format!("{:0<9.9}", part).parse().ok()?;
    match (whole.starts_with('-'), nanoseconds) {
        (true, 1..) => Some((seconds.checked_sub(1)?, 1_000_000_000_u32.checked_sub(nanoseconds)?)),
        _ => Some((seconds, nanoseconds)),
    }
}

#[cfg(test)]
mod tests;
