//! What `GET …/config` says of a guest.

use std::net::Ipv4Addr;

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::perl;

/// `GET …/config`, as far as we use it.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Of the whole file: locks and starts change it too.
    pub digest: String,
    /// Who works on the guest.
    pub lock: Option<String>,
    /// Joined with `;`.
    pub tags: Option<String>,
    /// LXC reads back exactly one trailing newline, QEMU none.
    pub description: Option<String>,
    /// Whether it is a template.
    pub template: Option<bool>,
    /// Whether PVE refuses to destroy it.
    pub protection: Option<bool>,
    /// `name=eth0,bridge=vmbr0,hwaddr=…,ip=dhcp`, of a VM `virtio=MAC,bridge=vmbr0`
    pub net0: Option<String>,
    /// NUL-separated; left out without `VM.Config.Options`; containers, PVE ≥ 9.1.
    pub env: Option<String>,
    /// Run by PVE before and after starts.
    pub hookscript: Option<String>,
    /// The newest of PVE's snapshots on the way to what it is now; absent where there is none.
    pub parent: Option<String>,
    /// DNS search domain.
    pub searchdomain: Option<String>,
    /// All else, disks for instance.
    rest: Map<String, Value>,
}

impl<'de> Deserialize<'de> for Config {
    /// By hand: a Worker's bundle is smaller for it, and disks have many names.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut rest = Map::deserialize(deserializer)?;
        let mut text = |name| match rest.remove(name) {
            Some(Value::String(text)) => Some(text),
            _ => None,
        };
        Ok(Self {
            digest: text("digest").unwrap_or_default(),
            lock: text("lock"),
            tags: text("tags"),
            description: text("description"),
            net0: text("net0"),
            env: text("env"),
            hookscript: text("hookscript"),
            parent: text("parent"),
            searchdomain: text("searchdomain"),
            template: rest.get("template").map(perl::truthy),
            protection: rest.get("protection").map(perl::truthy),
            rest,
        })
    }
}

/// Buses of a VM's disks, in the order in which firmware looks at them.
const BUSES: [&str; 4] = ["virtio", "scsi", "sata", "ide"];

impl Config {
    /// Name and volume of the disk that it boots from: `rootfs`, or what a VM's boot order names first.
    pub fn boot_disk(&self) -> Option<(&str, &str)> {
        let text = |name: &str| self.rest.get(name).and_then(Value::as_str);
        if let Some(rootfs) = text("rootfs") {
            return Some(("rootfs", rootfs));
        }
        let order = text("boot").and_then(|it| it.split(',').find_map(|it| it.strip_prefix("order=")));
        let order = order.unwrap_or_default().split(';').chain(text("bootdisk"));
        let known = self.rest.keys().map(String::as_str);
        order
            .chain(known)
            .filter(|name| BUSES.iter().any(|bus| name.strip_prefix(bus).is_some_and(is_number)))
            .filter_map(|name| Some((name, text(name)?)))
            .find(|(_, value)| !value.contains("media=cdrom"))
    }

    /// The storage that has the disk it boots from.
    pub fn storage(&self) -> Option<&str> {
        self.boot_disk()?.1.split(':').next()
    }

    /// All storages that its volumes are on. PVE clones to another node only where all of them are
    /// shared, that of a VM's CD-ROM too (qemu-server `API2/Qemu.pm` `check_storage_access_clone`).
    pub fn storages(&self) -> Vec<&str> {
        let is_disk = |name: &str| {
            matches!(name, "rootfs" | "efidisk0" | "tpmstate0")
                || ["mp"].iter().chain(&BUSES).any(|bus| name.strip_prefix(bus).is_some_and(is_number))
        };
        let volumes = self.rest.iter().filter(|(name, _)| is_disk(name));
        volumes.filter_map(|(_, value)| value.as_str()?.split_once(':')).map(|(storage, _)| storage).collect()
    }

    /// The gateway of its first network card, of a VM in what cloud-init gets.
    pub fn gateway(&self) -> Option<Ipv4Addr> {
        let cloud_init = self.rest.get("ipconfig0").and_then(Value::as_str);
        let options = self.net0.as_deref().into_iter().chain(cloud_init).flat_map(|it| it.split(','));
        options.filter_map(|it| it.strip_prefix("gw=")).find_map(|it| it.parse().ok())
    }

    /// The bridge of its first network card.
    pub fn bridge(&self) -> Option<&str> {
        self.net0.as_deref()?.split(',').find_map(|it| it.strip_prefix("bridge="))
    }

    /// The size of the disk that it boots from, in GiB, rounded down.
    pub fn disk_gib(&self) -> Option<u32> {
        let size = self.boot_disk()?.1.split(',').find_map(|it| it.strip_prefix("size="))?;
        let (digits, unit) = size.split_at(size.find(|it: char| !it.is_ascii_digit()).unwrap_or(size.len()));
        let number: u64 = digits.parse().ok()?;
        let gib = match unit {
            "T" => number * 1024,
            "G" => number,
            "M" => number / 1024,
            "K" => number / (1024 * 1024),
            _ => number >> 30,
        };
        u32::try_from(gib).ok()
    }

    /// Whether PVE tells a VM its address and name by a cloud-init drive.
    pub fn has_cloud_init(&self) -> bool {
        self.rest.iter().any(|(name, value)| {
            BUSES.iter().any(|bus| name.starts_with(bus))
                && value.as_str().is_some_and(|it| it.contains("cloudinit"))
        })
    }

    /// Whether clones can be made of it. A VM is called a template before its
    /// disks are base volumes (qemu-server `API2/Qemu.pm` `template`), a
    /// container after that.
    pub fn is_finished_template(&self) -> bool {
        self.template == Some(true)
            && self.boot_disk().is_none_or(|(name, volume)| name == "rootfs" || volume.contains("base-"))
    }

    /// The first moment of a clone, when nothing tells yet whose it is.
    pub fn is_unknown_yet(&self) -> bool {
        let text = self.description.as_deref().unwrap_or_default().trim();
        match self.lock.as_deref() {
            Some("create") => text.is_empty(),
            // What a VM's clone writes first (qemu-server `API2/Qemu.pm` `clone_vm`).
            Some("clone") => text.is_empty() || text == "qmclone temporary file",
            _ => false,
        }
    }

    /// Whether it is a VM whose memory is on disk: PVE takes no change of it.
    pub fn is_suspended(&self) -> bool {
        self.lock.as_deref() == Some("suspended")
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit())
}

/// PVE's `key=value,…` lists, order kept: `net0`.
pub(crate) fn with_options(list: &str, changes: &[(&str, Option<String>)]) -> String {
    let mut parts: Vec<(String, String)> = list
        .split(',')
        .filter_map(|part| part.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    for (key, value) in changes {
        let at = parts.iter().position(|(name, _)| name == key);
        match (at, value) {
            (Some(at), Some(value)) => {
                if let Some(part) = parts.get_mut(at) {
                    part.1.clone_from(value);
                }
            }
            (Some(at), None) => {
                parts.remove(at);
            }
            (None, Some(value)) => parts.push(((*key).to_owned(), value.clone())),
            (None, None) => {}
        }
    }
    parts.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}
