//! Virtual machines, where qemu-server differs from pve-container.

pub mod agent;
mod clone;
pub(crate) mod config;
mod memory;
pub(crate) mod parameters;
mod resize;
pub(crate) mod table;

use super::{Sim, tasks};

/// Pieces of a worker's work that containers do not have.
#[derive(Clone, Debug)]
pub(crate) enum Work {
    /// The clone's claim; `again` after the second that it waits for a file lock.
    Claim {
        newid: u32,
        again: bool,
    },
    /// The first disk is there, and with it the config.
    Fill {
        newid: u32,
    },
    Cloned {
        newid: u32,
    },
    Pause,
    Resume,
    Suspend {
        storage: String,
    },
    Suspended {
        storage: String,
    },
    /// The start from a snapshot's memory, which a rollback ends with.
    Recall {
        name: String,
    },
    Resize(resize::Asked),
}

impl Work {
    /// The VM that the work makes.
    pub(crate) fn newid(&self) -> Option<u32> {
        match self {
            Self::Claim { newid, .. } | Self::Fill { newid } | Self::Cloned { newid } => Some(*newid),
            _ => None,
        }
    }
}

/// What the workers do.
pub(crate) fn work(sim: &mut Sim, upid: &str, vmid: u32, work: Work) {
    match work {
        Work::Claim { newid, again } => clone::claim(sim, upid, vmid, newid, again),
        Work::Fill { newid } => clone::fill(sim, upid, vmid, newid),
        Work::Cloned { newid } => clone::finish(sim, upid, vmid, newid),
        Work::Resize(asked) => resize::work(sim, upid, vmid, &asked),
        Work::Recall { name } => memory::recalled(sim, upid, vmid, &name),
        other => memory::work(sim, upid, vmid, other),
    }
}

impl From<Work> for tasks::Work {
    fn from(work: Work) -> Self {
        Self::Qemu(work)
    }
}
