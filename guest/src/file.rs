//! Files, touched by a process of the user's; and part `file`, which is that process.

use std::{ffi::OsString, io, process::ExitCode, sync::Arc};

use bytes::Bytes;
use hyper::body::Incoming;
use pve_edge_guest_protocol::{
    answer::{Code, Done, Refusal},
    file::{
        At, Commit, Entry, List, Mkdir, Move, Pack, Read, Remove, Stage, Staged, Unpack, Unpacked, Watch,
        Write,
    },
};

use crate::{answer::Reply, layout::Layout};

/// Plays the part.
pub fn main(_arguments: Vec<OsString>) -> ExitCode {
    ExitCode::FAILURE
}

/// The files of the guest.
pub struct Files {}

fn unsupported() -> Refusal {
    Refusal::new(Code::Unsupported, "this daemon touches no files yet")
}

impl Files {
    /// The files.
    pub fn new(_layout: Arc<Layout>) -> io::Result<Self> {
        Ok(Self {})
    }

    /// Tells what is at a path.
    pub async fn stat(&self, _at: At) -> Result<Entry, Refusal> {
        Err(unsupported())
    }

    /// Lists a folder.
    pub async fn list(&self, _list: List) -> Reply {
        Err(unsupported())
    }

    /// Reads a file.
    pub async fn read(&self, _read: Read) -> Reply {
        Err(unsupported())
    }

    /// Puts bytes into a file.
    pub async fn write(&self, _write: Write, _content: Bytes) -> Result<Entry, Refusal> {
        Err(unsupported())
    }

    /// Takes bytes aside.
    pub async fn stage(&self, _stage: Stage, _content: Incoming) -> Result<Staged, Refusal> {
        Err(unsupported())
    }

    /// Puts what was staged into its file.
    pub async fn commit(&self, _commit: Commit) -> Result<Entry, Refusal> {
        Err(unsupported())
    }

    /// Unpacks what was staged.
    pub async fn unpack(&self, _unpack: Unpack) -> Result<Unpacked, Refusal> {
        Err(unsupported())
    }

    /// Packs a file or a folder.
    pub async fn pack(&self, _pack: Pack) -> Reply {
        Err(unsupported())
    }

    /// Makes a folder.
    pub async fn mkdir(&self, _mkdir: Mkdir) -> Result<Entry, Refusal> {
        Err(unsupported())
    }

    /// Renames a file or a folder.
    pub async fn rename(&self, _move: Move) -> Result<Entry, Refusal> {
        Err(unsupported())
    }

    /// Removes a file or a folder.
    pub async fn remove(&self, _remove: Remove) -> Result<Done, Refusal> {
        Err(unsupported())
    }

    /// Watches a folder.
    pub async fn watch(&self, _watch: Watch) -> Reply {
        Err(unsupported())
    }
}
