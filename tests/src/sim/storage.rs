//! Volumes, and what each storage can do with them.

use std::collections::BTreeMap;

use super::{Sim, StorageKind, reply::Fail};

/// A volume.
#[derive(Clone, Debug)]
pub(crate) struct Volume {
    pub(crate) bytes: u64,
    /// Turned into a base image by a template conversion.
    pub(crate) base: bool,
    /// The base that this one needs; not recorded on LVM-thin.
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
    /// `volume_has_feature` for container volumes.
    pub(crate) fn has(&self, volid: &str, feature: Feature, snapname: Option<&str>) -> bool {
        let Some(volume) = self.volumes.get(volid) else { return false };
        let Some(storage) = self.storage_of(volid) else { return false };
        match (storage, feature) {
            (StorageKind::LvmThin, Feature::Clone) => volume.base || snapname.is_some(),
            (StorageKind::ZfsPool, Feature::Clone) => volume.base && snapname.is_none(),
            (StorageKind::LvmThin | StorageKind::ZfsPool, Feature::Snapshot) => !volume.base,
            (StorageKind::Dir, Feature::Clone | Feature::Snapshot) => false,
            (_, Feature::Template) => !volume.base,
        }
    }

    pub(crate) fn storage_of(&self, volid: &str) -> Option<StorageKind> {
        let id = volid.split(':').next()?;
        self.setup.storages.iter().find(|storage| storage.id == id).map(|storage| storage.kind)
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
    pub(crate) fn new_volume(&mut self, storage: &str, vmid: u32, bytes: u64, base: Option<&str>) -> String {
        let kind = self.storage_of(&format!("{storage}:"));
        let own = match kind {
            Some(StorageKind::ZfsPool) => format!("subvol-{vmid}-disk-"),
            Some(StorageKind::Dir) => format!("{vmid}/vm-{vmid}-disk-"),
            _ => format!("vm-{vmid}-disk-"),
        };
        let parent = base.filter(|_| kind == Some(StorageKind::ZfsPool)).map(str::to_owned);
        let front = parent.as_deref().and_then(|base| base.split(':').nth(1)).map(|b| format!("{b}/"));
        let prefix = format!("{storage}:{}{own}", front.unwrap_or_default());
        let number = (0u32..).find(|n| !self.volumes.contains_key(&format!("{prefix}{n}"))).unwrap_or(0);
        let volid = format!("{prefix}{number}");
        let volume = Volume { bytes, base: false, parent, snapshots: Vec::new() };
        self.volumes.insert(volid.clone(), volume);
        volid
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

/// The volumes of a config: `rootfs` and `mpN`.
pub(crate) fn volumes(options: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let is_disk =
        |key: &str| key == "rootfs" || key.strip_prefix("mp").is_some_and(|n| n.parse::<u8>().is_ok());
    let volid = |value: &str| value.split(',').next().unwrap_or("").to_owned();
    options.iter().filter(|(key, _)| is_disk(key)).map(|(key, value)| (key.clone(), volid(value))).collect()
}
