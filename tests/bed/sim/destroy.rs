//! `DELETE …/{vmid}` [pve-container `API2/LXC.pm`, qemu-server `API2/Qemu.pm` destroy_vm].

use time::OffsetDateTime;

use super::{
    Guest, Kind, Sim, limits,
    reply::{Answer, Fail},
    storage,
    tasks::Work,
    wire::Call,
};

/// Checks, and the UPID of the worker.
pub(crate) fn destroy(sim: &mut Sim, call: &Call, _: OffsetDateTime) -> Answer {
    let (vmid, force) = (call.vmid(), call.is("force"));
    let guest = sim.named(call)?;
    if let Some(text) = protected(guest) {
        return Err(Fail::die(text));
    }
    let (kind, running) = (guest.kind, guest.run.is_some());
    if kind == Kind::Lxc {
        sim.check_lock(vmid)?;
    }
    if running && !force {
        return Err(Fail::die(is_running(kind, vmid)));
    }
    Ok(sim.fork_locked(call.node(), &kind.task("destroy"), vmid, &call.token, Work::Destroy { force }).into())
}

/// The config is whole for most of the time, then only a lock, then gone.
pub(crate) fn work(sim: &mut Sim, upid: &str, vmid: u32, work: &Work) {
    let all = sim.setup.destroy_secs;
    match work {
        Work::Destroy { force } => match refusal(sim, upid, vmid, *force) {
            Some(text) => sim.end(upid, &text),
            None if sim.guests[&vmid].run.is_some() => {
                sim.then(sim.kill_secs(), upid, vmid, Work::DestroyDisks);
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
    let task = sim.tasks.get(upid)?;
    let (kind, name) = (task.guest_kind(), task.kind.clone());
    let Some(guest) = sim.at(kind, &task.node, vmid) else {
        return Some(limits::missing(kind, &task.node, vmid));
    };
    if let Some(text) = protected(guest) {
        return Some(text);
    }
    let suspended = kind == Kind::Qemu && guest.config.lock() == Some("suspended");
    if let Some(text) = limits::locked(guest).filter(|_| !suspended) {
        return Some(text);
    }
    if guest.run.is_some() && !force {
        return Some(is_running(kind, vmid));
    }
    let volumes = storage::volumes(&guest.config.options);
    if let Some(used) = volumes.values().find(|volid| sim.child_of(volid).is_some()) {
        let volname = used.split(':').nth(1).unwrap_or(used);
        return Some(match kind {
            Kind::Lxc => format!("base volume '{volname}' is still in use by linked clones"),
            // The words are PVE's.
            Kind::Qemu => format!("base volume '{used}' is still in use by linked cloned"),
        });
    }
    sim.failure(&name)
}

fn protected(guest: &Guest) -> Option<String> {
    let text = || format!("can't remove {} {} - protection mode enabled", guest.kind.noun(), guest.vmid);
    guest.config.is("protection").then(text)
}

fn is_running(kind: Kind, vmid: u32) -> String {
    match kind {
        Kind::Lxc => format!("unable to destroy CT {vmid} - container is running"),
        Kind::Qemu => format!("VM {vmid} is running - destroy failed"),
    }
}

fn remove_volumes(sim: &mut Sim, vmid: u32) {
    let Some(guest) = sim.guests.get(&vmid) else { return };
    for volid in storage::owned(&guest.config) {
        sim.volumes.remove(&volid);
    }
}
