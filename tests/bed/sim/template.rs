//! `POST …/template`: of a container it answers null, though a worker does it
//! [pve-container `API2/LXC.pm`, qemu-server `API2/Qemu.pm`].

use serde_json::Value;
use time::OffsetDateTime;

use super::{
    Guest, Kind, Sim, limits, power,
    reply::{Answer, Fail},
    storage::{self, Feature},
    tasks::{Step, Work},
    wire::Call,
};

/// Checks, then a worker that inherits the file lock.
pub(crate) fn convert(sim: &mut Sim, call: &Call, arrived: OffsetDateTime) -> Answer {
    let vmid = call.vmid();
    sim.named(call)?;
    if call.kind() == Kind::Qemu {
        possible(sim.named(call)?, call.get("disk").is_some()).map_err(Fail::die)?;
        return Ok(power::fork(sim, call, "template", Work::Template));
    }
    sim.wait_flock(vmid, arrived)?;
    possible(sim.named(call)?, false).map_err(Fail::die)?;
    let upid = sim.fork(call.node(), "vztemplate", &vmid.to_string(), &call.token);
    sim.flocks.insert(vmid, upid.clone());
    sim.after(time::Duration::ZERO, Step::Work { upid, vmid, work: Work::Template });
    Ok(Value::Null)
}

/// A VM that is a template already may be asked for one more of its disks.
fn possible(guest: &Guest, disk: bool) -> Result<(), String> {
    if let Some(text) = limits::locked(guest) {
        return Err(text);
    }
    let noun = guest.kind.noun();
    if !guest.config.snapshots.is_empty() {
        return Err(format!("unable to create template, because {noun} contains snapshots"));
    }
    if guest.config.is("template") && !disk {
        return Err("you can't convert a template to a template".into());
    }
    match (guest.run.is_some(), guest.kind) {
        (false, _) => Ok(()),
        (true, Kind::Lxc) => Err("you can't convert a CT to template if the CT is running".into()),
        (true, Kind::Qemu) => Err("you can't convert a VM to template if VM is running".into()),
    }
}

/// The worker.
pub(crate) fn work(sim: &mut Sim, upid: &str, vmid: u32, work: &Work) {
    let Some(guest) = sim.guests.get(&vmid) else { return sim.end(upid, "CT is gone") };
    let kind = guest.kind;
    if let (Kind::Qemu, Work::Template, Err(text)) = (kind, work, possible(guest, true)) {
        return sim.end(upid, &text);
    }
    let volumes = storage::volumes(&guest.config.options);
    if matches!(work, Work::Template) {
        let unfit = volumes.values().find(|volid| !sim.has(volid, Feature::Template, None));
        if let Some(volid) = unfit {
            return sim.end(upid, &format!("Template feature is not available for '{volid}'"));
        }
        if kind == Kind::Qemu {
            // The mark comes before the volumes.
            sim.admin_set(vmid, "template", "1");
        }
        if let Some(text) = sim.failure(&kind.task("template")) {
            return sim.end(upid, &text);
        }
        return sim.then(sim.setup.task_secs, upid, vmid, Work::Templated);
    }
    for (key, volid) in volumes {
        sim.rename_to_base(vmid, &key, &volid);
    }
    if let Some(guest) = sim.guests.get_mut(&vmid) {
        guest.config.set("template", "1");
    }
    sim.end(upid, "OK");
}

impl Sim {
    /// A base image has a name of its own: `base-…`, on ZFS `basevol-…`.
    pub(crate) fn rename_to_base(&mut self, vmid: u32, key: &str, volid: &str) {
        let (front, name) = volid.rsplit_once(['/', ':']).unwrap_or(("", volid));
        let separator = &volid[front.len()..=front.len()];
        let named = name.replacen("subvol-", "basevol-", 1).replacen("vm-", "base-", 1);
        let base = format!("{front}{separator}{named}");
        if let Some(mut volume) = self.volumes.remove(volid) {
            volume.base = true;
            self.volumes.insert(base.clone(), volume);
        }
        if let Some(guest) = self.guests.get_mut(&vmid) {
            let value = guest.config.get(key).unwrap_or("").replacen(volid, &base, 1);
            guest.config.set(key, value);
        }
    }
}
