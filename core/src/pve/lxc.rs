//! Calls about one container.

use serde::Deserialize;
use serde_json::Value;

use super::{Call, Pve, perl, task::Upid};
use crate::vmid::Vmid;

/// One container on one node; its methods read like PVE's paths.
#[derive(Clone, Copy, Debug)]
pub struct Lxc<'a> {
    pve: &'a Pve,
    node: &'a str,
    vmid: Vmid,
}

/// `GET …/config`, as far as we use it.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Config {
    /// Of the whole file: locks and starts change it too.
    #[serde(default)]
    pub digest: String,
    /// Who works on the guest.
    #[serde(default)]
    pub lock: Option<String>,
    /// Joined with `;`.
    #[serde(default)]
    pub tags: Option<String>,
    /// LXC reads back exactly one trailing newline.
    #[serde(default)]
    pub description: Option<String>,
    /// Also the name that the PVE UI shows.
    #[serde(default)]
    pub hostname: Option<String>,
    /// Whether it is a template.
    #[serde(default, deserialize_with = "perl::boolean")]
    pub template: Option<bool>,
    /// Whether PVE refuses to destroy it.
    #[serde(default, deserialize_with = "perl::boolean")]
    pub protection: Option<bool>,
    /// `name=eth0,bridge=vmbr0,hwaddr=…,ip=dhcp`
    #[serde(default)]
    pub net0: Option<String>,
    /// NUL-separated; left out without `VM.Config.Options`; PVE ≥ 9.1.
    #[serde(default)]
    pub env: Option<String>,
    /// Run by PVE before and after starts.
    #[serde(default)]
    pub hookscript: Option<String>,
    /// `local-lvm:vm-100-disk-0,size=32G`
    #[serde(default)]
    pub rootfs: Option<String>,
    /// Cores; absent = all of the node's.
    #[serde(default, deserialize_with = "perl::number")]
    pub cores: Option<u64>,
    /// MiB.
    #[serde(default, deserialize_with = "perl::number")]
    pub memory: Option<u64>,
    /// DNS search domain.
    #[serde(default)]
    pub searchdomain: Option<String>,
}

impl Config {
    /// The root disk's size in GiB, rounded down.
    pub fn disk_gib(&self) -> Option<u32> {
        let size = self.rootfs.as_deref()?.split(',').find_map(|it| it.strip_prefix("size="))?;
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
}

/// `GET …/status/current`, as far as we use it.
#[derive(Clone, Debug, Deserialize)]
pub struct Status {
    /// `running` or `stopped`.
    pub status: String,
}

/// `GET …/feature`.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Feature {
    /// Whether the guest's volumes can do it.
    #[serde(rename = "hasFeature", deserialize_with = "perl::flag")]
    pub has_feature: bool,
}

/// One interface of `GET …/interfaces`.
#[derive(Clone, Debug, Deserialize)]
pub struct Interface {
    /// `eth0`, `lo`, …
    #[serde(default)]
    pub name: String,
    /// `10.0.0.5/24`
    #[serde(default)]
    pub inet: Option<String>,
}

impl Pve {
    /// The container `vmid` on `node`.
    pub fn lxc<'a>(&'a self, node: &'a str, vmid: Vmid) -> Lxc<'a> {
        Lxc { pve: self, node, vmid }
    }
}

