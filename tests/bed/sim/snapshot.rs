//! Snapshots [pve-guest-common `AbstractConfig.pm`].

use serde_json::{Value, json};
use time::OffsetDateTime;

use super::{
    Config, Kind, Sim, StorageKind, config_api,
    disk::Disk,
    limits, power, qemu,
    reply::{Answer, Fail},
    storage::{self, Feature},
    tasks::Work,
    wire::Call,
};

/// `GET …/feature`
pub(crate) fn feature(sim: &mut Sim, call: &Call, _: OffsetDateTime) -> Answer {
    let (kind, config) = (call.kind(), &sim.named(call)?.config);
    let has = match call.get("feature") {
        Some("clone") => possible(sim, config, Feature::Clone, call.get("snapname")),
        Some("snapshot") => possible(sim, config, Feature::Snapshot, None),
        _ => true,
    };
    let mut data = json!({ "hasFeature": u8::from(has) });
    if kind == Kind::Qemu {
        data["nodes"] = sim.setup.nodes.iter().map(|node| json!(node.name)).collect();
    }
    Ok(data)
}

/// `GET …/snapshot`, with `current` among them.
pub(crate) fn list(sim: &mut Sim, call: &Call, _: OffsetDateTime) -> Answer {
    let guest = sim.named(call)?;
    let config = &guest.config;
    let one = |(name, section): (&String, &Config)| {
        let mut item =
            json!({ "name": name, "description": section.description_read(guest.kind).unwrap_or_default() });
        if let Some(time) = section.get("snaptime").and_then(|time| time.parse::<i64>().ok()) {
            item["snaptime"] = json!(time);
        }
        for key in ["parent", "snapstate"] {
            if let Some(value) = section.get(key) {
                item[key] = json!(value);
            }
        }
        if guest.kind == Kind::Qemu {
            item["vmstate"] = json!(u8::from(section.get("vmstate").is_some()));
        }
        item
    };
    let mut items: Vec<Value> = config.snapshots.iter().map(one).collect();
    let mut current = json!({
        "name": "current",
        "description": "You are here!",
        "digest": config.digest(),
        "running": u8::from(guest.run.is_some()),
    });
    if let Some(parent) = config.get("parent") {
        current["parent"] = json!(parent);
    }
    items.push(current);
    Ok(items.into())
}

/// `GET …/snapshot/{snapname}/config`
pub(crate) fn read(sim: &mut Sim, call: &Call, _: OffsetDateTime) -> Answer {
    let name = call.get("snapname").unwrap_or("");
    let guest = sim.named(call)?;
    known(&guest.config, name).map_err(Fail::die)?;
    let section = &guest.config.snapshots[name];
    let kind = guest.kind;
    let mut data: serde_json::Map<String, Value> = section
        .options
        .iter()
        .map(|(key, value)| (key.clone(), config_api::typed(kind, sim.setup.version, key, value)))
        .collect();
    if let Some(text) = section.description_read(kind) {
        data.insert("description".into(), text.into());
    }
    Ok(data.into())
}

/// `PUT …/snapshot/{snapname}/config`: the description alone.
pub(crate) fn describe(sim: &mut Sim, call: &Call, arrived: OffsetDateTime) -> Answer {
    let (vmid, name) = (call.vmid(), call.get("snapname").unwrap_or(""));
    let Some(text) = call.get("description") else { return Ok(Value::Null) };
    sim.named(call)?;
    sim.wait_flock(vmid, arrived)?;
    sim.check_lock(vmid)?;
    known(&sim.named(call)?.config, name).map_err(Fail::die)?;
    let section = sim.guests.get_mut(&vmid).and_then(|guest| guest.config.snapshots.get_mut(name));
    if let Some(section) = section {
        section.description = Some(text.to_owned()).filter(|text| !text.is_empty());
    }
    Ok(Value::Null)
}

/// `POST …/snapshot`
pub(crate) fn take(sim: &mut Sim, call: &Call, _: OffsetDateTime) -> Answer {
    let name = call.get("snapname").unwrap_or("").to_owned();
    let reserved = match call.kind() {
        Kind::Lxc => name == "vzdump",
        Kind::Qemu => name.to_lowercase() == "pending",
    };
    if reserved || name == "current" {
        return Err(Fail::die(format!("unable to use snapshot name '{name}' (reserved name)")));
    }
    let description = call.get("description").map(str::to_owned);
    let vmstate = call.is("vmstate");
    Ok(power::fork(sim, call, "snapshot", Work::Snapshot { name, description, vmstate }))
}

