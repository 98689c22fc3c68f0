//! `POST /nodes/{node}/lxc`: a container from an archive [pve-container `API2/LXC.pm` create_vm].

use std::collections::BTreeMap;

use time::{Duration, OffsetDateTime};

use super::{
    Config, Guest, Kind, Sim, clone, config_api,
    disk::Disk,
    reply::{Answer, Fail},
    resize,
    tasks::Work,
    wire::Call,
};

/// Parameters that are about the creation and not options of the container.
const OWN: [&str; 13] = [
    "bwlimit",
    "force",
    "ha-managed",
    "ignore-unpack-errors",
    "ostemplate",
    "password",
    "pool",
    "restore",
    "ssh-public-keys",
    "start",
    "storage",
    "unique",
    "vmid",
];

/// Files of a container with what only it may have, which clones have too.
pub const HOST_KEYS: [&str; 2] = ["/etc/ssh/ssh_host_ed25519_key", "/etc/ssh/ssh_host_ed25519_key.pub"];

/// Claims the VMID with a config that says nothing but its lock, and answers
/// with the UPID of the worker that writes the rest when all is unpacked.
pub(crate) fn create(sim: &mut Sim, call: &Call, _: OffsetDateTime) -> Answer {
    let vmid = call.vmid();
    if !call.is("unprivileged") {
        sim.require(&call.token, "/", &["Sys.Modify"])?;
    }
    clone::claimable(sim, vmid)?;
    if !sim.may(&call.token, &format!("/vms/{vmid}"), &["VM.Allocate"]) {
        return Err(Fail::refused());
    }
    let options: BTreeMap<&String, &String> =
        call.form.iter().filter(|(key, _)| !OWN.contains(&key.as_str())).collect();
    let mut nothing = Config::default();
    nothing.set("unprivileged", call.get("unprivileged").unwrap_or("0"));
    for (key, value) in options.iter().filter(|(key, _)| key.as_str() != "unprivileged") {
        config_api::allowed(sim, call, vmid, &nothing, key, Some(value))?;
    }
    archive(sim, call)?;
    let (storage, gib) = rootfs(sim, call)?;
    sim.check_storage(&storage, call.node())?;
    let takes = sim.setup.storages.iter().any(|it| it.id == storage && it.takes("rootdir"));
    if !takes {
        let text = format!("storage '{storage}' does not support container directories");
        return Err(Fail::parameter("storage", text));
    }
    sim.require(&call.token, &format!("/storage/{storage}"), &["Datastore.AllocateSpace"])?;
    let guest = made(sim, call, &options, &storage, gib);
    let mut bare = Config::default();
    bare.set("lock", "create");
    sim.guests.insert(vmid, Guest { config: bare, ..guest.clone() });
    let work = Work::Unpack { guest: Box::new(guest) };
    Ok(sim.fork_locked(call.node(), "vzcreate", vmid, &call.token, work).into())
}

/// The worker: for most of the time nothing tells whose container it is; then
/// its config is whole, without a lock, while the file lock is still held.
pub(crate) fn work(sim: &mut Sim, upid: &str, vmid: u32, work: Work) {
    match work {
        Work::Unpack { guest } => {
            sim.then(sim.setup.unpack_secs, upid, vmid, Work::Unpacked { guest });
        }
        Work::Unpacked { mut guest } => {
            if let Some(text) = sim.failure("vzcreate") {
                sim.guests.remove(&vmid);
                return sim.end(upid, &format!("unable to create CT {vmid} - {text}"));
            }
            let (storage, gib) = guest
                .config
                .get("rootfs")
                .and_then(|it| it.split_once(':'))
                .map(|(storage, gib)| (storage.to_owned(), gib.to_owned()))
                .unwrap_or_default();
            let bytes = resize::bytes(&format!("{gib}G")).unwrap_or(0);
            let volid = sim.new_volume(Kind::Lxc, &storage, vmid, bytes, None);
            guest.config.set("rootfs", format!("{volid},size={gib}G"));
            sim.tell(Disk::Created { vmid, files: guest.files.clone() });
            sim.guests.insert(vmid, *guest);
            sim.then(Duration::milliseconds(300), upid, vmid, Work::Created);
        }
        _ => sim.end(upid, "OK"),
    }
}

/// The archive is one that the token may read.
fn archive(sim: &Sim, call: &Call) -> Result<(), Fail> {
    let volid = call.get("ostemplate").unwrap_or("");
    let (storage, name) = volid.split_once(':').unwrap_or((volid, ""));
    sim.check_storage(storage, call.node())?;
    if !name.starts_with("vztmpl/") {
        return Err(Fail::die(format!("unable to use volume {volid} - content type needs to be 'vztmpl'")));
    }
    let any = ["Datastore.AllocateSpace", "Datastore.Audit"];
    sim.require(&call.token, &format!("/storage/{storage}"), &any)?;
    if sim.volumes.contains_key(volid) {
        return Ok(());
    }
    Err(Fail::die(format!("volume '{volid}' does not exist")))
}

/// `STORAGE:GIB`.
fn rootfs(sim: &Sim, call: &Call) -> Result<(String, u32), Fail> {
    let first = || format!("{}:4", call.get("storage").unwrap_or("local"));
    let text = call.get("rootfs").map_or_else(first, str::to_owned);
    let parsed =
        text.split_once(':').and_then(|(storage, gib)| Some((storage.to_owned(), gib.parse().ok()?)));
    let known = parsed.filter(|(storage, _)| sim.setup.storages.iter().any(|it| it.id == *storage));
    known.ok_or_else(|| Fail::die(format!("unable to parse volume ID '{text}'")))
}

fn made(sim: &mut Sim, call: &Call, options: &BTreeMap<&String, &String>, storage: &str, gib: u32) -> Guest {
    let vmid = call.vmid();
    let mut config = Config::default();
    for (key, value) in options {
        match key.as_str() {
            "description" => config.description = Some((*value).clone()).filter(|it| !it.is_empty()),
            "tags" => config.set(key, sim.datacenter.normalised(value)),
            key => {
                let hwaddr = sim.rng.hwaddr();
                config.set(key, config_api::with_hwaddr(Kind::Lxc, key, value, &hwaddr));
            }
        }
    }
    config.set("rootfs", format!("{storage}:{gib}"));
    for (key, usual) in [("hostname", &*format!("CT{vmid}")), ("memory", "512"), ("swap", "512")] {
        if config.get(key).is_none() {
            config.set(key, usual);
        }
    }
    if call.get("ostemplate").is_some_and(|it| it.ends_with(".tar")) {
        // What an OCI image says of itself.
        config.set("cmode", "console");
        config.set("entrypoint", "/sbin/init");
        config.set("env", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    }
    Guest {
        vmid,
        node: call.node().into(),
        kind: Kind::Lxc,
        config,
        pool: call.get("pool").map(str::to_owned),
        run: None,
        disk_token: None,
        is_bare: false,
        keys: None,
        saved: BTreeMap::new(),
        unclean: false,
        recovers_until: None,
        // PVE makes host keys of its own [pve-container `LXC/Setup.pm` rewrite_ssh_host_keys].
        files: HOST_KEYS.iter().map(|it| ((*it).to_owned(), format!("made for {vmid}"))).collect(),
    }
}

impl Sim {
    /// Removes a file in a guest, as `pct exec` would.
    pub fn admin_remove_file(&mut self, vmid: u32, path: &str) {
        if let Some(guest) = self.guests.get_mut(&vmid) {
            guest.files.remove(path);
        }
    }
}
