//! What becomes of guests' disks, told to whoever keeps the files that the simulator has none of.

use std::{collections::BTreeMap, sync::Arc};

use super::Sim;

/// A change of a guest's disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Disk {
    /// An archive was unpacked, and PVE has written these files to it.
    Created {
        /// The guest.
        vmid: u32,
        /// Their contents, by their paths.
        files: BTreeMap<String, String>,
    },
    /// A clone is ready: of the source as it is, or as one of its snapshots kept it.
    Cloned {
        /// The source.
        from: u32,
        /// Its snapshot.
        snapshot: Option<String>,
        /// The clone.
        to: u32,
    },
    /// A snapshot was taken.
    Kept {
        /// The guest.
        vmid: u32,
        /// The snapshot.
        snapshot: String,
    },
    /// It is what it was at a snapshot.
    RolledBack {
        /// The guest.
        vmid: u32,
        /// The snapshot.
        snapshot: String,
    },
    /// A snapshot is gone.
    Forgotten {
        /// The guest.
        vmid: u32,
        /// The snapshot.
        snapshot: String,
    },
}

/// Is told each change while the simulator is locked: it must not look into it.
pub type DiskHost = Arc<dyn Fn(Disk) + Send + Sync>;

impl Sim {
    /// Who is told of the changes of disks.
    pub fn set_disk_host(&mut self, host: DiskHost) {
        self.disks = Some(host);
    }

    pub(crate) fn tell(&self, disk: Disk) {
        if let Some(host) = &self.disks {
            host(disk);
        }
    }
}