/// `DELETE …/snapshot/{snapname}`
pub(crate) fn remove(sim: &mut Sim, call: &Call, _: OffsetDateTime) -> Answer {
    let name = call.get("snapname").unwrap_or("").to_owned();
    Ok(power::fork(sim, call, "delsnapshot", Work::RemoveSnapshot { name }))
}

/// `POST …/snapshot/{snapname}/rollback`
pub(crate) fn rollback(sim: &mut Sim, call: &Call, _: OffsetDateTime) -> Answer {
    let name = call.get("snapname").unwrap_or("").to_owned();
    Ok(power::fork(sim, call, "rollback", Work::Rollback { name, start: call.is("start") }))
}

/// What the workers do.
pub(crate) fn work(sim: &mut Sim, upid: &str, vmid: u32, work: Work) {
    if let Err(text) = step(sim, upid, vmid, work) {
        sim.end(upid, &text);
    }
}

fn step(sim: &mut Sim, upid: &str, vmid: u32, work: Work) -> Result<(), String> {
    let guest = sim.guests.get(&vmid).ok_or("CT is gone")?;
    let locked = limits::locked(guest);
    let free = || locked.clone().map_or(Ok(()), Err);
    let template = guest.config.is("template");
    let (lock, next) = match work {
        Work::Snapshot { name, description, vmstate } => {
            if template {
                return Err("you can't take a snapshot if it's a template".into());
            }
            free()?;
            if guest.config.snapshots.contains_key(&name) {
                return Err(format!("snapshot name '{name}' already used"));
            }
            if !possible(sim, &guest.config, Feature::Snapshot, None) {
                return Err("snapshot feature is not available".into());
            }
            add(sim, vmid, &name, description);
            sim.tell(Disk::Kept { vmid, snapshot: name.clone() });
            if vmstate {
                sim.save_memory(vmid, &name);
            }
            ("snapshot", Work::Snapshotted)
        }
        Work::Rollback { name, start } => {
            if template {
                return Err("you can't rollback if vm is a template".into());
            }
            known(&guest.config, &name)?;
            newest(sim, vmid, &name)?;
            if let Some(state) = guest.config.snapshots[&name].get("snapstate") {
                return Err(format!("unable to rollback to incomplete snapshot (snapstate = {state})"));
            }
            free()?;
            let in_use = guest.kind == Kind::Lxc && guest.run.is_some();
            sim.halt(vmid);
            if let Some(guest) = sim.guests.get_mut(&vmid) {
                guest.unclean = in_use;
            }
            ("rollback", Work::RolledBack { name, start })
        }
        Work::RemoveSnapshot { name } => {
            known(&guest.config, &name)?;
            free()?;
            ("snapshot-delete", Work::RemovedSnapshot { name })
        }
        done => return finish(sim, upid, vmid, done),
    };
    if let Some(guest) = sim.guests.get_mut(&vmid) {
        guest.config.set("lock", lock);
    }
    // The file lock is given back while the storage works; the config's lock holds.
    sim.flocks.remove(&vmid);
    sim.then(sim.setup.task_secs, upid, vmid, next);
    Ok(())
}

fn finish(sim: &mut Sim, upid: &str, vmid: u32, work: Work) -> Result<(), String> {
    let failure = matches!(work, Work::Snapshotted).then(|| sim.failure(&sim.tasks[upid].kind.clone()));
    if let Work::RemovedSnapshot { name } = &work {
        removable(sim, vmid, name)?;
    }
    let guest = sim.guests.get_mut(&vmid).ok_or("CT is gone")?;
    guest.config.unset("lock");
    match work {
        Work::Snapshotted => {
            let prepared =
                guest.config.snapshots.iter().find(|(_, it)| it.get("snapstate") == Some("prepare"));
            let name = prepared.map(|(name, _)| name.clone()).unwrap_or_default();
            if let Some(text) = failure.flatten() {
                // What was made of it goes before the task ends.
                forget(sim, vmid, &name);
                return Err(text);
            }
            if let Some(section) = guest.config.snapshots.get_mut(&name) {
                section.unset("snapstate");
            }
            guest.config.set("parent", name);
        }
        Work::RemovedSnapshot { name } => forget(sim, vmid, &name),
        Work::RolledBack { name, start } => {
            let mut old = guest.config.snapshots.get(&name).cloned().unwrap_or_default();
            old.unset("snaptime");
            old.set("parent", name.as_str());
            // All comes back but the description, which stays what it is now.
            for key in ["vmstate", "runningmachine", "runningcpu"] {
                old.unset(key);
            }
            guest.config.options = old.options;
            guest.config.pending.clear();
            guest.run = None;
            sim.tell(Disk::RolledBack { vmid, snapshot: name.clone() });
            let Some(guest) = sim.guests.get_mut(&vmid) else { return Ok(()) };
            if guest.saved.contains_key(&name) {
                // The config is written and bare of locks; the file lock is held until the memory is back.
                sim.flocks.insert(vmid, upid.to_owned());
                sim.then(sim.setup.start_secs, upid, vmid, qemu::Work::Recall { name }.into());
                return Ok(());
            }
            if start {
                sim.boot(vmid);
            }
        }
        _ => {}
    }
    sim.end(upid, "OK");
    Ok(())
}

