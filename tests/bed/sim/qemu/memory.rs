//! Pause, suspension to disk and what brings a VM back [qemu-server `QemuServer.pm` vm_suspend].

use time::OffsetDateTime;

use super::Work;
use crate::sim::{Kind, Run, Sim, limits, power, reply::Answer, storage, tasks, wire::Call};

/// What a 2 GiB VM's memory takes on a storage.
const STATE: u64 = 3 << 30;

/// `POST …/status/suspend`: the processors stand still; with `todisk` memory is
/// written and the VM ends.
pub(crate) fn suspend(sim: &mut Sim, call: &Call, _: OffsetDateTime) -> Answer {
    power::skiplock(call)?;
    power::must_run(sim, call, "VM")?;
    if !call.is("todisk") {
        return Ok(power::fork(sim, call, "pause", Work::Pause.into()));
    }
    sim.require(&call.token, &format!("/vms/{}", call.vmid()), &["VM.Config.Disk"])?;
    let options = &sim.named(call)?.config.options;
    let first = storage::volumes(options).into_values().next().unwrap_or_default();
    let own = options.get("vmstatestorage").cloned();
    let own = own.unwrap_or_else(|| first.split(':').next().unwrap_or("").to_owned());
    let storage = call.get("statestorage").map_or(own, str::to_owned);
    sim.require(&call.token, &format!("/storage/{storage}"), &["Datastore.AllocateSpace"])?;
    Ok(power::fork(sim, call, "suspend", Work::Suspend { storage }.into()))
}

/// `POST …/status/resume`: a paused VM goes on, a suspended one is restored.
pub(crate) fn resume(sim: &mut Sim, call: &Call, _: OffsetDateTime) -> Answer {
    power::skiplock(call)?;
    let suspended = sim.named(call).is_ok_and(|guest| guest.config.lock() == Some("suspended"));
    if suspended {
        return Ok(power::fork(sim, call, "resume", tasks::Work::Start));
    }
    power::must_run(sim, call, "VM")?;
    Ok(power::fork(sim, call, "resume", Work::Resume.into()))
}

/// The workers.
pub(super) fn work(sim: &mut Sim, upid: &str, vmid: u32, work: Work) {
    let (task, wait) = (sim.tasks[upid].kind.clone(), sim.setup.task_secs);
    let Some(guest) = sim.guests.get_mut(&vmid) else {
        let node = sim.tasks[upid].node.clone();
        return sim.end(upid, &limits::missing(Kind::Qemu, &node, vmid));
    };
    let begins = !matches!(work, Work::Suspended { .. });
    if let Some(text) = limits::locked(guest).filter(|_| begins) {
        return sim.end(upid, &text);
    }
    if guest.run.is_none() {
        return sim.end(upid, &format!("VM {vmid} not running"));
    }
    match work {
        Work::Suspend { storage } => {
            guest.config.set("lock", "suspending");
            sim.then(wait, upid, vmid, Work::Suspended { storage }.into());
        }
        Work::Suspended { storage } => match sim.failure(&task) {
            // The lock stays as a sign that something went wrong.
            Some(text) => sim.end(upid, &text),
            None => {
                let volid = format!("{storage}:vm-{vmid}-state-suspend-{}", sim.now.date());
                sim.freeze(vmid, "", &volid);
                sim.end(upid, "OK");
            }
        },
        pause_or_resume => {
            if let Some(text) = sim.failure(&task) {
                return sim.end(upid, &text);
            }
            sim.set_paused(vmid, matches!(pause_or_resume, Work::Pause));
            sim.end(upid, "OK");
        }
    }
}

/// A rollback's last step: what fails here leaves the disk and the config as
/// they were then, and the VM off [pve-guest-common `AbstractConfig.pm` snapshot_rollback].
pub(super) fn recalled(sim: &mut Sim, upid: &str, vmid: u32, name: &str) {
    if let Some(text) = sim.failure(&sim.tasks[upid].kind.clone()) {
        return sim.end(upid, &text);
    }
    sim.recall(vmid, name);
    sim.end(upid, "OK");
}

impl Sim {
    /// Halts or resumes the processors, as from the console of QEMU.
    pub fn set_paused(&mut self, vmid: u32, paused: bool) {
        if let Some(run) = self.guests.get_mut(&vmid).and_then(|guest| guest.run.as_mut()) {
            run.paused = paused;
        }
    }

    /// Takes memory to disk with a snapshot, if there is any.
    pub(crate) fn save_memory(&mut self, vmid: u32, name: &str) {
        let Some(guest) = self.guests.get_mut(&vmid) else { return };
        let Some(run) = guest.run.clone() else { return };
        let volumes = storage::volumes(&guest.config.options);
        let storage = volumes.values().next().and_then(|volid| volid.split(':').next()).unwrap_or("");
        let volid = format!("{storage}:vm-{vmid}-state-{name}");
        guest.saved.insert(name.into(), run);
        if let Some(section) = guest.config.snapshots.get_mut(name) {
            section.set("vmstate", volid.as_str());
            section.set("runningmachine", "pc-i440fx-9.2+pve1");
        }
        self.put_volume(&volid, STATE, None);
    }

    /// A VM ends with its memory on disk.
    fn freeze(&mut self, vmid: u32, name: &str, volid: &str) {
        self.put_volume(volid, STATE, None);
        let Some(guest) = self.guests.get_mut(&vmid) else { return };
        guest.saved.extend(guest.run.take().map(|run| (name.to_owned(), run)));
        guest.config.set("lock", "suspended");
        guest.config.set("vmstate", volid);
        guest.config.set("runningmachine", "pc-i440fx-9.2+pve1");
    }

    /// What was suspended to disk runs on, and what it was kept in goes.
    pub(crate) fn restore(&mut self, vmid: u32, name: &str) {
        self.recall(vmid, name);
        self.forget_memory(vmid);
        if let Some(guest) = self.guests.get_mut(&vmid) {
            guest.config.apply_pending();
        }
    }

    /// Memory comes back from a snapshot, or from a suspension.
    pub(crate) fn recall(&mut self, vmid: u32, name: &str) {
        let now = self.now;
        let Some(guest) = self.guests.get_mut(&vmid) else { return };
        let run = guest.saved.get(name).cloned();
        guest.run = run.map(|run| Run { since: now, ready: now, paused: false, ..run });
    }

    /// Nothing is left of a suspension.
    pub(crate) fn forget_memory(&mut self, vmid: u32) {
        let Some(guest) = self.guests.get_mut(&vmid) else { return };
        guest.saved.remove("");
        let state = guest.config.get("vmstate").map(str::to_owned);
        for key in ["lock", "vmstate", "runningmachine", "runningcpu"] {
            guest.config.unset(key);
        }
        self.volumes.retain(|volid, _| Some(volid) != state.as_ref());
    }
}
