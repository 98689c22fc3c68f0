//! Start, stop and their like [pve-container `API2/LXC/Status.pm`, qemu-server `API2/Qemu.pm`].

use time::OffsetDateTime;

use super::{
    Guest, Kind, Sim, limits,
    reply::{Answer, Fail},
    tasks::{Step, Work},
    wire::Call,
};

/// What a VM's memory must find as it was.
const SIZES: [&str; 3] = ["cores", "memory", "sockets"];

/// `POST …/status/start`; a guest that is not there fails in the worker, a VM
/// that runs does too.
pub(crate) fn start(sim: &mut Sim, call: &Call, _: OffsetDateTime) -> Answer {
    skiplock(call)?;
    if call.kind() == Kind::Lxc && running(sim, call) {
        return Err(Fail::die(format!("CT {} already running", call.vmid())));
    }
    Ok(fork(sim, call, "start", Work::Start))
}

/// `POST …/status/stop`; a VM that does not run is stopped with success.
pub(crate) fn stop(sim: &mut Sim, call: &Call, _: OffsetDateTime) -> Answer {
    skiplock(call)?;
    if call.kind() == Kind::Lxc {
        must_run(sim, call, "CT")?;
    }
    Ok(fork(sim, call, "stop", Work::Stop))
}

/// `POST …/status/shutdown`
pub(crate) fn shutdown(sim: &mut Sim, call: &Call, _: OffsetDateTime) -> Answer {
    match call.kind() {
        Kind::Lxc => must_run(sim, call, "CT")?,
        Kind::Qemu if call.is("forceStop") => {}
        Kind::Qemu => not_paused(sim, call)?,
    }
    Ok(fork(sim, call, "shutdown", Work::Stop))
}

/// `POST …/status/reboot`; it says VM of a container.
pub(crate) fn reboot(sim: &mut Sim, call: &Call, _: OffsetDateTime) -> Answer {
    not_paused(sim, call)?;
    must_run(sim, call, "VM")?;
    Ok(fork(sim, call, "reboot", Work::Reboot))
}

/// `POST …/lxc/{vmid}/status/suspend` runs lxc-checkpoint, which fails without CRIU.
pub(crate) fn suspend(sim: &mut Sim, call: &Call, _: OffsetDateTime) -> Answer {
    must_run(sim, call, "CT")?;
    let text =
        format!("command 'lxc-checkpoint -n {} -s -D /var/lib/vz/dump' failed: exit code 1", call.vmid());
    Ok(fork(sim, call, "suspend", Work::Fail { text }))
}

/// `POST …/status/resume`, likewise.
pub(crate) fn resume(sim: &mut Sim, call: &Call, _: OffsetDateTime) -> Answer {
    if running(sim, call) {
        return Err(Fail::die(format!("CT {} already running", call.vmid())));
    }
    let text = format!(
        "command 'lxc-checkpoint -n {} -r --foreground -D /var/lib/vz/dump' failed: exit code 1",
        call.vmid()
    );
    Ok(fork(sim, call, "resume", Work::Fail { text }))
}

/// What the workers do, under the file lock all the time.
pub(crate) fn work(sim: &mut Sim, upid: &str, vmid: u32, work: &Work) {
    let refused = refusal(sim, upid, vmid, work);
    if let Some(text) = refused.or_else(|| sim.failure(&sim.tasks[upid].kind.clone())) {
        return sim.end(upid, &text);
    }
    let (start, stop) = (sim.setup.start_secs, sim.setup.stop_secs);
    match work {
        Work::Start => {
            let wait = sim.recovery(vmid).unwrap_or(start);
            sim.then(wait, upid, vmid, Work::Started);
        }
        Work::Stop if idle(&sim.guests[&vmid]) => sim.end(upid, "OK"),
        Work::Stop => {
            let kills = sim.tasks[upid].kind.ends_with("stop");
            sim.then(if kills { sim.kill_secs() } else { stop }, upid, vmid, Work::Stopped);
        }
        Work::Reboot => sim.then(stop, upid, vmid, Work::Rebooted),
        Work::Rebooted if sim.guests.get(&vmid).is_some_and(|guest| guest.kind == Kind::Qemu) => {
            // The task only asks; `qmeventd` starts the VM when QEMU has ended.
            sim.halt(vmid);
            sim.after(start, Step::Restart { vmid });
            sim.end(upid, "OK");
        }
        Work::Rebooted => {
            sim.halt(vmid);
            sim.then(start, upid, vmid, Work::Started);
        }
        Work::Started => {
            sim.recovered(vmid);
            sim.bring_up(vmid);
            sim.end(upid, "OK");
        }
        _ => {
            sim.halt(vmid);
            sim.end(upid, "OK");
        }
    }
}