/// Ceph removes no snapshot that has a clone, and PVE leaves its lock then [pve-guest-common `snapshot_delete`].
fn removable(sim: &Sim, vmid: u32, name: &str) -> Result<(), String> {
    let Some(guest) = sim.guests.get(&vmid) else { return Ok(()) };
    for volid in storage::volumes(&guest.config.options).into_values() {
        let snapshot = format!("{volid}@{name}");
        let has_clone = sim.volumes.values().any(|it| it.parent.as_deref() == Some(&*snapshot));
        if has_clone && sim.storage_of(&volid) == Some(StorageKind::Rbd) {
            return Err(format!(
                "rbd unprotect '{snapshot}' error: rbd: unprotecting snap failed: (16) Device or resource busy"
            ));
        }
    }
    Ok(())
}

/// Nothing is left of a snapshot; whose parent it was, now has its parent.
fn forget(sim: &mut Sim, vmid: u32, name: &str) {
    sim.tell(Disk::Forgotten { vmid, snapshot: name.to_owned() });
    let Some(guest) = sim.guests.get_mut(&vmid) else { return };
    let gone = guest.config.snapshots.remove(name).unwrap_or_default();
    guest.saved.remove(name);
    let Config { options, snapshots, .. } = &mut guest.config;
    for options in snapshots.values_mut().map(|it| &mut it.options).chain([options]) {
        if options.get("parent").is_some_and(|it| it == name) {
            options.remove("parent");
            options.extend(gone.get("parent").map(|it| ("parent".to_owned(), it.to_owned())));
        }
    }
    if let Some(state) = gone.get("vmstate") {
        sim.volumes.remove(state);
    }
    for volid in storage::volumes(&guest.config.options).into_values() {
        if let Some(volume) = sim.volumes.get_mut(&volid) {
            volume.snapshots.retain(|snapshot| snapshot != name);
        }
    }
}

fn add(sim: &mut Sim, vmid: u32, name: &str, description: Option<String>) {
    let now = sim.now.unix_timestamp();
    let Some(guest) = sim.guests.get_mut(&vmid) else { return };
    let mut section = Config { description, options: guest.config.options.clone(), ..Config::default() };
    section.unset("lock");
    section.set("snaptime", now.to_string());
    section.set("snapstate", "prepare");
    guest.config.snapshots.insert(name.into(), section);
    for volid in storage::volumes(&guest.config.options).into_values() {
        if let Some(volume) = sim.volumes.get_mut(&volid) {
            volume.snapshots.push(name.into());
        }
    }
}

fn known(config: &Config, name: &str) -> Result<(), String> {
    let found = config.snapshots.contains_key(name);
    if found { Ok(()) } else { Err(format!("snapshot '{name}' does not exist")) }
}

/// ZFS rolls back to the newest snapshot only.
fn newest(sim: &Sim, vmid: u32, name: &str) -> Result<(), String> {
    for volid in storage::volumes(&sim.guests[&vmid].config.options).values() {
        let last = sim.volumes.get(volid).and_then(|volume| volume.snapshots.last());
        if sim.storage_of(volid) == Some(StorageKind::ZfsPool) && last.is_some_and(|last| last != name) {
            return Err(format!("can't rollback, '{name}' is not most recent snapshot on '{volid}'"));
        }
    }
    Ok(())
}

fn possible(sim: &Sim, config: &Config, feature: Feature, snapname: Option<&str>) -> bool {
    storage::volumes(&config.options).values().all(|volid| sim.has(volid, feature, snapname))
}
