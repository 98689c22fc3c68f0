//! Files: arguments of what is done to them, and what is told of them.
//!
//! Paths are UTF-8; one that does not begin with `/` is below the user's home. `user` is the name or number of the user
//! as whom it is done; root if it is absent.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

use crate::{Unique, call::Digest256, process::Bytes};

/// Arguments of `stat`. A last component that is a symbolic link is told as such.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct At {
    /// Path.
    pub path: String,
    /// User.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

/// What is at a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// Path.
    pub path: String,
    /// Kind.
    pub kind: Kind,
    /// Bytes.
    pub size: u64,
    /// Permission bits, such as 420 for `0644`.
    pub mode: u32,
    /// Number of the owner.
    pub uid: u32,
    /// Number of the group.
    pub gid: u32,
    /// Name of the owner, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Name of the group, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Nanoseconds since 1970 of the last change of its content.
    pub modified_ns: i64,
    /// Text that is another one when the content is: of inode, size and time of change.
    pub etag: String,
    /// Where a symbolic link leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

impl Entry {
    /// The value of [`crate::ENTRY`].
    pub fn to_header(&self) -> String {
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    /// Reads the value of [`crate::ENTRY`].
    pub fn from_header(value: &[u8]) -> Option<Self> {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(value).ok()?).ok()
    }
}

/// Kind of what is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

/// Arguments of `list`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// Path of a folder.
    pub path: String,
    /// User.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Levels: 1 for what is in the folder itself.
    pub depth: u32,
    /// Entries after which the list ends, if there are more.
    pub most: u64,
}

/// Line of the answer to `list`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ListLine {
    /// One entry; parents come before what is in them.
    Entry(Entry),
    /// The last line.
    Done {
        /// Whether there are more.
        more: bool,
    },
}

/// Arguments of `read`: a regular file; a symbolic link is followed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Read {
    /// Path.
    pub path: String,
    /// User.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Bytes that are wanted, of all; the file as a whole if it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<Range>,
    /// What the [`Entry::etag`] must be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_match: Option<String>,
}

/// Range of bytes of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Range {
    /// From an offset to the end, or so many bytes.
    From {
        /// Offset of the first byte.
        first: u64,
        /// Offset of the last byte; the file's last if it is absent or behind that.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        last: Option<u64>,
    },
    /// The last so many bytes.
    Last {
        /// Number of bytes.
        bytes: u64,
    },
}

/// How a file is put in place: a last component that is a symbolic link is replaced, not followed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Placing {
    /// Permission bits; those of the file that is replaced, else `0644`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
    /// What the [`Entry::etag`] of the file that is replaced must be; `*` for any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub if_match: Option<String>,
    /// Whether nothing may be there.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub if_none: bool,
}

/// Arguments of `write`; the body is the content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Write {
    /// Path.
    pub path: String,
    /// User.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Whether folders that are missing are made.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub mkdirs: bool,
    /// How it is put in place.
    #[serde(default)]
    pub placing: Placing,
}

/// Arguments of `stage`; the body is the content, of any length, which nothing has signed yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// Name of what is staged, for `commit` or `unpack`.
    pub stage: Unique,
    /// Path of the file that it is to be, or of the folder that it is to be unpacked into.
    pub path: String,
    /// User.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Whether folders that are missing are made.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub mkdirs: bool,
    /// Whether it is to be unpacked.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unpack: bool,
}

/// Answer to `stage`. What is not committed within 10 minutes is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Staged {
    /// Bytes.
    pub length: u64,
    /// Digest of them, as the guest sees it.
    pub sha256: Digest256,
}

/// Arguments of `commit`. It may be sent again: a stage that was committed answers with its file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Commit {
    /// Name of what is staged.
    pub stage: Unique,
    /// Digest of the bytes, as the edge has computed it.
    pub sha256: Digest256,
    /// How it is put in place.
    #[serde(default)]
    pub placing: Placing,
}

/// Arguments of `unpack`: the staged bytes are a tar archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unpack {
    /// Name of what is staged.
    pub stage: Unique,
    /// Digest of the bytes, as the edge has computed it.
    pub sha256: Digest256,
    /// Whether the archive is compressed by gzip.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gzip: bool,
}

/// Answer to `unpack`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unpacked {
    /// Files, folders and links that were written.
    pub entries: u64,
    /// Bytes of files.
    pub bytes: u64,
}

/// Arguments of `pack`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pack {
    /// Path of a folder, whose content is packed with names below it, or of a file.
    pub path: String,
    /// User.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Whether the archive is compressed by gzip.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gzip: bool,
}

/// Arguments of `mkdir`. A folder that is there already is left as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mkdir {
    /// Path.
    pub path: String,
    /// User.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Permission bits; `0755` if they are absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
    /// Whether its parents are made too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub parents: bool,
}

/// Arguments of `move`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Move {
    /// Path of what is moved.
    pub from: String,
    /// Path that it gets.
    pub to: String,
    /// User.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Whether a file that is there is replaced.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub overwrite: bool,
}

/// Arguments of `remove`. A symbolic link is removed, not what it leads to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Remove {
    /// Path.
    pub path: String,
    /// User.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Whether a folder goes with what is in it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub recursive: bool,
    /// What the [`Entry::etag`] must be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_match: Option<String>,
}

/// Arguments of `watch`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Watch {
    /// Path of a folder.
    pub path: String,
    /// User.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Whether folders below it are watched too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub recursive: bool,
}

/// Line of the answer to `watch`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Change {
    /// From here on changes are seen; the first line.
    Watching,
    /// Something was made, or moved here.
    Created(Changed),
    /// The content of a file has changed.
    Modified(Changed),
    /// Owner, mode or times have changed.
    Attributes(Changed),
    /// Something was removed, or moved away.
    Removed(Changed),
    /// Changes were lost: look at the folder again.
    Overflow,
    /// Nothing has happened for a while.
    Alive,
    /// The folder itself is gone; the last line.
    Gone,
}

/// What has changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// Path below the folder that is watched. U+FFFD stands for bytes that are not UTF-8.
    pub path: String,
    /// Whether it is a folder.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub directory: bool,
    /// The path's bytes, if they are not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<Bytes>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_header_is_read_without_a_panic(value in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert_eq!(Entry::from_header(&value), None);
        }

        #[test]
        fn an_entry_is_read_as_it_was_told(path in "(?s).{0,40}", size: u64, modified_ns: i64, mode in 0_u32..4096) {
            let entry = Entry {
                path,
                kind: Kind::File,
                size,
                mode,
                uid: 0,
                gid: 33,
                owner: Some("root".into()),
                group: None,
                modified_ns,
                etag: "x".into(),
                target: None,
            };
            prop_assert_eq!(Entry::from_header(entry.to_header().as_bytes()), Some(entry));
        }
    }
}
