//! Calls that any node answers for the whole cluster.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Call, Pve, perl};
use crate::sandbox::id::Kind;

/// One row of `/cluster/resources`.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Resource {
    /// `lxc`, `qemu`, `node`, `storage`, …
    #[serde(rename = "type", default)]
    pub kind: String,
    /// Guests only.
    #[serde(default, deserialize_with = "perl::number")]
    pub vmid: Option<u64>,
    /// Where it is.
    #[serde(default)]
    pub node: String,
    /// Up to 15 s old for guests; `unknown` for new ones.
    #[serde(default)]
    pub status: String,
    /// Stale as `status`: another guest's after a VMID was reused.
    #[serde(default)]
    pub name: Option<String>,
    /// Stale as `status`; absent for new guests.
    #[serde(default, deserialize_with = "perl::boolean")]
    pub template: Option<bool>,
    /// Live.
    #[serde(default)]
    pub tags: Option<String>,
    /// Live.
    #[serde(default)]
    pub lock: Option<String>,
    /// Cores.
    #[serde(default, deserialize_with = "perl::number")]
    pub maxcpu: Option<u64>,
    /// Bytes.
    #[serde(default, deserialize_with = "perl::number")]
    pub maxmem: Option<u64>,
    /// Bytes in use.
    #[serde(default, deserialize_with = "perl::number")]
    pub mem: Option<u64>,
    /// Storages only.
    #[serde(default)]
    pub storage: Option<String>,
    /// Storages: `rootdir,images`.
    #[serde(default)]
    pub content: Option<String>,
    /// Storages: `lvmthin`, `zfspool`, …
    #[serde(default)]
    pub plugintype: Option<String>,
    /// Storages: whether all nodes that have it see the same volumes.
    #[serde(default, deserialize_with = "perl::boolean")]
    pub shared: Option<bool>,
    /// Bytes.
    #[serde(default, deserialize_with = "perl::number")]
    pub maxdisk: Option<u64>,
    /// Bytes in use.
    #[serde(default, deserialize_with = "perl::number")]
    pub disk: Option<u64>,
}

impl Resource {
    /// Free bytes of a storage.
    pub fn free(&self) -> u64 {
        self.maxdisk.unwrap_or(0).saturating_sub(self.disk.unwrap_or(0))
    }

    /// Whether a storage makes linked clones of templates of this kind: of VMs by the format of a
    /// file too (pve-storage `Plugin.pm` `volume_has_feature`). One of no type that is known does.
    pub fn makes_linked_clones(&self, kind: Kind) -> bool {
        match self.plugintype.as_deref() {
            None | Some("btrfs" | "lvmthin" | "rbd" | "zfspool") => true,
            Some("cephfs" | "cifs" | "dir" | "glusterfs" | "nfs" | "zfs") => kind == Kind::Qemu,
            Some(_) => false,
        }
    }

    /// Whether a storage may hold disks of guests of this kind.
    pub fn takes_disks(&self, kind: Kind) -> bool {
        self.takes(if kind == Kind::Lxc { "rootdir" } else { "images" })
    }

    /// Whether a storage may hold this content; one whose content is unknown may.
    pub fn takes(&self, content: &str) -> bool {
        self.content.as_deref().is_none_or(|all| all.split(',').any(|it| it.trim() == content))
    }
}

/// `GET /version`.
#[derive(Clone, Debug, Deserialize)]
pub struct Version {
    /// `9.1.4`
    pub version: String,
}

impl Version {
    /// Major and minor, for features.
    pub fn number(&self) -> (u32, u32) {
        let mut parts = self.version.split(['.', '-']).map(|it| it.parse().unwrap_or(0));
        (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
    }
}

/// Path → privilege → whether it is inherited below that path.
pub type Permissions = Map<String, Value>;

impl Pve {
    /// `GET /cluster/resources` ([API viewer](https://pve.proxmox.com/pve-docs/api-viewer/#/cluster/resources))
    ///
    /// Guests, nodes and storages in one answer. Which guests exist, their
    /// node, `tags` and `lock` are live; the rest is up to 15 s old. A guest
    /// without `VM.Audit` is left out silently (pve-manager `API2/Cluster.pm`).
    pub fn resources(&self) -> Call<Vec<Resource>> {
        self.get("/cluster/resources", &[&"cluster", &"resources"], &[])
    }

    /// `GET /version` ([API viewer](https://pve.proxmox.com/pve-docs/api-viewer/#/version))
    pub fn version(&self) -> Call<Version> {
        self.get("/version", &[&"version"], &[])
    }

    /// `GET /access/permissions` ([API viewer](https://pve.proxmox.com/pve-docs/api-viewer/#/access/permissions))
    ///
    /// The token's own rights; every token may ask.
    pub fn permissions(&self) -> Call<Permissions> {
        self.get("/access/permissions", &[&"access", &"permissions"], &[])
    }

    /// `GET /nodes/{node}/network?type=any_bridge` ([API viewer](https://pve.proxmox.com/pve-docs/api-viewer/#/nodes/{node}/network))
    ///
    /// Bridges as they are configured, objects with `iface`; since PVE 8 those that the token may use or see.
    pub fn bridges(&self, node: &str) -> Call<Vec<Value>> {
        self.get("/nodes/{node}/network", &[&"nodes", &node, &"network"], &[("type", "any_bridge")])
    }

    /// `GET /nodes/{node}/dns` ([API viewer](https://pve.proxmox.com/pve-docs/api-viewer/#/nodes/{node}/dns))
    ///
    /// `search` is the domain in which the network's DNS knows its guests. Needs `Sys.Audit`.
    pub fn dns(&self, node: &str) -> Call<Map<String, Value>> {
        self.get("/nodes/{node}/dns", &[&"nodes", &node, &"dns"], &[])
    }
}
