//! Start, stop and their like [pve-container `API2/LXC/Status.pm`].

use time::OffsetDateTime;

use super::{
    Sim, limits,
    reply::{Answer, Fail},
    tasks::Work,
    wire::Call,
};

/// `POST …/status/start`; a container that is not there fails in the worker.
pub(crate) fn start(sim: &mut Sim, call: &Call, _: OffsetDateTime) -> Answer {
    skiplock(call)?;
    if running(sim, call) {
        return Err(Fail::die(format!("CT {} already running", call.vmid())));
    }
    Ok(fork(sim, call, "vzstart", Work::Start))
}

/// `POST …/status/stop`
pub(crate) fn stop(sim: &mut Sim, call: &Call, _: OffsetDateTime) -> Answer {
    skiplock(call)?;
    must_run(sim, call, "CT")?;
    Ok(fork(sim, call, "vzstop", Work::Stop))
}

/// `POST …/status/shutdown`
pub(crate) fn shutdown(sim: &mut Sim, call: &Call, _: OffsetDateTime) -> Answer {
    must_run(sim, call, "CT")?;
    Ok(fork(sim, call, "vzshutdown", Work::Stop))
}

/// `POST …/status/reboot`; it says VM of a container.
pub(crate) fn reboot(sim: &mut Sim, call: &Call, _: OffsetDateTime) -> Answer {
    must_run(sim, call, "VM")?;
    Ok(fork(sim, call, "vzreboot", Work::Reboot))
}

/// `POST …/status/suspend` runs lxc-checkpoint, which fails without CRIU.
pub(crate) fn suspend(sim: &mut Sim, call: &Call, _: OffsetDateTime) -> Answer {
    must_run(sim, call, "CT")?;
    let text =
        format!("command 'lxc-checkpoint -n {} -s -D /var/lib/vz/dump' failed: exit code 1", call.vmid());
    Ok(fork(sim, call, "vzsuspend", Work::Fail { text }))
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
    Ok(fork(sim, call, "vzresume", Work::Fail { text }))
}

/// What the workers do, under the file lock all the time.
pub(crate) fn work(sim: &mut Sim, upid: &str, vmid: u32, work: &Work) {
    let node = sim.tasks.get(upid).map(|task| task.node.clone()).unwrap_or_default();
    let refused = match sim.guests.get(&vmid).filter(|guest| guest.node == node) {
        None => Some(limits::missing(&node, vmid)),
        Some(guest) => match work {
            Work::Start if guest.config.is("template") => {
                Some("you can't start a CT if it's a template".into())
            }
            // pve-container tolerates `mounted` at a start.
            Work::Start if guest.config.lock() == Some("mounted") => None,
            Work::Start | Work::Stop => guest.config.lock().map(|lock| format!("CT is locked ({lock})")),
            _ => None,
        },
    };
    if let Some(text) = refused.or_else(|| sim.failure(&sim.tasks[upid].kind.clone())) {
        return sim.end(upid, &text);
    }
    let (start, stop) = (sim.setup.start_secs, sim.setup.stop_secs);
    match work {
        Work::Start => sim.then(start, upid, vmid, Work::Started),
        Work::Stop => sim.then(stop, upid, vmid, Work::Stopped),
        Work::Reboot => sim.then(stop, upid, vmid, Work::Rebooted),
        Work::Rebooted => {
            sim.halt(vmid);
            sim.then(start, upid, vmid, Work::Started);
        }
        Work::Started => {
            // `systemctl start` of a container that another start has brought up changes nothing.
            if sim.guests.get(&vmid).is_some_and(|guest| guest.run.is_none()) {
                sim.boot(vmid);
            }
            sim.end(upid, "OK");
        }
        _ => {
            sim.halt(vmid);
            sim.end(upid, "OK");
        }
    }
}

impl Sim {
    /// The guest is off.
    pub(crate) fn halt(&mut self, vmid: u32) {
        if let Some(guest) = self.guests.get_mut(&vmid) {
            guest.run = None;
        }
    }
}

fn fork(sim: &mut Sim, call: &Call, kind: &str, work: Work) -> serde_json::Value {
    sim.fork_locked(call.node(), kind, call.vmid(), &call.token, work).into()
}

fn running(sim: &Sim, call: &Call) -> bool {
    sim.container(call).is_ok_and(|guest| guest.run.is_some())
}

fn must_run(sim: &Sim, call: &Call, noun: &str) -> Result<(), Fail> {
    if running(sim, call) { Ok(()) } else { Err(Fail::die(format!("{noun} {} not running", call.vmid()))) }
}

fn skiplock(call: &Call) -> Result<(), Fail> {
    if call.is("skiplock") {
        return Err(Fail::parameter("skiplock", "Only root may use this option."));
    }
    Ok(())
}
