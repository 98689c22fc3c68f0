//! What an administrator, a crash or a backup does: for tests.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Config, Guest, Kind, Sim, Step, Storage, Task, access::Token, config_api, resize, storage::Volume,
};

/// A guest to add.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Number.
    pub vmid: u32,
    /// Node; the first one when empty.
    pub node: String,
    /// Container or virtual machine.
    pub kind: Kind,
    /// `a;b`, as stored.
    pub tags: String,
    /// Notes.
    pub description: String,
    /// `rootfs` size.
    pub disk: String,
    /// Storage of `rootfs`; the first one when empty.
    pub storage: String,
    /// Options beyond: `net0`, `hookscript`, `env`, `protection`, …
    pub options: BTreeMap<String, String>,
    /// Pool.
    pub pool: Option<String>,
    /// Whether it runs.
    pub running: bool,
    /// Whether it is a template.
    pub template: bool,
    /// Bearer token that its disk carries.
    pub disk_token: Option<String>,
    /// Whether no daemon is on the disk.
    pub is_bare: bool,
    /// Content of `/etc/pve-edge/keys`, where the project's own daemon is on the disk.
    pub keys: Option<String>,
}

impl Spec {
    /// A stopped container of another's, with DHCP on the first bridge.
    pub fn guest(vmid: u32) -> Self {
        let net0 = "name=eth0,bridge=vmbr0,ip=dhcp";
        Self {
            vmid,
            node: String::new(),
            kind: Kind::Lxc,
            tags: String::new(),
            description: String::new(),
            disk: "8G".into(),
            storage: String::new(),
            options: [
                ("net0", net0),
                ("hostname", ""),
                ("memory", "2048"),
                ("cores", "2"),
                ("unprivileged", "1"),
            ]
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect(),
            pool: None,
            running: false,
            template: false,
            disk_token: None,
            is_bare: false,
            keys: None,
        }
    }

    /// A stopped VM of another's, with cloud-init, an agent and DHCP on the first bridge.
    pub fn vm(vmid: u32) -> Self {
        let options = [
            ("agent", "1"),
            ("boot", "order=scsi0"),
            ("cores", "2"),
            ("ipconfig0", "ip=dhcp"),
            ("memory", "2048"),
            ("net0", "virtio,bridge=vmbr0"),
            ("ostype", "l26"),
            ("scsihw", "virtio-scsi-pci"),
            ("smbios1", "uuid=00000000-0000-4000-8000-000000000000"),
        ];
        let options = options.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        Self { kind: Kind::Qemu, options, ..Self::guest(vmid) }
    }

    /// A VM's template.
    pub fn vm_template(vmid: u32) -> Self {
        Self { template: true, ..Self::vm(vmid) }
    }

    /// A template.
    pub fn template(vmid: u32) -> Self {
        Self { template: true, ..Self::guest(vmid) }
    }

    /// On this node.
    pub fn node(self, node: &str) -> Self {
        Self { node: node.into(), ..self }
    }

    /// With these tags.
    pub fn tags(self, tags: &str) -> Self {
        Self { tags: tags.into(), ..self }
    }

    /// With these notes.
    pub fn description(self, text: &str) -> Self {
        Self { description: text.into(), ..self }
    }

    /// With a `rootfs` of this size.
    pub fn disk(self, size: &str) -> Self {
        Self { disk: size.into(), ..self }
    }

    /// On this storage.
    pub fn storage(self, id: &str) -> Self {
        Self { storage: id.into(), ..self }
    }

    /// With an option; an empty value removes it.
    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.options.insert(key.into(), value.into());
        self
    }

    /// With the project's own daemon on its disk, which obeys these keys.
    pub fn with_daemon(self, keys: &str) -> Self {
        Self { keys: Some(keys.into()), ..self }
    }

    /// Running.
    pub fn running(self) -> Self {
        Self { running: true, ..self }
    }
}

