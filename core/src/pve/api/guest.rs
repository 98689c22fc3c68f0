//! Calls about one guest, a container or a virtual machine. Paths and a few
//! names differ by kind, what is done with them does not.

use std::fmt;

use serde::Deserialize;
use serde_json::Value;

use super::{Call, Pve, config::Config, perl, task::Upid};
use crate::sandbox::{id::Kind, vmid::Vmid};

impl Kind {
    /// The program on a node that does what no API token can.
    pub const fn tool(self) -> &'static str {
        match self {
            Self::Lxc => "pct",
            Self::Qemu => "qm",
        }
    }

    /// As tasks name what starts one.
    pub const fn starts(self) -> &'static str {
        match self {
            Self::Lxc => "vzstart",
            Self::Qemu => "qmstart",
        }
    }

    /// As tasks name what copies one.
    pub const fn clones(self) -> &'static str {
        match self {
            Self::Lxc => "vzclone",
            Self::Qemu => "qmclone",
        }
    }

    /// As tasks name what destroys one.
    pub const fn destroys(self) -> &'static str {
        match self {
            Self::Lxc => "vzdestroy",
            Self::Qemu => "qmdestroy",
        }
    }

    /// As tasks name what makes it a template.
    pub const fn converts(self) -> &'static str {
        match self {
            Self::Lxc => "vztemplate",
            Self::Qemu => "qmtemplate",
        }
    }

    /// The parameter that names a guest; it is its hostname too.
    pub const fn name_parameter(self) -> &'static str {
        match self {
            Self::Lxc => "hostname",
            Self::Qemu => "name",
        }
    }
}

/// One guest on one node; its methods read like PVE's paths.
#[derive(Clone, Copy, Debug)]
pub struct Guest<'a> {
    pve: &'a Pve,
    node: &'a str,
    kind: Kind,
    vmid: Vmid,
}

/// `GET …/status/current`, as far as we use it.
#[derive(Clone, Debug, Deserialize)]
pub struct Status {
    /// `running` or `stopped`.
    pub status: String,
    /// Seconds since its start; of a VM a restart by itself does not count.
    #[serde(default)]
    uptime: Value,
}

impl Status {
    /// Seconds since its start.
    pub fn uptime(&self) -> i64 {
        perl::integer(&self.uptime).unwrap_or(0)
    }
}

/// `GET …/feature`.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Feature {
    /// Whether the guest's volumes can do it.
    #[serde(rename = "hasFeature", deserialize_with = "perl::flag")]
    pub has_feature: bool,
}

/// What a clone shall be.
#[derive(Clone, Copy, Debug)]
pub struct NewGuest<'a> {
    /// Its VMID.
    pub newid: Vmid,
    /// Its name, and hostname.
    pub name: &'a str,
    /// Carries the intent.
    pub description: &'a str,
    /// The node that shall have it, where that is another one.
    pub target: Option<&'a str>,
    /// The storage of a full copy, where that is another one than the source's.
    pub storage: Option<&'a str>,
    /// The snapshot that it is made of, and not what the source is now.
    pub snapname: Option<&'a str>,
    /// Whether all is copied.
    pub full: bool,
}

impl Pve {
    /// The guest `vmid` on `node`.
    pub fn guest<'a>(&'a self, node: &'a str, kind: Kind, vmid: Vmid) -> Guest<'a> {
        Guest { pve: self, node, kind, vmid }
    }
}

