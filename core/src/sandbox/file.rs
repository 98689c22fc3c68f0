//! Files of a sandbox: what requests say of them, and what is told of them.

pub mod condition;
pub mod range;
pub mod watch;

use pve_edge_guest_protocol::file::{self as protocol, Placing};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use self::{condition::Condition, range::Part};
use super::defaults::is_user;
use crate::{error::Error, text::rfc3339::stamp};

/// Characters that a path may have.
const LONGEST_PATH: usize = 4096;
/// Permission bits: of owner, group and others, and set-user-ID, set-group-ID and sticky.
const MOST_MODE: u32 = 0o7777;

/// File, folder, link or device in a sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema), schemars(rename = "File"))]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// Path from the root. U+FFFD stands for bytes that are not UTF-8: no request can name such a file.
    pub path: String,
    /// Kind.
    pub kind: Kind,
    /// Bytes.
    pub size: u64,
    /// Permission bits in octal, such as `0644`.
    #[cfg_attr(feature = "contract", schemars(regex(pattern = "^[0-7]{4,}$")))]
    pub mode: String,
    /// Number of the owner.
    pub uid: u32,
    /// Number of the group.
    pub gid: u32,
    /// Name of the owner; absent when the sandbox has no user of that number.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "contract", schemars(with = "String"))]
    pub owner: Option<String>,
    /// Name of the group; absent when the sandbox has no group of that number.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "contract", schemars(with = "String"))]
    pub group: Option<String>,
    /// Time when the content was changed last, by the sandbox's clock; absent when it is no date.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "contract", schemars(with = "String", extend("format" = "date-time")))]
    pub modified_at: Option<String>,
    /// ETag of a file's content, with its quotes, for If-Match.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "contract", schemars(with = "String"))]
    pub etag: Option<String>,
    /// Path that a symbolic link leads to.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "contract", schemars(with = "String"))]
    pub target: Option<String>,
}

/// Kind of what is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema), schemars(rename = "FileKind"))]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Regular file.
    File,
    /// Folder.
    Directory,
    /// Symbolic link.
    Symlink,
    /// FIFO, socket or device.
    Other,
}

impl From<protocol::Entry> for Entry {
    fn from(entry: protocol::Entry) -> Self {
        Self {
            kind: match entry.kind {
                protocol::Kind::File => Kind::File,
                protocol::Kind::Directory => Kind::Directory,
                protocol::Kind::Symlink => Kind::Symlink,
                protocol::Kind::Other => Kind::Other,
            },
            size: entry.size,
            mode: format!("{:04o}", entry.mode),
            uid: entry.uid,
            gid: entry.gid,
            owner: entry.owner,
            group: entry.group,
            modified_at: modified(entry.modified_ns).map(stamp),
            etag: condition::quoted(&entry.etag),
            target: entry.target,
            path: entry.path,
        }
    }
}

/// Moment of a file's last change, to the second.
pub fn modified(nanoseconds: i64) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp(nanoseconds.div_euclid(1_000_000_000)).ok()
}

/// What is in a folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema), schemars(rename = "Files"))]
pub struct Listing {
    /// Files and folders; a folder comes before what is in it.
    pub items: Vec<Entry>,
    /// Whether there are more than `limit`, or more than the platform lets through.
    pub more: bool,
}

/// Outcome of unpacking an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
pub struct Unpacked {
    /// Number of files, folders and links that were written.
    pub entries: u64,
    /// Bytes of the files.
    pub bytes: u64,
}

/// Folder to make.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct MkdirBody {
    /// Path, absolute or below the user's home.
    #[cfg_attr(feature = "contract", schemars(length(min = 1, max = LONGEST_PATH)))]
    path: String,
    /// Name or number of the user who makes it; root by default.
    #[serde(default)]
    user: Option<String>,
    /// Permission bits in octal; `0755` by default.
    #[serde(default)]
    mode: Option<String>,
    /// Whether the folders above it are made too; false by default.
    #[serde(default)]
    parents: bool,
}

impl MkdirBody {
    /// What the daemon is asked.
    pub fn parse(self) -> Result<protocol::Mkdir, Error> {
        let Self { path, user, mode, parents } = self;
        let mode = mode.map(|it| parse_mode(&it)).transpose()?;
        Ok(protocol::Mkdir { path: parse_path("path", path)?, user: parse_user(user)?, mode, parents })
    }
}

/// File or folder to rename.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct MoveBody {
    /// Path that it has.
    #[cfg_attr(feature = "contract", schemars(length(min = 1, max = LONGEST_PATH)))]
    from: String,
    /// Path that it gets.
    #[cfg_attr(feature = "contract", schemars(length(min = 1, max = LONGEST_PATH)))]
    to: String,
    /// Name or number of the user who renames it; root by default.
    #[serde(default)]
    user: Option<String>,
    /// Whether a file at the new path is replaced; false by default.
    #[serde(default)]
    overwrite: bool,
}