impl Sim {
    /// Adds a guest as if it had long been there: pvestatd knows it.
    pub fn add(&mut self, spec: Spec) -> &Guest {
        let vmid = spec.vmid;
        let first = |name: String, or: &str| if name.is_empty() { or.to_owned() } else { name };
        let node = first(spec.node, &self.setup.nodes[0].name);
        let storage = first(spec.storage, &self.setup.storages[0].id);
        let description = Some(spec.description).filter(|text| !text.is_empty());
        let mut config = Config { description, options: spec.options, ..Config::default() };
        config.options.retain(|_, value| !value.is_empty());
        if !spec.tags.is_empty() {
            config.set("tags", spec.tags);
        }
        for (key, value) in config.options.iter_mut() {
            *value = config_api::with_hwaddr(spec.kind, key, value, &self.rng.hwaddr());
        }
        let bytes = resize::bytes(&spec.disk).unwrap_or(0);
        let volid = self.new_volume(spec.kind, &storage, vmid, bytes, None);
        config.set(spec.kind.disk(), format!("{volid},size={}", spec.disk));
        if spec.kind == Kind::Qemu && config.get("ide2").is_none() {
            let drive = format!("{storage}:vm-{vmid}-cloudinit");
            self.put_volume(&drive, 4 << 20, None);
            config.set("ide2", format!("{drive},media=cdrom"));
        }
        let guest = Guest {
            vmid,
            node,
            kind: spec.kind,
            config,
            pool: spec.pool,
            run: None,
            disk_token: spec.disk_token,
            is_bare: spec.is_bare,
            keys: spec.keys,
            saved: BTreeMap::new(),
            unclean: false,
            recovers_until: None,
            files: BTreeMap::new(),
        };
        self.guests.insert(vmid, guest);
        if spec.template {
            self.rename_to_base(vmid, spec.kind.disk(), &volid);
            self.admin_set(vmid, "template", "1");
        }
        if spec.running {
            self.boot(vmid);
        }
        self.notice(vmid);
        &self.guests[&vmid]
    }

    /// A guest.
    pub fn guest(&self, vmid: u32) -> Option<&Guest> {
        self.guests.get(&vmid)
    }

    /// All guests.
    pub fn guests(&self) -> impl Iterator<Item = &Guest> {
        self.guests.values()
    }

    /// Node, state and config file of each guest for which `which` holds: equal
    /// before and after means that nobody touched them.
    pub fn snapshot_of(&self, which: impl Fn(&Guest) -> bool) -> BTreeMap<u32, String> {
        let text = |guest: &Guest| format!("{} {}\n{}", guest.node, guest.status(), guest.config.text());
        self.guests.values().filter(|guest| which(guest)).map(|guest| (guest.vmid, text(guest))).collect()
    }

    /// Adds a token `user@realm!name`, or changes its secret or separation.
    pub fn token(&mut self, id: &str, secret: &str, separated: bool) {
        self.access.tokens.insert(id.into(), Token { secret: secret.into(), separated });
    }

    /// Gives a user or token exactly these privileges on a path and below.
    pub fn grant(&mut self, who: &str, path: &str, privileges: &[&str]) {
        let privileges = privileges.iter().map(|privilege| (*privilege).to_owned()).collect();
        self.access.acl.insert((who.into(), path.into()), privileges);
    }

    /// Takes all grants of a user or token.
    pub fn revoke(&mut self, who: &str) {
        self.access.acl.retain(|(holder, _), _| holder != who);
    }

    /// Sets an option past all checks, as root on the node could.
    pub fn admin_set(&mut self, vmid: u32, key: &str, value: &str) {
        if let Some(guest) = self.guests.get_mut(&vmid) {
            guest.config.set(key, value);
        }
    }

    /// The same, in one of its snapshots.
    pub fn admin_set_in_snapshot(&mut self, vmid: u32, snapname: &str, key: &str, value: &str) {
        let snapshots = self.guests.get_mut(&vmid).map(|guest| &mut guest.config.snapshots);
        if let Some(section) = snapshots.and_then(|it| it.get_mut(snapname)) {
            section.set(key, value);
        }
    }

    /// Writes the notes as an administrator in the UI.
    pub fn admin_describe(&mut self, vmid: u32, text: &str) {
        if let Some(guest) = self.guests.get_mut(&vmid) {
            guest.config.description = Some(text.to_owned()).filter(|text| !text.is_empty());
        }
    }

    /// Removes a guest at once, as `pct destroy` would.
    pub fn admin_remove(&mut self, vmid: u32) {
        self.guests.remove(&vmid);
    }

    /// Sets a lock that lasts (a backup), or removes it (`pct unlock`).
    pub fn set_lock(&mut self, vmid: u32, lock: Option<&str>) {
        if let Some(guest) = self.guests.get_mut(&vmid) {
            match lock {
                Some(lock) => guest.config.set("lock", lock),
                None => guest.config.unset("lock"),
            }
        }
    }

    /// Switches a guest off or on, as from inside or by an administrator.
    pub fn set_running(&mut self, vmid: u32, running: bool) {
        if running { self.boot(vmid) } else { self.halt(vmid) }
    }

    /// Moves a guest's config to another node.
    pub fn migrate(&mut self, vmid: u32, node: &str) {
        if let Some(guest) = self.guests.get_mut(&vmid) {
            guest.node = node.into();
        }
    }

