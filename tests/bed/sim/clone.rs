//! `POST …/clone`: an atomic claim of `newid`, then a worker [pve-container `API2/LXC.pm` clone_vm].

use time::{Duration, OffsetDateTime};

use super::{
    Config, Guest, Kind, Sim, config_api,
    disk::Disk,
    reply::{Answer, Fail},
    setup::Version,
    storage::{self, Feature},
    tasks::{Plan, Step, Work},
    wire::Call,
};

/// `VM.Clone` on the source, and `VM.Allocate` on the new guest or its pool.
pub(crate) fn rights(sim: &Sim, call: &Call) -> Result<(), Fail> {
    let get = |name: &str| call.get(name).unwrap_or("");
    sim.require(&call.token, &format!("/vms/{}", get("vmid")), &["VM.Clone"])?;
    if let Some(pool) = call.get("pool") {
        if !sim.setup.pools.contains(pool) {
            return Err(Fail::permission(format_args!("pool '{pool}' does not exist")));
        }
        if sim.may(&call.token, &format!("/pool/{pool}"), &["VM.Allocate"]) {
            return Ok(());
        }
    }
    // One of these is enough, and PVE names neither.
    match sim.may(&call.token, &format!("/vms/{}", get("newid")), &["VM.Allocate"]) {
        true => Ok(()),
        false => Err(Fail::refused()),
    }
}

/// Claims `newid`, answers with the UPID.
pub(crate) fn clone(sim: &mut Sim, call: &Call, arrived: OffsetDateTime) -> Answer {
    let (source, newid) = (call.vmid(), call.number("newid").unwrap_or(0));
    if let Some(storage) = call.get("storage") {
        sim.check_storage(storage, call.node())?;
    }
    if let Some(target) = call.get("target").filter(|t| sim.setup.nodes.iter().all(|node| node.name != *t)) {
        return Err(Fail::die(format!("no such cluster node '{target}'")));
    }
    sim.named(call)?;
    sim.wait_flock(source, arrived)?;
    sim.check_lock(source)?;
    if let Err(fail) = claimable(sim, newid).and_then(|()| possible(sim, call)) {
        // The source was locked before this was found out, and is again free.
        lock_source(sim, source);
        sim.after(Duration::milliseconds(2), Step::Unlock { vmid: source, lock: "disk" });
        return Err(fail);
    }
    lock_source(sim, source);
    let guest = new_guest(sim, call, newid);
    let mut bare = Config::default();
    bare.set("lock", "create");
    sim.guests.insert(newid, Guest { config: bare, ..guest.clone() });
    sim.after(Duration::milliseconds(3), Step::Fill { newid, guest: Box::new(guest) });
    let upid = sim.fork(call.node(), "vzclone", &source.to_string(), &call.token);
    let plan = plan(sim, call);
    let wait = if plan.full { sim.setup.full_clone_secs } else { sim.setup.clone_secs };
    if let Some(task) = sim.tasks.get_mut(&upid) {
        task.log.push(format!("create full or linked clone of CT {source}, new CT {newid}"));
        task.plan = Some(plan);
    }
    sim.then(wait, &upid, source, Work::Clone { newid });
    Ok(upid.into())
}

/// Writes the config that everybody sees from here on.
pub(crate) fn fill(sim: &mut Sim, newid: u32, guest: Guest) {
    if sim.guests.get(&newid).is_some_and(|guest| guest.config.lock() == Some("create")) {
        sim.guests.insert(newid, guest);
    }
}

