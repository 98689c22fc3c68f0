//! `POST …/qemu/{vmid}/clone`: the worker claims `newid`, not the call [qemu-server
//! `API2/Qemu.pm` clone_vm].

use time::{Duration, OffsetDateTime};

use super::Work;
use crate::sim::{
    Config, Guest, Kind, Sim, clone, config_api,
    disk::Disk,
    limits,
    reply::{Answer, Fail},
    setup::Version,
    storage::{self, Feature},
    tasks::{Plan, Step},
    wire::Call,
};

/// From the answer to the worker's first look: a fork, and `load_config`.
const FORK: Duration = Duration::milliseconds(20);

/// How long the worker waits for each of its two file locks.
const PATIENCE: Duration = Duration::seconds(1);

/// Checks, and the UPID of a worker that checks again.
pub(crate) fn clone(sim: &mut Sim, call: &Call, _: OffsetDateTime) -> Answer {
    let (source, newid) = (call.vmid(), call.number("newid").unwrap_or(0));
    if let Some(target) = call.get("target").filter(|t| sim.setup.nodes.iter().all(|node| node.name != *t)) {
        return Err(Fail::die(format!("no such cluster node '{target}'")));
    }
    sim.named(call)?;
    let plan = clone::plan(sim, call);
    possible(sim, call.node(), source, newid, &call.token, &plan)?;
    let upid = sim.fork(call.node(), "qmclone", &source.to_string(), &call.token);
    if let Some(task) = sim.tasks.get_mut(&upid) {
        task.plan = Some(plan);
    }
    sim.after(
        FORK,
        Step::Work { upid: upid.clone(), vmid: source, work: Work::Claim { newid, again: false }.into() },
    );
    Ok(upid.into())
}

/// The worker takes both file locks, looks again, and leaves a file that says
/// nothing but that it is there.
pub(super) fn claim(sim: &mut Sim, upid: &str, source: u32, newid: u32, again: bool) {
    let busy = if sim.flocks.contains_key(&source) { Some(source) } else { None };
    if let Some(busy) = busy.or(Some(newid).filter(|newid| sim.flocked(*newid))) {
        if again {
            let file = format!("/var/lock/qemu-server/lock-{busy}.conf");
            return sim.end(upid, &format!("can't lock file '{file}' - got timeout"));
        }
        return sim.then(PATIENCE, upid, source, Work::Claim { newid, again: true }.into());
    }
    let task = &sim.tasks[upid];
    let (node, token, plan) = (task.node.clone(), task.user.clone(), task.plan.clone().unwrap_or_default());
    if let Err(fail) = possible(sim, &node, source, newid, &token, &plan) {
        return sim.end(upid, &fail.text());
    }
    if sim.guests.contains_key(&newid) {
        let file = format!("/etc/pve/nodes/{node}/qemu-server/{newid}.conf");
        return sim.end(upid, &format!("close (rename) atomic file '{file}' failed: File exists"));
    }
    // A VM that runs is cloned alone; of one that does not any number is cloned at once.
    match sim.guests[&source].run.is_some() {
        true => drop(sim.flocks.insert(source, upid.to_owned())),
        false => drop(sim.shared.insert((source, upid.to_owned()))),
    }
    sim.flocks.insert(newid, upid.to_owned());
    let mut config = Config { description: Some("qmclone temporary file".into()), ..Config::default() };
    config.set("lock", "clone");
    let guest = Guest {
        vmid: newid,
        node,
        config,
        pool: None,
        run: None,
        saved: Default::default(),
        ..sim.guests[&source].clone()
    };
    sim.guests.insert(newid, guest);
    let all = if plan.full { sim.setup.full_clone_secs } else { sim.setup.clone_secs };
    sim.then(all / 2, upid, source, Work::Fill { newid }.into());
}

/// After the first disk the config is whole but for the lock and the other disks.
pub(super) fn fill(sim: &mut Sim, upid: &str, source: u32, newid: u32) {
    let plan = sim.tasks[upid].plan.clone().unwrap_or_default();
    let Some(from) = sim.guests.get(&source).cloned() else {
        return failed(sim, upid, newid, "source is gone");
    };
    let mut config = copied(sim, &from, &plan);
    for (key, value) in drives(&from.config, &plan).into_iter().take(1) {
        config.set(&key, copy(sim, &plan, newid, &value));
    }
    config.set("lock", "clone");
    if let Some(guest) = sim.guests.get_mut(&newid) {
        guest.config = config;
    }
    let all = if plan.full { sim.setup.full_clone_secs } else { sim.setup.clone_secs };
    sim.then(all / 2, upid, source, Work::Cloned { newid }.into());
}

/// The worker's end: the other disks, the lock, the pool.
pub(super) fn finish(sim: &mut Sim, upid: &str, source: u32, newid: u32) {
    let plan = sim.tasks[upid].plan.clone().unwrap_or_default();
    if let Some(text) = sim.failure("qmclone") {
        return failed(sim, upid, newid, &text);
    }
    let Some(from) = sim.guests.get(&source).cloned() else {
        return failed(sim, upid, newid, "source is gone");
    };
    for (key, value) in drives(&from.config, &plan).into_iter().skip(1) {
        let line = copy(sim, &plan, newid, &value);
        sim.admin_set(newid, &key, &line);
    }
    sim.tell(Disk::Cloned { from: source, snapshot: plan.snapname.clone(), to: newid });
    if let Some(guest) = sim.guests.get_mut(&newid) {
        guest.config.unset("lock");
        guest.pool = plan.pool;
        if let Some(target) = plan.target {
            guest.node = target;
        }
    }
    sim.end(upid, "OK");
}