    /// A node answers, or does not; its guests go on.
    pub fn set_online(&mut self, node: &str, online: bool) {
        for node in self.setup.nodes.iter_mut().filter(|n| n.name == node) {
            node.online = online;
        }
    }

    /// Kills every running worker that is about this guest, as a power cut or
    /// SIGKILL does: locks stay.
    pub fn crash(&mut self, vmid: u32) {
        let about = |step: &Step| match step {
            Step::Work { vmid: at, work, .. } => {
                let made = match work {
                    super::tasks::Work::Clone { newid } => Some(*newid),
                    super::tasks::Work::Qemu(work) => work.newid(),
                    _ => None,
                };
                *at == vmid || made == Some(vmid)
            }
            Step::Flock { vmid: at, .. } => *at == vmid,
            _ => false,
        };
        let dead: BTreeSet<String> = self
            .agenda
            .values()
            .filter(|step| about(step))
            .filter_map(|step| match step {
                Step::Work { upid, .. } | Step::Flock { upid, .. } => Some(upid.clone()),
                _ => None,
            })
            .collect();
        self.agenda.retain(|_, step| !about(step));
        for upid in dead {
            self.end(&upid, "unexpected status");
        }
    }

    /// The next task of a kind (`vzclone`, `vzstart`, …) ends with this text.
    pub fn fail_next(&mut self, kind: &str, text: &str) {
        self.failures.push((kind.into(), text.into()));
    }

    /// The same, where PVE's command has told why in the task's log.
    pub fn fail_next_saying(&mut self, kind: &str, log: &[&str], text: &str) {
        self.last_words = log.iter().map(|line| (*line).to_owned()).collect();
        self.fail_next(kind, text);
    }

    /// Consumes what [`Sim::fail_next`] asked for.
    pub(crate) fn failure(&mut self, kind: &str) -> Option<String> {
        let at = self.failures.iter().position(|(wanted, _)| wanted == kind)?;
        Some(self.failures.remove(at).1)
    }

    /// All tasks, the oldest first.
    pub fn tasks(&self) -> Vec<&Task> {
        let mut tasks: Vec<&Task> = self.tasks.values().collect();
        tasks.sort_by_key(|task| (task.start, &task.upid));
        tasks
    }

    /// Forgets finished tasks, as the rotation of the index does.
    pub fn prune_tasks(&mut self) {
        self.tasks.retain(|_, task| task.exit.is_none());
    }

    /// Every pvestatd hangs, on a slow storage say, or works again.
    pub fn silence_stats(&mut self, silent: bool) {
        self.silent_stats = silent;
    }

    /// Puts an archive on a storage.
    pub fn add_archive(&mut self, volid: &str) {
        self.put_volume(volid, 1 << 20, None);
    }

    /// Adds a storage.
    pub fn add_storage(&mut self, storage: Storage) {
        self.setup.storages.push(storage);
    }

    /// Disables or enables a storage.
    pub fn set_storage_enabled(&mut self, id: &str, enabled: bool) {
        for storage in self.setup.storages.iter_mut().filter(|storage| storage.id == id) {
            storage.enabled = enabled;
        }
    }

    /// Makes a volume so large, whatever the configs say.
    pub fn set_volume_size(&mut self, volid: &str, bytes: u64) {
        if let Some(volume) = self.volumes.get_mut(volid) {
            volume.bytes = bytes;
        }
    }

    /// Volumes and their sizes.
    pub fn volumes(&self) -> BTreeMap<&str, u64> {
        self.volumes.iter().map(|(id, Volume { bytes, .. })| (id.as_str(), *bytes)).collect()
    }

    /// `datacenter.cfg`: `tag-style`.
    pub fn set_tag_style(&mut self, case_sensitive: bool, config_order: bool) {
        self.datacenter.case_sensitive = case_sensitive;
        self.datacenter.config_order = config_order;
    }

    /// `datacenter.cfg`: `user-tag-access` and `registered-tags`.
    pub fn set_tag_access(&mut self, user_allow: &str, list: &[&str], registered: &[&str]) {
        let set = |tags: &[&str]| tags.iter().map(|tag| (*tag).to_owned()).collect();
        self.datacenter.user_allow = user_allow.into();
        self.datacenter.user_list = set(list);
        self.datacenter.registered = set(registered);
    }

    /// Settings that may change while it runs: task lengths above all.
    pub fn setup_mut(&mut self) -> &mut super::Setup {
        &mut self.setup
    }

    /// Settings.
    pub fn setup(&self) -> &super::Setup {
        &self.setup
    }
}
