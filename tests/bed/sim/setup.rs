//! What a cluster is made of.

use std::collections::BTreeSet;

use time::{Duration, OffsetDateTime};

use super::timing::Answers;

/// How long a call waits for a guest's file lock [pve-common `Tools.pm` lock_file].
pub(crate) const FLOCK_WAIT: Duration = Duration::seconds(10);

/// Which PVE it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// 7.4: error texts in the reason phrase alone.
    V7_4,
    /// 8.4: error texts in the body too; no `env`.
    V8,
    /// 9.1.
    V9,
}

/// How a cluster starts.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Which PVE.
    pub version: Version,
    /// Nodes; the first is the one that requests arrive at.
    pub nodes: Vec<Node>,
    /// Storages.
    pub storages: Vec<Storage>,
    /// Bridges, on every node, with this address and this gateway.
    pub bridges: Vec<String>,
    /// In CIDR notation.
    pub bridge_address: String,
    /// Interfaces that the guests make for themselves, before their network card: name and CIDR.
    pub inner_interfaces: Vec<(String, String)>,
    /// The bridges' own.
    pub bridge_gateway: Option<String>,
    /// Resource pools.
    pub pools: BTreeSet<String>,
    /// How long a linked clone's worker works.
    pub clone_secs: Duration,
    /// How long a full clone's worker works.
    pub full_clone_secs: Duration,
    /// How long a start takes.
    pub start_secs: Duration,
    /// How long a stop or shutdown takes.
    pub stop_secs: Duration,
    /// How long a stop takes that asks nobody, where that is less.
    pub kill_secs: Option<Duration>,
    /// How long a container is locked of which a clone is made, where that is longer than its worker works.
    pub source_lock_secs: Option<Duration>,
    /// How long a destroy takes, without the stop.
    pub destroy_secs: Duration,
    /// How long a download takes.
    pub download_secs: Duration,
    /// How long a new container's files are unpacked.
    pub unpack_secs: Duration,
    /// How long any other task takes.
    pub task_secs: Duration,
    /// How long a container's ext4 grows, with its file lock held.
    pub grow_secs: Duration,
    /// How long the start takes that finds a file system that was in use, with the file lock held.
    pub recovery_secs: Duration,
    /// How often a connection to a guest is tried that is not up yet; without it, it is refused at once.
    pub connect_every: Option<Duration>,
    /// How long answers take.
    pub answers: Answers,
    /// Whether the listing shows a storage to those alone who may audit it.
    pub storages_need_audit: bool,
    /// From *started* to an answering execd and addresses.
    pub boot: Duration,
    /// The same of a VM, with an answering agent.
    pub vm_boot: Duration,
    /// When it is.
    pub start: OffsetDateTime,
    /// Of MAC addresses, process numbers and the phase of `pvestatd`.
    pub seed: u64,
}

/// A node.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Whether it answers.
    pub online: bool,
    /// Address that DHCP clients of its bridges count from.
    pub ip: String,
    /// `search` of its `/dns`.
    pub search: String,
    /// Bytes of memory, and how many of them are in use without any guest.
    pub memory: (u64, u64),
}

/// A storage.
#[derive(Clone, Debug)]
pub struct Storage {
    /// Its id.
    pub id: String,
    /// What it can do.
    pub kind: StorageKind,
    /// `storage.cfg` `content`.
    pub content: String,
    /// Bytes.
    pub total: u64,
    /// `storage.cfg` `disable`.
    pub enabled: bool,
    /// Nodes that have it; empty for all.
    pub nodes: BTreeSet<String>,
    /// Whether all nodes see the same volumes.
    pub shared: bool,
}

/// What a storage can do for containers [pve-storage `volume_has_feature`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StorageKind {
    /// `zfspool`: linked clones of templates, rollback to the newest snapshot only.
    ZfsPool,
    /// `lvmthin`: everything, and clones do not hold their base.
    LvmThin,
    /// `rbd`: linked clones of templates and of snapshots, which cannot be removed while one is there.
    Rbd,
    /// `btrfs` with raw images: linked clones of anything that is stopped, and no base is held by its clones.
    Btrfs,
    /// `dir` with raw images: no linked clone, no snapshot.
    Dir,
}

impl Default for Setup {
    fn default() -> Self {
        let second = Duration::SECOND;
        Self {
            version: Version::V9,
            nodes: vec![Node::new("pve1")],
            storages: vec![Storage::new("local-lvm", StorageKind::LvmThin)],
            bridges: vec!["vmbr0".into()],
            bridge_address: "10.0.0.1/8".into(),
            inner_interfaces: Vec::new(),
            bridge_gateway: None,
            pools: BTreeSet::new(),
            clone_secs: second,
            full_clone_secs: second * 5,
            start_secs: second,
            stop_secs: second,
            kill_secs: None,
            source_lock_secs: None,
            destroy_secs: second,
            download_secs: second * 3,
            unpack_secs: second * 4,
            task_secs: second,
            grow_secs: second * 22,
            recovery_secs: second * 50,
            connect_every: None,
            answers: Answers::Alike,
            storages_need_audit: true,
            boot: Duration::milliseconds(200),
            vm_boot: Duration::seconds(2),
            start: OffsetDateTime::UNIX_EPOCH + Duration::seconds(1_767_225_600),
            seed: 1,
        }
    }
}

impl Setup {
    /// Two nodes, `pve1` and `pve2`.
    pub fn two_nodes() -> Self {
        Self { nodes: vec![Node::new("pve1"), Node::new("pve2")], ..Self::default() }
    }

    /// Containers' file systems are grown and mounted at once, as ZFS is. PVE makes ext4 with
    /// multi-mount protection: whoever grows or mounts it first waits whether somebody else has it.
    pub fn without_mount_protection(self) -> Self {
        Self { grow_secs: Duration::ZERO, recovery_secs: Duration::ZERO, ..self }
    }
}

impl Node {
    /// An online node.
    pub fn new(name: &str) -> Self {
        let memory = (64 << 30, 8 << 30);
        Self { name: name.into(), online: true, ip: "10.0.0.1".into(), search: "lan".into(), memory }
    }
}

impl Storage {
    /// An enabled local storage of 1 TiB on all nodes.
    pub fn new(id: &str, kind: StorageKind) -> Self {
        Self {
            id: id.into(),
            kind,
            content: "rootdir,images".into(),
            total: 1 << 40,
            enabled: true,
            nodes: BTreeSet::new(),
            shared: false,
        }
    }

    /// A directory for appliance templates, as a fresh node has it.
    pub fn local() -> Self {
        Self { content: "iso,vztmpl,backup,snippets".into(), ..Self::new("local", StorageKind::Dir) }
    }

    pub(crate) fn takes(&self, content: &str) -> bool {
        self.content.split(',').any(|it| it == content)
    }

    pub(crate) fn is_on(&self, node: &str) -> bool {
        self.nodes.is_empty() || self.nodes.contains(node)
    }
}

impl StorageKind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ZfsPool => "zfspool",
            Self::LvmThin => "lvmthin",
            Self::Rbd => "rbd",
            Self::Btrfs => "btrfs",
            Self::Dir => "dir",
        }
    }
}

impl Version {
    /// `version` and `release` of `GET /version`.
    pub(crate) fn numbers(self) -> (&'static str, &'static str) {
        match self {
            Self::V7_4 => ("7.4-20", "7.4"),
            Self::V8 => ("8.4.21", "8.4"),
            Self::V9 => ("9.1.9", "9.1"),
        }
    }
}
