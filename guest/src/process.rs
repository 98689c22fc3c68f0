//! Processes: how they are started, followed, written to, and ended.

use std::{io, sync::Arc};

use bytes::Bytes;
use futures_util::{Stream, stream};
use pve_edge_guest_protocol::{
    answer::{Code, Done, Refusal},
    process::{self, Follow, Line, Named, Process, Resize, Signal, Spec, Start, Stdin, StdinTaken},
};

use crate::{boot::Boot, layout::Layout};

/// All processes that were started by calls.
pub struct Processes {}

fn unsupported() -> Refusal {
    Refusal::new(Code::Unsupported, "this daemon runs no processes yet")
}

impl Processes {
    /// The processes of this boot.
    pub fn new(_layout: Arc<Layout>, _boot: Arc<Boot>) -> io::Result<Self> {
        Ok(Self {})
    }

    /// Starts a process.
    pub async fn start(&self, _start: Start, _spec: Spec) -> Result<Process, Refusal> {
        Err(unsupported())
    }

    /// Lists all processes.
    pub async fn list(&self) -> Result<process::Processes, Refusal> {
        Err(unsupported())
    }

    /// Reads one process.
    pub async fn get(&self, _named: Named) -> Result<Process, Refusal> {
        Err(unsupported())
    }

    /// Follows the output of a process.
    pub async fn follow(
        &self,
        _follow: Follow,
    ) -> Result<impl Stream<Item = io::Result<Line>> + Send + use<>, Refusal> {
        Err::<stream::Empty<_>, _>(unsupported())
    }

    /// Writes to a process's standard input.
    pub async fn stdin(&self, _stdin: Stdin, _bytes: Bytes) -> Result<StdinTaken, Refusal> {
        Err(unsupported())
    }

    /// Sends a signal.
    pub async fn signal(&self, _signal: Signal) -> Result<Process, Refusal> {
        Err(unsupported())
    }

    /// Changes the size of a terminal.
    pub async fn resize(&self, _resize: Resize) -> Result<Process, Refusal> {
        Err(unsupported())
    }

    /// Kills a process and all its descendants, and forgets it.
    pub async fn forget(&self, _named: Named) -> Result<Done, Refusal> {
        Err(unsupported())
    }
}
