//! What `GET …/config` says of a guest.

use std::net::Ipv4Addr;

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::perl;
use crate::sandbox::Sizes;

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
    /// Whether it starts with its node.
    pub onboot: Option<bool>,
    /// `name=eth0,bridge=vmbr0,hwaddr=…,ip=dhcp`, of a VM `virtio=MAC,bridge=vmbr0`
    pub net0: Option<String>,
    /// NUL-separated; left out without `VM.Config.Options`; containers, PVE ≥ 9.1.
    pub env: Option<String>,
    /// `nesting=1,keyctl=1`
    pub features: Option<String>,
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
            features: text("features"),
            hookscript: text("hookscript"),
            parent: text("parent"),
            searchdomain: text("searchdomain"),
            template: rest.get("template").map(perl::truthy),
            protection: rest.get("protection").map(perl::truthy),
            onboot: rest.get("onboot").map(perl::truthy),
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

    /// The value of an option that is text, such as `net0` or `ipconfig1`.
    pub fn option(&self, name: &str) -> Option<&str> {
        if name == "net0" { self.net0.as_deref() } else { self.rest.get(name).and_then(Value::as_str) }
    }

    /// Options that are text, by name; the first network card and what has a field of its own are not among them.
    pub fn options(&self) -> impl Iterator<Item = (&str, &str)> {
        self.rest.iter().filter_map(|(name, value)| Some((name.as_str(), value.as_str()?)))
    }

    /// The same config after these options were changed. Its digest is the one from before.
    #[must_use]
    pub fn with(&self, changes: &[(String, String)]) -> Self {
        let mut changed = self.clone();
        for (name, value) in changes {
            if name == "net0" {
                changed.net0 = Some(value.clone());
            } else {
                changed.rest.insert(name.clone(), Value::String(value.clone()));
            }
        }
        changed
    }

    /// The gateway of its first network card, of a VM in what cloud-init gets.
    pub fn gateway(&self) -> Option<Ipv4Addr> {
        self.network().filter_map(|it| it.strip_prefix("gw=")).find_map(|it| it.parse().ok())
    }

    /// The static address of its first network card, of a VM the one that cloud-init gets.
    pub fn address(&self) -> Option<Ipv4Addr> {
        let static_one = |it: &str| it.strip_prefix("ip=")?.split('/').next()?.parse().ok();
        self.network().find_map(static_one)
    }

    /// The hardware address of its first network card: `hwaddr=MAC`, of a VM `virtio=MAC`.
    pub fn hardware_address(&self) -> Option<&str> {
        mac(self.net0.as_deref()?)
    }

    /// The hardware addresses of all its network cards, in lower case.
    pub fn hardware_addresses(&self) -> Vec<String> {
        let others = self.rest.iter().filter(|(name, _)| name.starts_with("net"));
        let others = others.filter_map(|(_, it)| mac(it.as_str()?));
        self.hardware_address().into_iter().chain(others).map(str::to_ascii_lowercase).collect()
    }

    fn network(&self) -> impl Iterator<Item = &str> {
        let cloud_init = self.option("ipconfig0").filter(|_| self.has_cloud_init());
        self.net0.as_deref().into_iter().chain(cloud_init).flat_map(|it| it.split(','))
    }

    /// MiB that a VM's memory may shrink to; nothing where it does not.
    pub fn balloon(&self) -> Option<u32> {
        let mib = perl::integer(self.rest.get("balloon")?)?;
        u32::try_from(mib).ok().filter(|it| *it > 0)
    }

    /// The bridge of its first network card.
    pub fn bridge(&self) -> Option<&str> {
        self.net0.as_deref()?.split(',').find_map(|it| it.strip_prefix("bridge="))
    }

    /// The size of the disk that it boots from, in bytes. PVE knows it of a volume whose `size=` was
    /// left out, too (`pct rescan`), but its config does not tell it.
    pub fn disk_bytes(&self) -> Option<u64> {
        bytes(self.boot_disk()?.1.split(',').find_map(|it| it.strip_prefix("size="))?)
    }

    /// The same in GiB, rounded up.
    pub fn disk_gib(&self) -> Option<u32> {
        self.disk_bytes().and_then(|it| u32::try_from(it.div_ceil(1 << 30)).ok())
    }

    /// Cores, MiB and GiB that it has.
    pub fn sizes(&self) -> Sizes {
        let number = |name: &str| {
            let value = self.rest.get(name)?;
            // `current=2048`
            let bare = value.as_str().and_then(|it| it.strip_prefix("current=")).map(Value::from);
            u32::try_from(perl::integer(bare.as_ref().unwrap_or(value))?).ok()
        };
        // A VM has one core where it does not say, a container all of its node's.
        let is_vm = self.rest.get("rootfs").is_none();
        let cores = number("cores").or(is_vm.then_some(1));
        Sizes {
            cpu: cores.map(|it| it * number("sockets").unwrap_or(1)),
            memory: number("memory").or(Some(512)),
            disk: self.disk_gib(),
        }
    }

    /// Whether PVE asks a VM's guest agent: `agent: 1`, or `enabled=1` among others.
    pub fn has_agent(&self) -> bool {
        match self.rest.get("agent") {
            Some(Value::String(text)) => text.split(',').any(|it| {
                let value = it.strip_prefix("enabled=").unwrap_or(it);
                matches!(value, "1" | "on" | "yes" | "true")
            }),
            Some(other) => perl::truthy(other),
            None => false,
        }
    }

    /// Whether PVE tells a VM its address and name by a cloud-init drive.
    pub fn has_cloud_init(&self) -> bool {
        self.rest.iter().any(|(name, value)| {
            BUSES.iter().any(|bus| name.starts_with(bus))
                && value.as_str().is_some_and(|it| it.contains("cloudinit"))
        })
    }

    /// Whether clones can be made of it. A VM is called a template before its disks are base volumes
    /// (qemu-server `API2/Qemu.pm` `template`), a container after that (rule S2.2).
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