impl MoveBody {
    /// What the daemon is asked.
    pub fn parse(self) -> Result<protocol::Move, Error> {
        let Self { from, to, user, overwrite } = self;
        let (from, to) = (parse_path("from", from)?, parse_path("to", to)?);
        Ok(protocol::Move { from, to, user: parse_user(user)?, overwrite })
    }
}

/// File to read.
#[derive(Clone, Debug)]
pub struct Reading {
    /// Path of the file.
    pub at: protocol::At,
    /// Bytes of it that are wanted.
    pub range: Option<protocol::Range>,
    /// `If-Range`: the ETag of the file that the range is of; of another file, the whole is wanted.
    pub if_range: Option<Condition>,
    /// `If-Match`.
    pub if_match: Option<Condition>,
    /// `If-None-Match`.
    pub if_none_match: Option<Condition>,
    /// Whether no bytes are wanted, but what is told of them.
    pub is_head: bool,
}

/// File that was found, and the bytes of it as they come.
pub struct Content<B> {
    /// File.
    pub entry: protocol::Entry,
    /// Part of the file that the bytes are; `None` for all of it.
    pub part: Option<Part>,
    /// Bytes; `None` for a file that the client has already.
    pub body: Option<B>,
}

/// Bytes of a file or an archive.
#[derive(Debug)]
pub enum Bytes<B> {
    /// As they come from the sandbox.
    Streamed(B),
    /// At hand.
    Whole(Vec<u8>),
}

impl<B> Content<B> {
    /// The same with bytes of another kind.
    pub fn map<C>(self, as_other: impl FnOnce(B) -> C) -> Content<C> {
        let Self { entry, part, body } = self;
        Content { entry, part, body: body.map(as_other) }
    }
}

/// File to write.
#[derive(Clone, Debug)]
pub struct Writing {
    /// Path of the file.
    pub at: protocol::At,
    /// Whether folders that are missing are made.
    pub mkdirs: bool,
    /// How it is put in place.
    pub placing: Placing,
}

/// Format of an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Archive {
    /// Whether it is compressed by gzip.
    pub gzip: bool,
}

impl Archive {
    /// The format of a parameter's value.
    pub fn parse(field: &str, text: &str) -> Result<Self, Error> {
        match text {
            "tar" => Ok(Self { gzip: false }),
            "tar.gz" => Ok(Self { gzip: true }),
            _ => Err(Error::field(field, "tar or tar.gz")),
        }
    }
}

/// A path: absolute, or below the user's home.
pub fn parse_path(field: &str, path: String) -> Result<String, Error> {
    let is_path = !path.is_empty() && !path.contains('\0') && path.chars().nth(LONGEST_PATH).is_none();
    if is_path { Ok(path) } else { Err(Error::field(field, "1 to 4096 characters, none of them NUL")) }
}

/// The name or number of a user.
pub fn parse_user(user: Option<String>) -> Result<Option<String>, Error> {
    match user {
        Some(user) if !is_user(&user) => Err(Error::field("user", "a name or a number of the sandbox's")),
        user => Ok(user),
    }
}

/// Permission bits in octal.
pub fn parse_mode(text: &str) -> Result<u32, Error> {
    let is_octal = (1..=5).contains(&text.len()) && text.bytes().all(|it| (b'0'..=b'7').contains(&it));
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| is_octal && *mode <= MOST_MODE);
    mode.ok_or_else(|| Error::field("mode", "octal, such as 0644"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_mode_is_read_as_it_is_written(mode in 0..=MOST_MODE, text in ".{0,6}") {
            prop_assert_eq!(parse_mode(&format!("{mode:04o}")).ok(), Some(mode));
            if let Ok(mode) = parse_mode(&text) {
                prop_assert_eq!(u32::from_str_radix(&text, 8).ok(), Some(mode));
            }
        }

        #[test]
        fn a_path_is_taken_as_it_is_or_refused(path in any::<String>()) {
            if let Ok(taken) = parse_path("path", path.clone()) {
                prop_assert_eq!(&taken, &path);
                prop_assert!(!path.is_empty() && !path.contains('\0'));
            }
        }
    }

    #[test]
    fn modes_and_users_and_paths_that_are_none() {
        for text in ["", "8", "0888", "77777", "000644", "+644", "rw-r--r--", "0o644", "-1"] {
            assert!(parse_mode(text).is_err(), "{text}");
        }
        for user in ["", "a:b", "a\nb", "\0"] {
            assert!(parse_user(Some(user.into())).is_err(), "{user:?}");
        }
        assert!(parse_path("path", "a".repeat(4097)).is_err());
        assert!(parse_path("path", "ü".repeat(4096)).is_ok());
    }
}
