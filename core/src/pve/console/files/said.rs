//! What scripts say of files, and why they have not done something. They are the guest's words: what is none of ours is no
//! answer.

use pve_edge_guest_protocol::{
    answer::{Code as Refused, Refusal},
    file::{Entry, Kind},
};

use super::script::{exit, words};
use crate::{daemon::CallFailure, error::cut};

/// Bytes that are read of why something was not done.
const WORDS: usize = 8 << 10;
/// Characters of a path in a detail.
const SHOWN: usize = 300;

/// Ends of what programs say, be they of GNU or busybox, with the C library of GNU or musl.
const MEANINGS: &[(&str, Refused, &str)] = &[
    ("No such file or directory", Refused::NoSuchFile, "nothing is there"),
    ("No such file", Refused::NoSuchFile, "nothing is there"),
    ("Directory nonexistent", Refused::NoSuchFile, "nothing is there"),
    (
        "Not a directory",
        Refused::NotADirectory,
        "it is not a folder, or leads through something that is none",
    ),
    ("Is a directory", Refused::NotAFile, "it is a folder"),
    ("is a directory", Refused::NotAFile, "it is a folder"),
    ("No such device or address", Refused::NotAFile, "it is a FIFO, a socket, or a device"),
    ("File exists", Refused::Exists, "something is there already"),
    ("Directory not empty", Refused::Exists, "the folder is not empty"),
    ("Permission denied", Refused::NotPermitted, "the user may not do this"),
    ("Operation not permitted", Refused::NotPermitted, "the user may not do this"),
    ("Read-only file system", Refused::NotPermitted, "the file system is read-only"),
    ("Device or resource busy", Refused::NotPermitted, "it is in use"),
    ("Resource busy", Refused::NotPermitted, "it is in use"),
    ("Text file busy", Refused::NotPermitted, "it is in use"),
    ("File name too long", Refused::BadPath, "the path, or a name in it, is too long"),
    ("Filename too long", Refused::BadPath, "the path, or a name in it, is too long"),
    ("Too many levels of symbolic links", Refused::BadPath, "the path leads through too many links"),
    ("Symbolic link loop", Refused::BadPath, "the path leads through too many links"),
    ("Invalid argument", Refused::BadPath, "the file system does not take this path for that"),
    ("No space left on device", Refused::DiskFull, "no room is left on the disk"),
    ("Disk quota exceeded", Refused::DiskFull, "the user's share of the disk is used up"),
    ("Quota exceeded", Refused::DiskFull, "the user's share of the disk is used up"),
    ("File too large", Refused::DiskFull, "the file system takes no file of this size"),
    ("Invalid cross-device link", Refused::Unsupported, "the two paths are on different file systems"),
    ("not found", Refused::Unsupported, "a program that this takes is not in the sandbox"),
    (words::CHANGED, Refused::Changed, "it has changed, or is gone"),
    (words::OTHER_BYTES, Refused::OtherBytes, "other bytes have come than were sent"),
    (
        words::BAD_ARCHIVE,
        Refused::BadArchive,
        "the archive is refused: it is broken, or leads out of the folder",
    ),
];

/// Why a script has not done something at a path; `None` if it has.
pub(super) fn refusal(code: i32, said: &[u8], path: &str) -> Option<CallFailure> {
    let text = String::from_utf8_lossy(said.get(..WORDS).unwrap_or(said));
    let known = || text.lines().find_map(meaning);
    let refusal = match code {
        0 => return None,
        exit::NO => match known() {
            Some((code, words)) => at(code, path, words),
            None => at(Refused::Failed, path, &cut(&text)),
        },
        exit::PARTLY => {
            let words = known().map_or(cut(&text), |it| it.1.into());
            at(Refused::Failed, path, &format!("{words}; a part of it may be done"))
        }
        exit::LACKS => at(Refused::Unsupported, path, "the sandbox has no `tar`, or no `gzip`"),
        exit::NO_USER => Refusal::new(Refused::NoSuchUser, "there is no such user in the sandbox"),
        code => at(Refused::Failed, path, &format!("a script in the sandbox ended with {code}")),
    };
    Some(CallFailure::Refused(refusal))
}

fn meaning(line: &str) -> Option<(Refused, &'static str)> {
    if line.contains("subdirectory of itself") {
        return Some((Refused::BadPath, "a folder cannot be moved into itself"));
    }
    let found = MEANINGS.iter().find(|(end, ..)| line.trim_end().ends_with(end));
    found.map(|(_, code, words)| (*code, *words))
}

/// A refusal that names a path, in one line and not too long.
pub(super) fn at(code: Refused, path: &str, words: &str) -> Refusal {
    let shown = match path.char_indices().nth(SHOWN) {
        None => format!("{path:?}"),
        Some((end, _)) => format!("{:?}…", path.get(..end).unwrap_or_default()),
    };
    Refusal::new(code, format!("{shown}: {words}"))
}