/// The worker's end: volumes, pool, locks.
pub(crate) fn finish(sim: &mut Sim, upid: &str, source: u32, newid: u32) {
    let plan = sim.tasks.get(upid).and_then(|task| task.plan.clone()).unwrap_or_default();
    let began = sim.tasks.get(upid).map_or(sim.now, |task| task.start);
    if let Some(text) = sim.failure("vzclone") {
        sim.guests.remove(&newid);
        sim.unlock(source, "disk");
        return sim.end(upid, &format!("clone failed: {text}"));
    }
    let Some(from) = sim.guests.get(&source) else { return sim.end(upid, "clone failed: source is gone") };
    let options = source_options(&from.config, plan.snapname.as_deref());
    for (key, volid) in storage::volumes(&options) {
        let bytes = sim.volumes.get(&volid).map_or(0, |volume| volume.bytes);
        let own = volid.split(':').next().unwrap_or("").to_owned();
        let storage = plan.storage.clone().unwrap_or(own);
        let from = plan.snapname.as_ref().map_or_else(|| volid.clone(), |it| format!("{volid}@{it}"));
        let base = (!plan.full).then_some(from.as_str());
        let made = sim.new_volume(Kind::Lxc, &storage, newid, bytes, base);
        let rest = options[&key].split(',').skip(1).map(|part| format!(",{part}")).collect::<String>();
        if let Some(guest) = sim.guests.get_mut(&newid) {
            guest.config.set(&key, format!("{made}{rest}"));
        }
    }
    match sim.setup.source_lock_secs.map(|it| began + it - sim.now) {
        Some(rest) if rest.is_positive() => sim.after(rest, Step::Unlock { vmid: source, lock: "disk" }),
        _ => sim.unlock(source, "disk"),
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

pub(crate) fn plan(sim: &Sim, call: &Call) -> Plan {
    let own = |name: &str| call.get(name).map(str::to_owned);
    Plan {
        full: full(sim, call),
        storage: own("storage"),
        snapname: own("snapname"),
        pool: own("pool"),
        target: call.get("target").filter(|target| *target != call.node()).map(str::to_owned),
        name: own("name"),
        description: own("description"),
    }
}

fn lock_source(sim: &mut Sim, source: u32) {
    if let Some(guest) = sim.guests.get_mut(&source) {
        guest.config.set("lock", "disk");
    }
}

/// `check_vmid_unused`.
pub(crate) fn claimable(sim: &Sim, newid: u32) -> Result<(), Fail> {
    let Some(other) = sim.guests.get(&newid) else { return Ok(()) };
    let kind = other.kind.noun();
    Err(Fail::die(format!("{kind} {newid} already exists on node '{}'", other.node)))
}

/// `full` is 0 by default for a template, else 1.
pub(crate) fn full(sim: &Sim, call: &Call) -> bool {
    let template = sim.guests.get(&call.vmid()).is_some_and(|guest| guest.config.is("template"));
    if call.get("full").is_some() { call.is("full") } else { !template }
}

/// Everything that PVE checks while it holds both locks.
fn possible(sim: &Sim, call: &Call) -> Result<(), Fail> {
    let source = sim.named(call)?;
    let (full, snapname) = (full(sim, call), call.get("snapname"));
    if let Some(name) = snapname.filter(|name| !source.config.snapshots.contains_key(*name)) {
        return Err(Fail::die(format!("snapshot '{name}' does not exist")));
    }
    if full && source.run.is_some() && snapname.is_none() {
        return Err(Fail::die("Full clone of a running container is only possible from a snapshot"));
    }
    if !full && call.get("storage").is_some() {
        return Err(Fail::die("parameter 'storage' not allowed for linked clones"));
    }
    let options = source_options(&source.config, snapname);
    for volid in storage::volumes(&options).values() {
        let own = volid.split(':').next().unwrap_or("");
        let storage = call.get("storage").unwrap_or(own);
        sim.require(&call.token, &format!("/storage/{storage}"), &["Datastore.AllocateSpace"])?;
        sim.check_storage(storage, call.node())?;
        if !full && !sim.has(volid, Feature::Clone, snapname) {
            return Err(Fail::die(format!("Linked clone feature for '{volid}' is not available")));
        }
        let shared = sim.setup.storages.iter().any(|s| s.id == storage && s.shared);
        if let Some(target) = call.get("target").filter(|target| *target != call.node() && !shared) {
            return Err(Fail::die(format!("can't clone CT to node '{target}' (CT uses local storage)")));
        }
    }
    if sim.setup.version >= Version::V8 {
        config_api::bridges(&options).try_for_each(|bridge| {
            sim.require(&call.token, &format!("/sdn/zones/localnetwork/{bridge}"), &["SDN.Use"])
        })?;
    }
    Ok(())
}

/// Everything is copied but what belongs to the source alone.
pub(crate) fn source_options(
    config: &Config,
    snapname: Option<&str>,
) -> std::collections::BTreeMap<String, String> {
    let section = snapname.and_then(|name| config.snapshots.get(name)).unwrap_or(config);
    let own = ["lock", "template", "parent", "snaptime", "snapstate"];
    let copied = |key: &str| !own.contains(&key) && !key.starts_with("unused");
    section.options.iter().filter(|(key, _)| copied(key)).map(|(k, v)| (k.clone(), v.clone())).collect()
}

fn new_guest(sim: &mut Sim, call: &Call, newid: u32) -> Guest {
    let source = sim.guests[&call.vmid()].clone();
    let snapname = call.get("snapname");
    let section = snapname.and_then(|name| source.config.snapshots.get(name)).unwrap_or(&source.config);
    let mut config = Config { description: section.description.clone(), ..Config::default() };
    config.options = source_options(&source.config, snapname);
    for key in storage::volumes(&config.options).into_keys() {
        config.unset(&key);
    }
    for (key, value) in config.options.iter_mut().filter(|(key, _)| key.starts_with("net")) {
        *value = config_api::with_hwaddr(Kind::Lxc, key, value, &sim.rng.hwaddr());
    }
    if let Some(text) = call.get("description").filter(|text| !text.is_empty()) {
        config.description = Some(text.into());
    }
    if let Some(hostname) = call.get("hostname") {
        config.set("hostname", hostname);
    }
    config.set("lock", "create");
    Guest {
        vmid: newid,
        node: call.node().into(),
        config,
        pool: None,
        run: None,
        unclean: false,
        recovers_until: None,
        ..source
    }
}
