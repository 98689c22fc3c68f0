//! Volumes, and what each storage can do with them.

use std::collections::BTreeMap;

use super::{Config, Kind, Sim, StorageKind, reply::Fail};

/// A volume.
#[derive(Clone, Debug)]
pub(crate) struct Volume {
    pub(crate) bytes: u64,
    /// Turned into a base image by a template conversion.
    pub(crate) base: bool,
    /// The base that this one needs, or the snapshot, behind an `@`; not recorded on LVM-thin and btrfs.
    pub(crate) parent: Option<String>,
    /// Oldest first.
    pub(crate) snapshots: Vec<String>,
}

/// What may be asked of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Feature {
    Clone,
    Snapshot,
    Template,
}

impl Sim {
    /// `volume_has_feature`.
    ///
    /// A file of a VM may be the backing of another, and a qcow2 has snapshots;
    /// containers ask for raw images, which can do neither.
    pub(crate) fn has(&self, volid: &str, feature: Feature, snapname: Option<&str>) -> bool {
        let Some(volume) = self.volumes.get(volid) else { return false };
        let Some(storage) = self.storage_of(volid) else { return false };
        match (storage, feature) {
            (StorageKind::LvmThin | StorageKind::Rbd, Feature::Clone) => volume.base || snapname.is_some(),
            (StorageKind::ZfsPool, Feature::Clone) => volume.base && snapname.is_none(),
            (StorageKind::Btrfs, Feature::Clone) => true,
            (
                StorageKind::LvmThin | StorageKind::Rbd | StorageKind::ZfsPool | StorageKind::Btrfs,
                Feature::Snapshot,
            ) => !volume.base,
            (StorageKind::Dir, Feature::Clone) => volume.base && volid.ends_with(".qcow2"),
            (StorageKind::Dir, Feature::Snapshot) => !volume.base && volid.ends_with(".qcow2"),
            (_, Feature::Template) => !volume.base,
        }
    }

    pub(crate) fn storage_of(&self, volid: &str) -> Option<StorageKind> {
        let id = volid.split(':').next()?;
        self.setup.storages.iter().find(|storage| storage.id == id).map(|storage| storage.kind)
    }

    /// Whether a container's volume is a block device with an ext4 in it; ZFS has directories of its own.
    pub(crate) fn is_ext4(&self, volid: &str) -> bool {
        self.storage_of(volid).is_some_and(|it| it != StorageKind::ZfsPool)
    }

    /// `storage_check_enabled`.
    pub(crate) fn check_storage(&self, id: &str, node: &str) -> Result<(), Fail> {
        let Some(storage) = self.setup.storages.iter().find(|storage| storage.id == id) else {
            return Err(Fail::die(format!("storage '{id}' does not exist")));
        };
        if !storage.enabled {
            return Err(Fail::die(format!("storage '{id}' is disabled")));
        }
        if !storage.is_on(node) {
            return Err(Fail::die(format!("storage '{id}' is not available on node '{node}'")));
        }
        Ok(())
    }

    /// A new volume's name: free, and with its base in front where clones need it.
    pub(crate) fn new_volume(
        &mut self,
        kind: Kind,
        storage: &str,
        vmid: u32,
        bytes: u64,
        base: Option<&str>,
    ) -> String {
        let store = self.storage_of(&format!("{storage}:"));
        let (own, end) = match (store, kind) {
            (Some(StorageKind::ZfsPool), Kind::Lxc) => (format!("subvol-{vmid}-disk-"), ""),
            (Some(StorageKind::Btrfs), _) => (format!("{vmid}/vm-{vmid}-disk-"), ".raw"),
            (Some(StorageKind::Dir), Kind::Lxc) => (format!("{vmid}/vm-{vmid}-disk-"), ""),
            (Some(StorageKind::Dir), Kind::Qemu) => (format!("{vmid}/vm-{vmid}-disk-"), ".qcow2"),
            _ => (format!("vm-{vmid}-disk-"), ""),
        };
        let free = matches!(store, Some(StorageKind::LvmThin | StorageKind::Btrfs));
        let parent = base.filter(|_| !free).map(str::to_owned);
        let of_base = parent.as_deref().filter(|it| !it.contains('@'));
        let front = of_base.and_then(|base| base.split(':').nth(1)).map(|b| format!("{b}/"));
        let name = |n: u32| format!("{storage}:{}{own}{n}{end}", front.as_deref().unwrap_or(""));
        let number = (0u32..).find(|n| !self.volumes.contains_key(&name(*n))).unwrap_or(0);
        let volid = name(number);
        self.put_volume(&volid, bytes, parent);
        volid
    }

    /// A volume of this name.
    pub(crate) fn put_volume(&mut self, volid: &str, bytes: u64, parent: Option<String>) {
        let volume = Volume { bytes, base: false, parent, snapshots: Vec::new() };
        self.volumes.insert(volid.into(), volume);
    }

    /// Bytes used on a storage.
    pub(crate) fn used(&self, storage: &str) -> u64 {
        let prefix = format!("{storage}:");
        self.volumes.iter().filter(|(id, _)| id.starts_with(&prefix)).map(|(_, v)| v.bytes).sum()
    }

    /// A clone that needs this volume.
    pub(crate) fn child_of(&self, volid: &str) -> Option<&String> {
        self.volumes.iter().find(|(_, volume)| volume.parent.as_deref() == Some(volid)).map(|(id, _)| id)
    }
}

/// The volumes of a config: `rootfs` and `mpN`, or the drives that are no CD-ROM.
pub(crate) fn volumes(options: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let volid = |value: &str| value.split(',').next().unwrap_or("").to_owned();
    let disks = options.iter().filter(|(key, value)| is_disk(key) && !value.contains("media=cdrom"));
    disks.map(|(key, value)| (key.clone(), volid(value))).collect()
}

/// All volumes that go with a guest: its disks, its cloud-init drive, saved memory.
pub(crate) fn owned(config: &Config) -> Vec<String> {
    let sections = std::iter::once(config).chain(config.snapshots.values());
    let lines = sections.flat_map(|section| section.options.iter());
    let kept = lines.filter(|(key, value)| is_disk(key) && value.contains(':') || *key == "vmstate");
    kept.map(|(_, value)| value.split(',').next().unwrap_or("").to_owned()).collect()
}

/// Whether an option names a volume.
pub(crate) fn is_disk(key: &str) -> bool {
    let numbered = |bus: &str| key.strip_prefix(bus).is_some_and(|n| n.parse::<u8>().is_ok());
    matches!(key, "rootfs" | "efidisk0" | "tpmstate0")
        || ["mp", "scsi", "virtio", "sata", "ide"].into_iter().any(numbered)
}
