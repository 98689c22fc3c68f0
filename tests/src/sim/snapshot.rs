//! Snapshots [pve-guest-common `AbstractConfig.pm`].

use serde_json::{Value, json};
use time::OffsetDateTime;

use super::{
    Config, Sim, StorageKind,
    reply::{Answer, Fail},
    storage::{self, Feature},
    tasks::Work,
    wire::Call,
};

/// `GET …/feature`
pub(crate) fn feature(sim: &mut Sim, call: &Call, _: OffsetDateTime) -> Answer {
    let config = &sim.container(call)?.config;
    let has = match call.get("feature") {
        Some("clone") => possible(sim, config, Feature::Clone, call.get("snapname")),
        Some("snapshot") => possible(sim, config, Feature::Snapshot, None),
        _ => true,
    };
    Ok(json!({ "hasFeature": u8::from(has) }))
}

/// `GET …/snapshot`, with `current` among them.
pub(crate) fn list(sim: &mut Sim, call: &Call, _: OffsetDateTime) -> Answer {
    let guest = sim.container(call)?;
    let config = &guest.config;
    let one = |(name, section): (&String, &Config)| {
        let mut item = json!({ "name": name, "description": section.description_read().unwrap_or_default() });
        if let Some(time) = section.get("snaptime").and_then(|time| time.parse::<i64>().ok()) {
            item["snaptime"] = json!(time);
        }
        if let Some(parent) = section.get("parent") {
            item["parent"] = json!(parent);
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

/// `POST …/snapshot`
pub(crate) fn take(sim: &mut Sim, call: &Call, _: OffsetDateTime) -> Answer {
    let name = call.get("snapname").unwrap_or("").to_owned();
    if matches!(name.as_str(), "current" | "vzdump") {
        return Err(Fail::die(format!("unable to use snapshot name '{name}' (reserved name)")));
    }
    let description = call.get("description").map(str::to_owned);
    Ok(fork(sim, call, "vzsnapshot", Work::Snapshot { name, description }))
}

/// `DELETE …/snapshot/{snapname}`
pub(crate) fn remove(sim: &mut Sim, call: &Call, _: OffsetDateTime) -> Answer {
    let name = call.get("snapname").unwrap_or("").to_owned();
    Ok(fork(sim, call, "vzdelsnapshot", Work::RemoveSnapshot { name }))
}

/// `POST …/snapshot/{snapname}/rollback`
pub(crate) fn rollback(sim: &mut Sim, call: &Call, _: OffsetDateTime) -> Answer {
    let name = call.get("snapname").unwrap_or("").to_owned();
    Ok(fork(sim, call, "vzrollback", Work::Rollback { name, start: call.is("start") }))
}

/// What the workers do.
pub(crate) fn work(sim: &mut Sim, upid: &str, vmid: u32, work: Work) {
    if let Err(text) = step(sim, upid, vmid, work) {
        sim.end(upid, &text);
    }
}

fn step(sim: &mut Sim, upid: &str, vmid: u32, work: Work) -> Result<(), String> {
    let guest = sim.guests.get(&vmid).ok_or("CT is gone")?;
    let lock = guest.config.lock().map(str::to_owned);
    let free = || lock.as_ref().map_or(Ok(()), |lock| Err(format!("CT is locked ({lock})")));
    let template = guest.config.is("template");
    let (lock, next) = match work {
        Work::Snapshot { name, description } => {
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
            ("snapshot", Work::Snapshotted)
        }
        Work::Rollback { name, start } => {
            if template {
                return Err("you can't rollback if vm is a template".into());
            }
            known(&guest.config, &name)?;
            newest(sim, vmid, &name)?;
            free()?;
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
    let guest = sim.guests.get_mut(&vmid).ok_or("CT is gone")?;
    guest.config.unset("lock");
    match work {
        Work::RemovedSnapshot { name } => {
            guest.config.snapshots.remove(&name);
            for volid in storage::volumes(&guest.config.options).into_values() {
                if let Some(volume) = sim.volumes.get_mut(&volid) {
                    volume.snapshots.retain(|snapshot| *snapshot != name);
                }
            }
        }
        Work::RolledBack { name, start } => {
            let mut old = guest.config.snapshots.get(&name).cloned().unwrap_or_default();
            old.unset("snaptime");
            old.set("parent", name);
            // All comes back but the description, which stays what it is now.
            guest.config.options = old.options;
            guest.run = None;
            if start {
                sim.boot(vmid);
            }
        }
        _ => {}
    }
    sim.end(upid, "OK");
    Ok(())
}

fn add(sim: &mut Sim, vmid: u32, name: &str, description: Option<String>) {
    let now = sim.now.unix_timestamp();
    let Some(guest) = sim.guests.get_mut(&vmid) else { return };
    let mut section = Config { description, options: guest.config.options.clone(), ..Config::default() };
    section.unset("lock");
    section.set("snaptime", now.to_string());
    guest.config.set("parent", name);
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

fn fork(sim: &mut Sim, call: &Call, kind: &str, work: Work) -> Value {
    sim.fork_locked(call.node(), kind, call.vmid(), &call.token, work).into()
}