/// What a script has told of one file at a path, and what stands behind it.
pub(super) fn one<'s>(said: &'s [u8], mark: &str, path: &str) -> Option<(Entry, &'s [u8])> {
    let end = format!("/{mark};\n");
    let at = said.windows(end.len()).position(|it| it == end.as_bytes())?;
    let (text, rest) = (String::from_utf8_lossy(said.get(..at)?), said.get(at + end.len()..)?);
    let (home, text) = text.split_once('\n')?;
    let (entry, _) = entry(text.strip_prefix(&format!("/{mark}/"))?, mark)?;
    Some((Entry { path: absolute(home, path)?, ..entry }, rest))
}

/// The bytes that stand behind a file; `None` where none were sent.
pub(super) fn content<'s>(rest: &'s [u8], mark: &str) -> Option<&'s [u8]> {
    rest.strip_prefix(format!("/{mark}/").as_bytes())
}

/// What a script has told of a folder at a path, and whether that is all.
pub(super) fn all(said: &[u8], mark: &str, path: &str) -> Option<(Vec<Entry>, bool)> {
    let text = String::from_utf8_lossy(said);
    let (home, text) = text.split_once('\n')?;
    let folder = absolute(home, path)?;
    let folder = folder.trim_end_matches('/');
    let (start, end) = (format!("/{mark}/"), format!("/{mark};"));
    let (mut entries, mut is_all) = (Vec::new(), false);
    for piece in text.split(&start).skip(1) {
        is_all |= piece == ".";
        // The last one may be cut.
        let Some((piece, _)) = piece.split_once(&end) else { continue };
        let (entry, name) = entry(piece, mark)?;
        let path = format!("{folder}/{}", name.strip_prefix("./")?);
        entries.push(Entry { path, ..entry });
    }
    Some((entries, is_all))
}

/// A path from the root, without `.` and without a slash too many.
fn absolute(home: &str, path: &str) -> Option<String> {
    let whole = if path.starts_with('/') { path.to_owned() } else { format!("{home}/{path}") };
    let names = whole.split('/').filter(|it| !matches!(*it, "" | "."));
    let path: String = names.flat_map(|it| ["/", it]).collect();
    whole.starts_with('/').then(|| if path.is_empty() { "/".to_owned() } else { path })
}

/// Reads what `stat` has told, and the name that it was given.
fn entry<'s>(text: &'s str, mark: &str) -> Option<(Entry, &'s str)> {
    let between = format!("/{mark}>");
    let mut parts = text.split(&between);
    let (fields, name, whole) = (parts.next()?, parts.next()?, parts.next()?);
    let words: Vec<_> = fields.split(' ').collect();
    let [mode, size, uid, gid, inode, modified, changed, _, modified_at, _, _, changed_at, _, owner, group] =
        *words
    else {
        return None;
    };
    let mode = u32::from_str_radix(mode, 16).ok()?;
    let kind = match mode >> 12 {
        0o10 => Kind::File,
        0o4 => Kind::Directory,
        0o12 => Kind::Symlink,
        _ => Kind::Other,
    };
    let size: u64 = size.parse().ok()?;
    let (inode, seconds): (u64, i64) = (inode.parse().ok()?, modified.parse().ok()?);
    let changed: i64 = changed.parse().ok()?;
    let named = |name: &str| (name != "UNKNOWN").then(|| name.to_owned());
    let entry = Entry {
        path: String::new(),
        kind,
        size,
        mode: mode & 0o7777,
        uid: uid.parse().ok()?,
        gid: gid.parse().ok()?,
        owner: named(owner),
        group: named(group),
        modified_ns: seconds
            .saturating_mul(1_000_000_000)
            .saturating_add(nanoseconds(fraction(modified_at)?)),
        etag: format!(
            "{inode}-{size}-{seconds}{}-{changed}{}",
            fraction(modified_at)?,
            fraction(changed_at)?
        ),
        target: if kind == Kind::Symlink { target(whole, name) } else { None },
    };
    Some((entry, name))
}

/// What stands behind the seconds of a time of day: nothing, or a point and digits.
fn fraction(time: &str) -> Option<&str> {
    let fraction = time.get(8..)?;
    let is_fraction = fraction.strip_prefix('.').is_some_and(|it| it.bytes().all(|it| it.is_ascii_digit()));
    (fraction.is_empty() || is_fraction && fraction.len() <= 10).then_some(fraction)
}

fn nanoseconds(fraction: &str) -> i64 {
    format!("{:0<9}", fraction.trim_start_matches('.')).parse().unwrap_or_default()
}

/// Where a link leads: `stat` writes it behind its name, and that of busybox puts quotes around both.
fn target(whole: &str, name: &str) -> Option<String> {
    let plain = whole.strip_prefix(name).and_then(|it| it.strip_prefix(" -> "));
    let quoted = || whole.strip_prefix(&format!("'{name}' -> '"))?.strip_suffix('\'');
    plain.or_else(quoted).map(str::to_owned)
}