fn failed(sim: &mut Sim, upid: &str, newid: u32, text: &str) {
    let made = sim.guests.remove(&newid).map(|guest| storage::owned(&guest.config)).unwrap_or_default();
    sim.volumes.retain(|volid, _| !made.contains(volid));
    sim.end(upid, &format!("clone failed: {text}"));
}

/// `load_and_check`: before the fork, and under the locks.
fn possible(sim: &Sim, node: &str, source: u32, newid: u32, token: &str, plan: &Plan) -> Result<(), Fail> {
    if let Some(storage) = &plan.storage {
        sim.check_storage(storage, node)?;
    }
    let guest = sim.at(Kind::Qemu, node, source);
    let guest = guest.ok_or_else(|| Fail::die(limits::missing(Kind::Qemu, node, source)))?;
    sim.check_lock(source)?;
    let snapname = plan.snapname.as_deref();
    if let Some(name) = snapname.filter(|name| !guest.config.snapshots.contains_key(*name)) {
        return Err(Fail::die(format!("snapshot '{name}' does not exist")));
    }
    if !plan.full && plan.storage.is_some() {
        return Err(Fail::die("parameter 'storage' not allowed for linked clones"));
    }
    let options = clone::source_options(&guest.config, snapname);
    for (key, volid) in storage::volumes(&options) {
        volume(sim, token, plan, &key, &volid)?;
    }
    if sim.setup.version >= Version::V8 {
        config_api::bridges(&options).try_for_each(|bridge| {
            sim.require(token, &format!("/sdn/zones/localnetwork/{bridge}"), &["SDN.Use"])
        })?;
    }
    // Only a VM's file of this node is looked for.
    match sim.at(Kind::Qemu, node, newid) {
        Some(_) => Err(Fail::die(format!("unable to create VM {newid}: config file already exists"))),
        None => Ok(()),
    }
}

fn volume(sim: &Sim, token: &str, plan: &Plan, key: &str, volid: &str) -> Result<(), Fail> {
    let own = volid.split(':').next().unwrap_or("");
    let storage = plan.storage.as_deref().unwrap_or(own);
    sim.require(token, &format!("/storage/{storage}"), &["Datastore.AllocateSpace"])?;
    let shared = sim.setup.storages.iter().any(|s| s.id == storage && s.shared);
    if let Some(target) = plan.target.as_ref().filter(|_| !shared) {
        return Err(Fail::die(format!("can't clone VM to node '{target}' (VM uses local storage)")));
    }
    if plan.full || sim.has(volid, Feature::Clone, plan.snapname.as_deref()) {
        return Ok(());
    }
    Err(Fail::die(match sim.setup.version {
        Version::V9 => format!("Linked clone feature is not supported for '{volid}' ({key})"),
        _ => format!("Linked clone feature is not supported for drive '{key}'"),
    }))
}

/// Everything but the drives; addresses and numbers of its own.
fn copied(sim: &mut Sim, from: &Guest, plan: &Plan) -> Config {
    let snapname = plan.snapname.as_deref();
    let section = snapname.and_then(|name| from.config.snapshots.get(name)).unwrap_or(&from.config);
    let mut config = Config { description: section.description.clone(), ..Config::default() };
    config.options = clone::source_options(&from.config, snapname);
    for key in ["vmstate", "runningmachine", "runningcpu"] {
        config.unset(key);
    }
    let drives = drives(&from.config, plan);
    config.options.retain(|key, _| !drives.contains_key(key));
    for (key, value) in config.options.iter_mut() {
        *value = config_api::with_hwaddr(Kind::Qemu, key, value, &sim.rng.hwaddr());
    }
    let name = from.config.get("name").map_or_else(|| from.vmid.to_string(), str::to_owned);
    config.set("name", plan.name.clone().unwrap_or(format!("Copy-of-VM-{name}")));
    config.set("smbios1", format!("uuid={}", sim.rng.uuid()));
    if config.get("vmgenid").is_some() {
        config.set("vmgenid", sim.rng.uuid());
    }
    if let Some(text) = plan.description.as_ref().filter(|text| !text.is_empty()) {
        config.description = Some(text.clone());
    }
    config
}

/// What is cloned or copied: disks, and the drive of cloud-init.
fn drives(config: &Config, plan: &Plan) -> std::collections::BTreeMap<String, String> {
    let options = clone::source_options(config, plan.snapname.as_deref());
    let is_drive = |key: &str, value: &str| {
        storage::is_disk(key) && (!value.contains("media=cdrom") || value.contains("-cloudinit"))
    };
    options.into_iter().filter(|(key, value)| is_drive(key, value)).collect()
}

/// A drive's line for the clone; cloud-init's is always written anew.
fn copy(sim: &mut Sim, plan: &Plan, newid: u32, line: &str) -> String {
    let volid = line.split(',').next().unwrap_or("").to_owned();
    let rest = line.split(',').skip(1).map(|part| format!(",{part}")).collect::<String>();
    let own = volid.split(':').next().unwrap_or("").to_owned();
    let storage = plan.storage.clone().unwrap_or(own);
    if volid.contains("-cloudinit") {
        let made = format!("{storage}:vm-{newid}-cloudinit");
        sim.put_volume(&made, 4 << 20, None);
        return format!("{made}{rest}");
    }
    let bytes = sim.volumes.get(&volid).map_or(0, |volume| volume.bytes);
    let base = (!plan.full).then_some(volid.as_str());
    format!("{}{rest}", sim.new_volume(Kind::Qemu, &storage, newid, bytes, base))
}
