//! `DELETE …/lxc/{vmid}` [pve-container `API2/LXC.pm` destroy_vm].

use time::OffsetDateTime;

use super::{
    Sim, limits,
    reply::{Answer, Fail},
    storage,
    tasks::Work,
    wire::Call,
};

/// Checks, and the UPID of the worker.
pub(crate) fn destroy(sim: &mut Sim, call: &Call, _: OffsetDateTime) -> Answer {
    let (vmid, force) = (call.vmid(), call.is("force"));
    let guest = sim.container(call)?;
    if guest.config.is("protection") {
        return Err(Fail::die(format!("can't remove CT {vmid} - protection mode enabled")));
    }
    let running = guest.run.is_some();
    sim.check_lock(vmid)?;
    if running && !force {
        return Err(Fail::die(format!("unable to destroy CT {vmid} - container is running")));
    }
    Ok(sim.fork_locked(call.node(), "vzdestroy", vmid, &call.token, Work::Destroy { force }).into())
}

/// The config is whole for most of the time, then only a lock, then gone.
pub(crate) fn work(sim: &mut Sim, upid: &str, vmid: u32, work: &Work) {
    let all = sim.setup.destroy_secs;
    match work {
        Work::Destroy { force } => match refusal(sim, upid, vmid, *force) {
            Some(text) => sim.end(upid, &text),
            None if sim.guests[&vmid].run.is_some() => {
                sim.then(sim.setup.stop_secs, upid, vmid, Work::DestroyDisks);
            }
            None => self::work(sim, upid, vmid, &Work::DestroyDisks),
        },
        Work::DestroyDisks => {
            sim.halt(vmid);
            sim.then(all * 4 / 5, upid, vmid, Work::DestroyMarks);
        }
        Work::DestroyMarks => {
            remove_volumes(sim, vmid);
            if let Some(guest) = sim.guests.get_mut(&vmid) {
                guest.config = super::Config::default();
                guest.config.set("lock", "destroyed");
            }
            sim.then(all / 5, upid, vmid, Work::Destroyed);
        }
        _ => {
            sim.guests.remove(&vmid);
            sim.access.acl.retain(|(_, path), _| *path != format!("/vms/{vmid}"));
            sim.end(upid, "OK");
        }
    }
}

/// The worker looks again: much may have happened while it waited for the lock.
fn refusal(sim: &mut Sim, upid: &str, vmid: u32, force: bool) -> Option<String> {
    let node = sim.tasks.get(upid).map(|task| task.node.clone()).unwrap_or_default();
    let Some(guest) = sim.guests.get(&vmid).filter(|guest| guest.node == node) else {
        return Some(limits::missing(&node, vmid));
    };
    if let Some(lock) = guest.config.lock() {
        return Some(format!("CT is locked ({lock})"));
    }
    if guest.run.is_some() && !force {
        return Some(format!("unable to destroy CT {vmid} - container is running"));
    }
    let volumes = storage::volumes(&guest.config.options);
    if let Some(used) = volumes.values().find(|volid| sim.child_of(volid).is_some()) {
        let volname = used.split(':').nth(1).unwrap_or(used);
        return Some(format!("base volume '{volname}' is still in use by linked clones"));
    }
    sim.failure("vzdestroy")
}

fn remove_volumes(sim: &mut Sim, vmid: u32) {
    let Some(guest) = sim.guests.get(&vmid) else { return };
    for volid in storage::volumes(&guest.config.options).values() {
        sim.volumes.remove(volid);
    }
}