impl Guest<'_> {
    /// `GET /nodes/{node}/{kind}/{vmid}/config` ([API viewer](https://pve.proxmox.com/pve-docs/api-viewer/#/nodes/{node}/lxc/{vmid}/config))
    ///
    /// Answered by pveproxy, not by one of pvedaemon's three workers: cheap
    /// and current. A VM's PUT writes option by option into a pending part
    /// first and applies them at once (qemu-server `API2/Qemu.pm`
    /// `update_vm_api`): what a failed one left there is not looked at.
    pub fn config(&self) -> Call<Config> {
        let current: &[_] = if self.kind == Kind::Qemu { &[("current", "1")] } else { &[] };
        self.get("/nodes/{node}/{kind}/{vmid}/config", &[&"config"], current)
    }

    /// The same, without what waits for a start.
    pub fn config_now(&self) -> Call<Config> {
        self.get("/nodes/{node}/{kind}/{vmid}/config", &[&"config"], &[("current", "1")])
    }

    /// `PUT /nodes/{node}/{kind}/{vmid}/config` ([API viewer](https://pve.proxmox.com/pve-docs/api-viewer/#/nodes/{node}/lxc/{vmid}/config))
    ///
    /// All or nothing. With `digest` it is a compare-and-swap; any lock refuses it.
    pub fn set_config(&self, form: &[(&str, &str)]) -> Call<Value> {
        let path = self.path(&[&"config"]);
        self.pve.put("/nodes/{node}/{kind}/{vmid}/config", &path, form)
    }

    /// `PUT /nodes/{node}/{kind}/{vmid}/resize` ([API viewer](https://pve.proxmox.com/pve-docs/api-viewer/#/nodes/{node}/lxc/{vmid}/resize))
    ///
    /// `size` is absolute. A size that it has already is an error of its own. A task's
    /// UPID since PVE 8, null before.
    pub fn grow(&self, disk: &str, gib: u32) -> Call<Option<Upid>> {
        let size = format!("{gib}G");
        let path = self.path(&[&"resize"]);
        self.pve.put("/nodes/{node}/{kind}/{vmid}/resize", &path, &[("disk", disk), ("size", &*size)])
    }

    /// `POST /nodes/{node}/{kind}/{vmid}/clone` ([API viewer](https://pve.proxmox.com/pve-docs/api-viewer/#/nodes/{node}/lxc/{vmid}/clone))
    ///
    /// Tags and all else are the source's until they are set. Of a container
    /// it claims `newid` for the whole cluster and writes name and description
    /// before it answers, and the source stays locked until the worker ends.
    /// Of a VM the worker does both, under the lock of `newid` on that node.
    pub fn clone_to(&self, new: &NewGuest<'_>) -> Call<Upid> {
        let newid = new.newid.to_string();
        let mut form = vec![
            ("newid", &*newid),
            (self.kind.name_parameter(), new.name),
            ("description", new.description),
            ("full", if new.full { "1" } else { "0" }),
        ];
        form.extend(new.snapname.map(|it| ("snapname", it)));
        form.extend(new.target.map(|node| ("target", node)));
        form.extend(new.storage.map(|it| ("storage", it)));
        self.post("/nodes/{node}/{kind}/{vmid}/clone", &[&"clone"], &form)
    }

    /// `GET /nodes/{node}/{kind}/{vmid}/status/current` ([API viewer](https://pve.proxmox.com/pve-docs/api-viewer/#/nodes/{node}/lxc/{vmid}/status/current))
    pub fn status(&self) -> Call<Status> {
        self.get("/nodes/{node}/{kind}/{vmid}/status/current", &[&"status", &"current"], &[])
    }

    /// `POST /nodes/{node}/{kind}/{vmid}/status/start` ([API viewer](https://pve.proxmox.com/pve-docs/api-viewer/#/nodes/{node}/lxc/{vmid}/status/start))
    ///
    /// A suspended VM goes on where it was.
    pub fn start(&self) -> Call<Upid> {
        self.power("/nodes/{node}/{kind}/{vmid}/status/start", "start", &[])
    }

    /// `POST /nodes/{node}/{kind}/{vmid}/status/stop` ([API viewer](https://pve.proxmox.com/pve-docs/api-viewer/#/nodes/{node}/lxc/{vmid}/status/stop)): kills.
    pub fn stop(&self) -> Call<Upid> {
        self.power("/nodes/{node}/{kind}/{vmid}/status/stop", "stop", &[])
    }

    /// `POST /nodes/{node}/{kind}/{vmid}/status/shutdown` ([API viewer](https://pve.proxmox.com/pve-docs/api-viewer/#/nodes/{node}/lxc/{vmid}/status/shutdown))
    ///
    /// Asks the guest, and kills it after `timeout` seconds. Meanwhile no config can be written.
    pub fn shutdown(&self, timeout: u32) -> Call<Upid> {
        let form = [("timeout", &*timeout.to_string()), ("forceStop", "1")];
        self.power("/nodes/{node}/{kind}/{vmid}/status/shutdown", "shutdown", &form)
    }

    /// `POST /nodes/{node}/{kind}/{vmid}/status/reboot` ([API viewer](https://pve.proxmox.com/pve-docs/api-viewer/#/nodes/{node}/lxc/{vmid}/status/reboot))
    pub fn reboot(&self, timeout: u32) -> Call<Upid> {
        let form = [("timeout", &*timeout.to_string())];
        self.power("/nodes/{node}/{kind}/{vmid}/status/reboot", "reboot", &form)
    }

    /// `POST /nodes/{node}/{kind}/{vmid}/status/suspend` ([API viewer](https://pve.proxmox.com/pve-docs/api-viewer/#/nodes/{node}/lxc/{vmid}/status/suspend))
    ///
    /// A VM's memory goes to its storage, and the VM is locked (`suspended`)
    /// until it is started. Experimental for containers: `lxc-checkpoint`,
    /// which needs the optional package criu.
    pub fn suspend(&self) -> Call<Upid> {
        let form: &[_] = if self.kind == Kind::Qemu { &[("todisk", "1")] } else { &[] };
        self.power("/nodes/{node}/{kind}/{vmid}/status/suspend", "suspend", form)
    }

    /// `POST /nodes/{node}/{kind}/{vmid}/status/resume` ([API viewer](https://pve.proxmox.com/pve-docs/api-viewer/#/nodes/{node}/lxc/{vmid}/status/resume))
    pub fn resume(&self) -> Call<Upid> {
        self.power("/nodes/{node}/{kind}/{vmid}/status/resume", "resume", &[])
    }

    /// `GET /nodes/{node}/{kind}/{vmid}/feature` ([API viewer](https://pve.proxmox.com/pve-docs/api-viewer/#/nodes/{node}/lxc/{vmid}/feature))
    pub fn has_feature(&self, feature: &str) -> Call<Feature> {
        self.get("/nodes/{node}/{kind}/{vmid}/feature", &[&"feature"], &[("feature", feature)])
    }

    /// `POST /nodes/{node}/{kind}/{vmid}/snapshot` ([API viewer](https://pve.proxmox.com/pve-docs/api-viewer/#/nodes/{node}/lxc/{vmid}/snapshot))
    ///
    /// A running guest is frozen for a moment. `memory` is for VMs alone.
    pub fn take_snapshot(&self, snapname: &str, description: &str, memory: bool) -> Call<Upid> {
        let mut form = vec![("snapname", snapname)];
        form.extend((!description.is_empty()).then_some(("description", description)));
        form.extend(memory.then_some(("vmstate", "1")));
        self.post("/nodes/{node}/{kind}/{vmid}/snapshot", &[&"snapshot"], &form)
    }

    /// `GET /nodes/{node}/{kind}/{vmid}/snapshot` ([API viewer](https://pve.proxmox.com/pve-docs/api-viewer/#/nodes/{node}/lxc/{vmid}/snapshot))
    ///
    /// A list of objects, `current` among them.
    pub fn snapshots(&self) -> Call<Value> {
        self.get("/nodes/{node}/{kind}/{vmid}/snapshot", &[&"snapshot"], &[])
    }

    /// `GET /nodes/{node}/{kind}/{vmid}/config?snapshot=` ([API viewer](https://pve.proxmox.com/pve-docs/api-viewer/#/nodes/{node}/lxc/{vmid}/config))
    ///
    /// What a rollback would bring back.
    pub fn config_of(&self, snapname: &str) -> Call<Config> {
        self.get("/nodes/{node}/{kind}/{vmid}/config", &[&"config"], &[("snapshot", snapname)])
    }

    /// `POST /nodes/{node}/{kind}/{vmid}/snapshot/{snapname}/rollback` ([API viewer](https://pve.proxmox.com/pve-docs/api-viewer/#/nodes/{node}/lxc/{vmid}/snapshot/{snapname}/rollback))
    ///
    /// Kills a running guest. All of the config becomes the snapshot's but the
    /// description (pve-guest-common `AbstractConfig.pm` `snapshot_rollback`).
    /// It names no digest: never to be sent twice.
    pub fn rollback(&self, snapname: &str) -> Call<Upid> {
        let rest: [&dyn fmt::Display; 3] = [&"snapshot", &snapname, &"rollback"];
        self.post("/nodes/{node}/{kind}/{vmid}/snapshot/{snapname}/rollback", &rest, &[])
    }

    /// `DELETE /nodes/{node}/{kind}/{vmid}/snapshot/{snapname}` ([API viewer](https://pve.proxmox.com/pve-docs/api-viewer/#/nodes/{node}/lxc/{vmid}/snapshot/{snapname}))
    pub fn remove_snapshot(&self, snapname: &str) -> Call<Upid> {
        let path = self.path(&[&"snapshot", &snapname]);
        self.pve.delete("/nodes/{node}/{kind}/{vmid}/snapshot/{snapname}", &path, &[])
    }

    /// `POST /nodes/{node}/{kind}/{vmid}/template` ([API viewer](https://pve.proxmox.com/pve-docs/api-viewer/#/nodes/{node}/lxc/{vmid}/template))
    ///
    /// Of a container it answers null although a task runs: poll the config. A
    /// VM that is called a template already is refused, but for one `disk` of it.
    pub fn make_template(&self, disk: Option<&str>) -> Call<Value> {
        let disk = disk.map(|it| ("disk", it));
        self.post("/nodes/{node}/{kind}/{vmid}/template", &[&"template"], disk.as_slice())
    }

    /// `DELETE /nodes/{node}/{kind}/{vmid}?purge=1` ([API viewer](https://pve.proxmox.com/pve-docs/api-viewer/#/nodes/{node}/lxc/{vmid}))
    ///
    /// Has no digest: send it right after the read that showed whose guest it
    /// is. `force` stops a running container; a running VM is refused. Locks
    /// (but for a VM's `suspended`) and protection refuse too.
    pub fn destroy(&self) -> Call<Upid> {
        let query: &[_] = match self.kind {
            Kind::Lxc => &[("force", "1"), ("purge", "1")],
            Kind::Qemu => &[("purge", "1")],
        };
        self.pve.delete("/nodes/{node}/{kind}/{vmid}", &self.path(&[]), query)
    }

    /// `GET /nodes/{node}/lxc/{vmid}/interfaces` ([API viewer](https://pve.proxmox.com/pve-docs/api-viewer/#/nodes/{node}/lxc/{vmid}/interfaces)),
    /// or the guest agent's `network-get-interfaces`
    ///
    /// Live addresses, DHCP included; `null` while stopped; containers: PVE ≥ 8.1.
    pub fn interfaces(&self) -> Call<Value> {
        match self.kind {
            Kind::Lxc => self.get("/nodes/{node}/{kind}/{vmid}/interfaces", &[&"interfaces"], &[]),
            Kind::Qemu => self.agent_get("network-get-interfaces", &[]),
        }
    }

    /// `POST /nodes/{node}/qemu/{vmid}/agent/ping` ([API viewer](https://pve.proxmox.com/pve-docs/api-viewer/#/nodes/{node}/qemu/{vmid}/agent/ping))
    ///
    /// Changes nothing; answers when the guest's agent does.
    pub fn agent_ping(&self) -> Call<Value> {
        self.post("/nodes/{node}/{kind}/{vmid}/agent/ping", &[&"agent", &"ping"], &[])
    }

    /// `POST /nodes/{node}/qemu/{vmid}/agent/exec` ([API viewer](https://pve.proxmox.com/pve-docs/api-viewer/#/nodes/{node}/qemu/{vmid}/agent/exec))
    ///
    /// A repeated parameter is a list to every version: before PVE 8 it
    /// arrives joined with NUL, which is what that version's parameter takes
    /// (pve-http-server `AnyEvent.pm` `decode_urlencoded`).
    ///
    /// `input` is at most 64 KiB of characters, and the command has none where it is absent.
    pub fn agent_exec(&self, command: &[&str], input: Option<&str>) -> Call<Value> {
        let mut form: Vec<_> = command.iter().map(|it| ("command", *it)).collect();
        form.extend(input.map(|it| ("input-data", it)));
        self.post("/nodes/{node}/{kind}/{vmid}/agent/exec", &[&"agent", &"exec"], &form)
    }

    /// `GET /nodes/{node}/qemu/{vmid}/agent/exec-status` ([API viewer](https://pve.proxmox.com/pve-docs/api-viewer/#/nodes/{node}/qemu/{vmid}/agent/exec-status))
    ///
    /// No read: what has ended is told once, and then forgotten by the agent.
    pub fn agent_exec_status(&self, pid: i64) -> Call<Value> {
        self.agent_get("exec-status", &[("pid", &*pid.to_string())])
    }

    fn agent_get(&self, what: &str, query: &[(&str, &str)]) -> Call<Value> {
        self.get("/nodes/{node}/{kind}/{vmid}/agent/{what}", &[&"agent", &what], query)
    }

    fn power<T>(&self, template: &'static str, action: &str, form: &[(&str, &str)]) -> Call<T> {
        self.post(template, &[&"status", &action], form)
    }

    pub(super) fn get<T>(
        &self,
        template: &'static str,
        rest: &[&dyn fmt::Display],
        query: &[(&str, &str)],
    ) -> Call<T> {
        self.pve.get(template, &self.path(rest), query)
    }

    pub(super) fn post<T>(
        &self,
        template: &'static str,
        rest: &[&dyn fmt::Display],
        form: &[(&str, &str)],
    ) -> Call<T> {
        self.pve.post(template, &self.path(rest), form)
    }

    fn path<'b>(&'b self, rest: &[&'b dyn fmt::Display]) -> Vec<&'b dyn fmt::Display> {
        let mut path: Vec<&dyn fmt::Display> = vec![&"nodes", &self.node, &self.kind, &self.vmid];
        path.extend(rest);
        path
    }
}