fn refusal(sim: &Sim, upid: &str, vmid: u32, work: &Work) -> Option<String> {
    let task = sim.tasks.get(upid)?;
    let Some(guest) = sim.at(task.guest_kind(), &task.node, vmid) else {
        return Some(limits::missing(task.guest_kind(), &task.node, vmid));
    };
    let lock = guest.config.lock();
    let tolerated = match (guest.kind, work) {
        // pve-container tolerates `mounted` at a start; a suspended VM is restored by one.
        (Kind::Lxc, Work::Start) => lock == Some("mounted"),
        (Kind::Qemu, Work::Start) => lock == Some("suspended"),
        (Kind::Lxc, Work::Stop) => false,
        (Kind::Qemu, Work::Stop | Work::Reboot) => idle(guest),
        _ => true,
    };
    match work {
        Work::Start if guest.config.is("template") => {
            let noun = if guest.kind == Kind::Lxc { "CT" } else { "vm" };
            Some(format!("you can't start a {noun} if it's a template"))
        }
        _ if !tolerated && lock.is_some() => limits::locked(guest),
        Work::Start if guest.kind == Kind::Qemu && guest.run.is_some() => {
            Some(format!("VM {vmid} already running"))
        }
        // What is pending is applied before the memory is read, which is then of another machine.
        Work::Start
            if lock == Some("suspended") && SIZES.iter().any(|it| guest.config.pending.contains_key(*it)) =>
        {
            Some("start failed: QEMU exited with code 1".into())
        }
        _ => None,
    }
}

/// A VM without a process: there is nothing to stop.
fn idle(guest: &Guest) -> bool {
    guest.kind == Kind::Qemu && guest.run.is_none()
}

impl Sim {
    /// `systemctl start` of a guest that another start has brought up changes nothing.
    pub(crate) fn bring_up(&mut self, vmid: u32) {
        let Some(guest) = self.guests.get(&vmid).filter(|guest| guest.run.is_none()) else { return };
        if guest.config.lock() == Some("suspended") { self.restore(vmid, "") } else { self.boot(vmid) }
    }

    /// The guest is off.
    pub(crate) fn halt(&mut self, vmid: u32) {
        if let Some(guest) = self.guests.get_mut(&vmid) {
            guest.run = None;
        }
    }
}

pub(crate) fn fork(sim: &mut Sim, call: &Call, action: &str, work: Work) -> serde_json::Value {
    sim.fork_locked(call.node(), &call.kind().task(action), call.vmid(), &call.token, work).into()
}

fn not_paused(sim: &Sim, call: &Call) -> Result<(), Fail> {
    let paused = |guest: &Guest| guest.run.is_some() && guest.awake().is_none();
    if sim.named(call).is_ok_and(paused) { Err(Fail::die("VM is paused - cannot shutdown")) } else { Ok(()) }
}

fn running(sim: &Sim, call: &Call) -> bool {
    sim.named(call).is_ok_and(|guest| guest.run.is_some())
}

pub(crate) fn must_run(sim: &Sim, call: &Call, noun: &str) -> Result<(), Fail> {
    if running(sim, call) { Ok(()) } else { Err(Fail::die(format!("{noun} {} not running", call.vmid()))) }
}

pub(crate) fn skiplock(call: &Call) -> Result<(), Fail> {
    if call.is("skiplock") {
        return Err(Fail::parameter("skiplock", "Only root may use this option."));
    }
    Ok(())
}