/// The hardware address in a network card's options.
fn mac(options: &str) -> Option<&str> {
    let values = options.split(',').filter_map(|it| it.split_once('='));
    let is_mac = |it: &str| it.len() == 17 && it.split(':').all(|it| u8::from_str_radix(it, 16).is_ok());
    values.map(|(_, value)| value).find(|it| is_mac(it))
}

/// `8G`, `2560M` or `2.5G`: as PVE reads them (pve-common `JSONSchema.pm` `parse_size`).
fn bytes(size: &str) -> Option<u64> {
    let (number, shift) = match size.as_bytes().last()? {
        b'T' => (size.strip_suffix('T')?, 40),
        b'G' => (size.strip_suffix('G')?, 30),
        b'M' => (size.strip_suffix('M')?, 20),
        b'K' => (size.strip_suffix('K')?, 10),
        _ => (size, 0),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let is_fine = is_number(whole) && fraction.bytes().all(|it| it.is_ascii_digit());
    let whole = whole.parse::<u64>().ok().filter(|_| is_fine)?.checked_mul(1 << shift)?;
    let digits: String = fraction.chars().take(9).collect();
    let scale = 10_u64.pow(u32::try_from(digits.len()).ok()?);
    let part = u128::from(digits.parse::<u64>().unwrap_or(0)) * (1_u128 << shift) / u128::from(scale);
    whole.checked_add(u64::try_from(part).ok()?)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_as_pve_writes_and_reads_them() {
        for (text, expected) in [
            ("8G", Some(8 << 30)),
            ("2560M", Some(5 << 29)),
            ("2.5G", Some(5 << 29)),
            ("1.5T", Some(3 << 39)),
            ("4194304K", Some(4 << 30)),
            ("512", Some(512)),
            ("0T", Some(0)),
            ("", None),
            ("G", None),
            ("2.5.1G", None),
            ("8Q", None),
            ("99999999999999T", None),
        ] {
            assert_eq!(bytes(text), expected, "{text}");
        }
        let gib = |rootfs: &str| {
            let config: Config = serde_json::from_value(serde_json::json!({"rootfs": rootfs})).unwrap();
            (config.disk_bytes(), config.disk_gib())
        };
        assert_eq!(gib("tank:subvol-1-disk-0,size=2.5G"), (Some(5 << 29), Some(3)));
        assert_eq!(gib("tank:subvol-1-disk-0"), (None, None));
    }

    #[test]
    fn the_first_network_card_tells_addresses() {
        let config = |options: serde_json::Value| serde_json::from_value::<Config>(options).unwrap();
        let container = config(serde_json::json!({
            "net0": "name=eth0,bridge=vmbr0,hwaddr=BC:24:11:AA:00:01,ip=10.0.0.9/24,gw=10.0.0.1",
            "net1": "name=eth1,hwaddr=BC:24:11:AA:00:02,ip=10.1.0.9/24",
        }));
        assert_eq!(container.address(), Some([10, 0, 0, 9].into()));
        assert_eq!(container.hardware_address(), Some("BC:24:11:AA:00:01"));
        let dynamic = config(serde_json::json!({"net0": "name=eth0,bridge=vmbr0,ip=dhcp"}));
        assert_eq!((dynamic.address(), dynamic.hardware_address()), (None, None));
        let options = serde_json::json!({"net0": "virtio=bc:24:11:aa:00:03,bridge=vmbr0", "ipconfig0": "ip=10.0.0.7/24"});
        let vm = config(options);
        assert_eq!((vm.address(), vm.hardware_address()), (None, Some("bc:24:11:aa:00:03")));
        let vm = vm.with(&[("ide2".into(), "local:vm-1-cloudinit,media=cdrom".into())]);
        assert_eq!(vm.address(), Some([10, 0, 0, 7].into()));
    }
}