impl Lxc<'_> {
    /// `GET /nodes/{node}/lxc/{vmid}/config` ([API viewer](https://pve.proxmox.com/pve-docs/api-viewer/#/nodes/{node}/lxc/{vmid}/config))
    ///
    /// Answered by pveproxy, not by one of pvedaemon's three workers: cheap and current.
    pub fn config(&self) -> Call<Config> {
        let Self { pve, node, vmid } = self;
        pve.get("/nodes/{node}/lxc/{vmid}/config", &[&"nodes", node, &"lxc", vmid, &"config"], &[])
    }

    /// `PUT /nodes/{node}/lxc/{vmid}/config` ([API viewer](https://pve.proxmox.com/pve-docs/api-viewer/#/nodes/{node}/lxc/{vmid}/config))
    ///
    /// All or nothing. With `digest` it is a compare-and-swap; any lock refuses it.
    pub fn set_config(&self, form: &[(&str, &str)]) -> Call<Value> {
        let Self { pve, node, vmid } = self;
        pve.put("/nodes/{node}/lxc/{vmid}/config", &[&"nodes", node, &"lxc", vmid, &"config"], form)
    }

    /// `PUT /nodes/{node}/lxc/{vmid}/resize` ([API viewer](https://pve.proxmox.com/pve-docs/api-viewer/#/nodes/{node}/lxc/{vmid}/resize))
    ///
    /// `size` is absolute. A size that it has already is an error of its own.
    pub fn grow_rootfs(&self, gib: u32) -> Call<Value> {
        let Self { pve, node, vmid } = self;
        let size = format!("{gib}G");
        let form = [("disk", "rootfs"), ("size", &*size)];
        pve.put("/nodes/{node}/lxc/{vmid}/resize", &[&"nodes", node, &"lxc", vmid, &"resize"], &form)
    }

    /// `POST /nodes/{node}/lxc/{vmid}/clone` ([API viewer](https://pve.proxmox.com/pve-docs/api-viewer/#/nodes/{node}/lxc/{vmid}/clone))
    ///
    /// Claims `newid` for the whole cluster and writes hostname and
    /// description before it answers; tags and all else are the source's
    /// until they are set. The source stays locked until the worker ends.
    pub fn clone_to(
        &self,
        newid: Vmid,
        hostname: &str,
        description: &str,
        target: Option<&str>,
    ) -> Call<Upid> {
        let Self { pve, node, vmid } = self;
        let newid = newid.to_string();
        let mut form =
            vec![("newid", &*newid), ("hostname", hostname), ("description", description), ("full", "0")];
        form.extend(target.map(|node| ("target", node)));
        pve.post("/nodes/{node}/lxc/{vmid}/clone", &[&"nodes", node, &"lxc", vmid, &"clone"], &form)
    }

    /// `GET /nodes/{node}/lxc/{vmid}/status/current` ([API viewer](https://pve.proxmox.com/pve-docs/api-viewer/#/nodes/{node}/lxc/{vmid}/status/current))
    pub fn status(&self) -> Call<Status> {
        let Self { pve, node, vmid } = self;
        pve.get(
            "/nodes/{node}/lxc/{vmid}/status/current",
            &[&"nodes", node, &"lxc", vmid, &"status", &"current"],
            &[],
        )
    }

    /// `POST /nodes/{node}/lxc/{vmid}/status/start` ([API viewer](https://pve.proxmox.com/pve-docs/api-viewer/#/nodes/{node}/lxc/{vmid}/status/start))
    pub fn start(&self) -> Call<Upid> {
        self.power("/nodes/{node}/lxc/{vmid}/status/start", "start", &[])
    }

    /// `POST /nodes/{node}/lxc/{vmid}/status/stop` ([API viewer](https://pve.proxmox.com/pve-docs/api-viewer/#/nodes/{node}/lxc/{vmid}/status/stop)): kills.
    pub fn stop(&self) -> Call<Upid> {
        self.power("/nodes/{node}/lxc/{vmid}/status/stop", "stop", &[])
    }

    /// `POST /nodes/{node}/lxc/{vmid}/status/shutdown` ([API viewer](https://pve.proxmox.com/pve-docs/api-viewer/#/nodes/{node}/lxc/{vmid}/status/shutdown))
    ///
    /// Asks the guest, and kills it after `timeout` seconds. Meanwhile no config can be written.
    pub fn shutdown(&self, timeout: u32) -> Call<Upid> {
        let form = [("timeout", &*timeout.to_string()), ("forceStop", "1")];
        self.power("/nodes/{node}/lxc/{vmid}/status/shutdown", "shutdown", &form)
    }

    /// `POST /nodes/{node}/lxc/{vmid}/status/reboot` ([API viewer](https://pve.proxmox.com/pve-docs/api-viewer/#/nodes/{node}/lxc/{vmid}/status/reboot))
    pub fn reboot(&self, timeout: u32) -> Call<Upid> {
        self.power("/nodes/{node}/lxc/{vmid}/status/reboot", "reboot", &[("timeout", &*timeout.to_string())])
    }

    /// `POST /nodes/{node}/lxc/{vmid}/status/suspend` ([API viewer](https://pve.proxmox.com/pve-docs/api-viewer/#/nodes/{node}/lxc/{vmid}/status/suspend))
    ///
    /// Experimental in PVE: `lxc-checkpoint`, which needs the optional package criu.
    pub fn suspend(&self) -> Call<Upid> {
        self.power("/nodes/{node}/lxc/{vmid}/status/suspend", "suspend", &[])
    }

    /// `POST /nodes/{node}/lxc/{vmid}/status/resume` ([API viewer](https://pve.proxmox.com/pve-docs/api-viewer/#/nodes/{node}/lxc/{vmid}/status/resume))
    pub fn resume(&self) -> Call<Upid> {
        self.power("/nodes/{node}/lxc/{vmid}/status/resume", "resume", &[])
    }

    /// `GET /nodes/{node}/lxc/{vmid}/feature` ([API viewer](https://pve.proxmox.com/pve-docs/api-viewer/#/nodes/{node}/lxc/{vmid}/feature))
    pub fn has_feature(&self, feature: &str) -> Call<Feature> {
        let Self { pve, node, vmid } = self;
        let path: [&dyn std::fmt::Display; 5] = [&"nodes", node, &"lxc", vmid, &"feature"];
        pve.get("/nodes/{node}/lxc/{vmid}/feature", &path, &[("feature", feature)])
    }

    /// `POST /nodes/{node}/lxc/{vmid}/snapshot` ([API viewer](https://pve.proxmox.com/pve-docs/api-viewer/#/nodes/{node}/lxc/{vmid}/snapshot))
    ///
    /// A running container is frozen for a moment.
    pub fn take_snapshot(&self, snapname: &str) -> Call<Upid> {
        let Self { pve, node, vmid } = self;
        let path: [&dyn std::fmt::Display; 5] = [&"nodes", node, &"lxc", vmid, &"snapshot"];
        pve.post("/nodes/{node}/lxc/{vmid}/snapshot", &path, &[("snapname", snapname)])
    }

    /// `DELETE /nodes/{node}/lxc/{vmid}/snapshot/{snapname}` ([API viewer](https://pve.proxmox.com/pve-docs/api-viewer/#/nodes/{node}/lxc/{vmid}/snapshot/{snapname}))
    pub fn remove_snapshot(&self, snapname: &str) -> Call<Upid> {
        let Self { pve, node, vmid } = self;
        let path: [&dyn std::fmt::Display; 6] = [&"nodes", node, &"lxc", vmid, &"snapshot", &snapname];
        pve.delete("/nodes/{node}/lxc/{vmid}/snapshot/{snapname}", &path, &[])
    }

    /// `POST /nodes/{node}/lxc/{vmid}/clone` of a snapshot ([API viewer](https://pve.proxmox.com/pve-docs/api-viewer/#/nodes/{node}/lxc/{vmid}/clone))
    ///
    /// The container may run. A full copy keeps it locked until it ends.
    pub fn copy_snapshot(
        &self,
        newid: Vmid,
        hostname: &str,
        description: &str,
        snapname: &str,
        full: bool,
    ) -> Call<Upid> {
        let Self { pve, node, vmid } = self;
        let newid = newid.to_string();
        let form = [
            ("newid", &*newid),
            ("hostname", hostname),
            ("description", description),
            ("snapname", snapname),
            ("full", if full { "1" } else { "0" }),
        ];
        pve.post("/nodes/{node}/lxc/{vmid}/clone", &[&"nodes", node, &"lxc", vmid, &"clone"], &form)
    }

    /// `POST /nodes/{node}/lxc/{vmid}/template` ([API viewer](https://pve.proxmox.com/pve-docs/api-viewer/#/nodes/{node}/lxc/{vmid}/template))
    ///
    /// Answers null although a task runs: poll `template` of the config.
    pub fn make_template(&self) -> Call<Value> {
        let Self { pve, node, vmid } = self;
        let path: [&dyn std::fmt::Display; 5] = [&"nodes", node, &"lxc", vmid, &"template"];
        pve.post("/nodes/{node}/lxc/{vmid}/template", &path, &[])
    }

    fn power<T>(&self, template: &'static str, action: &str, form: &[(&str, &str)]) -> Call<T> {
        let Self { pve, node, vmid } = self;
        pve.post(template, &[&"nodes", node, &"lxc", vmid, &"status", &action], form)
    }

    /// `DELETE /nodes/{node}/lxc/{vmid}?force=1&purge=1` ([API viewer](https://pve.proxmox.com/pve-docs/api-viewer/#/nodes/{node}/lxc/{vmid}))
    ///
    /// Has no digest: send it right after the read that showed whose guest it
    /// is. `force` stops a running one; locks and protection still refuse.
    pub fn destroy(&self) -> Call<Upid> {
        let Self { pve, node, vmid } = self;
        pve.delete(
            "/nodes/{node}/lxc/{vmid}",
            &[&"nodes", node, &"lxc", vmid],
            &[("force", "1"), ("purge", "1")],
        )
    }

    /// `GET /nodes/{node}/lxc/{vmid}/interfaces` ([API viewer](https://pve.proxmox.com/pve-docs/api-viewer/#/nodes/{node}/lxc/{vmid}/interfaces))
    ///
    /// Live addresses, DHCP included; `null` while stopped; PVE ≥ 8.1.
    pub fn interfaces(&self) -> Call<Option<Vec<Interface>>> {
        let Self { pve, node, vmid } = self;
        pve.get("/nodes/{node}/lxc/{vmid}/interfaces", &[&"nodes", node, &"lxc", vmid, &"interfaces"], &[])
    }
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
