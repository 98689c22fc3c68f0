//! Workers: UPIDs, what a worker does next, and how it ends.

use time::{Duration, OffsetDateTime};

use super::{
    Kind, Sim, clone, create, destroy, download, power, qemu, resize, setup::FLOCK_WAIT, snapshot, template,
    terminal,
};

/// A task.
#[derive(Clone, Debug)]
pub struct Task {
    /// `UPID:…`
    pub upid: String,
    /// Where it runs.
    pub node: String,
    /// `vzclone`, `vzstart`, …
    pub kind: String,
    /// The guest that it is about: for a clone the source.
    pub id: String,
    /// The token, in full.
    pub user: String,
    /// When it began.
    pub start: OffsetDateTime,
    /// How it ended, `OK` or why not.
    pub exit: Option<String>,
    /// When it ended.
    pub end: Option<OffsetDateTime>,
    /// Its log.
    pub log: Vec<String>,
    pub(crate) plan: Option<Plan>,
}

/// What a clone's worker was asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    pub(crate) full: bool,
    pub(crate) storage: Option<String>,
    pub(crate) snapname: Option<String>,
    pub(crate) pool: Option<String>,
    pub(crate) target: Option<String>,
    /// Of a VM, whose worker writes them.
    pub(crate) name: Option<String>,
    pub(crate) description: Option<String>,
}

/// What happens at a point in time.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// A lock that lasted no longer than its request.
    Unlock { vmid: u32, lock: &'static str },
    /// The clone's config, after the moment that shows only its lock.
    Fill { newid: u32, guest: Box<super::Guest> },
    /// A worker's next piece of work.
    Work { upid: String, vmid: u32, work: Work },
    /// A worker that needs the guest's file lock first.
    Flock { upid: String, vmid: u32, since: OffsetDateTime, work: Work },
    /// `qmeventd` starts a VM again that was asked to reboot.
    Restart { vmid: u32 },
}

/// Pieces of work.
#[derive(Clone, Debug)]
pub(crate) enum Work {
    Clone { newid: u32 },
    Unpack { guest: Box<super::Guest> },
    Unpacked { guest: Box<super::Guest> },
    Created,
    Download { volid: String },
    Start,
    Started,
    Stop,
    Stopped,
    Reboot,
    Rebooted,
    Destroy { force: bool },
    DestroyDisks,
    DestroyMarks,
    Destroyed,
    Resize { disk: String, size: u64 },
    Resized { disk: String, size: u64 },
    Template,
    Templated,
    Snapshot { name: String, description: Option<String>, vmstate: bool },
    Snapshotted,
    Rollback { name: String, start: bool },
    RolledBack { name: String, start: bool },
    RemoveSnapshot { name: String },
    RemovedSnapshot { name: String },
    Fail { text: String },
    Unvisited { text: String },
    Qemu(qemu::Work),
}

impl Task {
    /// What kind of guest it is about, by its type.
    pub(crate) fn guest_kind(&self) -> Kind {
        if self.kind.starts_with("qm") { Kind::Qemu } else { Kind::Lxc }
    }
}

impl Step {
    pub(crate) fn run(self, sim: &mut Sim) {
        match self {
            Self::Unlock { vmid, lock } => sim.unlock(vmid, lock),
            Self::Fill { newid, guest } => clone::fill(sim, newid, *guest),
            Self::Work { upid, vmid, work } => sim.work(&upid, vmid, work),
            Self::Flock { upid, vmid, since, work } => sim.flock(upid, vmid, since, work),
            Self::Restart { vmid } => sim.bring_up(vmid),
        }
    }
}

impl Sim {
    /// Starts a worker that does `work` under the guest's file lock.
    pub(crate) fn fork_locked(
        &mut self,
        node: &str,
        kind: &str,
        vmid: u32,
        user: &str,
        work: Work,
    ) -> String {
        let upid = self.fork(node, kind, &vmid.to_string(), user);
        let step = Step::Flock { upid: upid.clone(), vmid, since: self.now, work };
        self.after(Duration::ZERO, step);
        upid
    }

    /// A new UPID; its worker is scheduled by the caller.
    pub(crate) fn fork(&mut self, node: &str, kind: &str, id: &str, user: &str) -> String {
        let pid = 1000 + self.rng.below(4_000_000);
        let started = self.now.unix_timestamp();
        let pstart = self.sequence + 0x0100_0000;
        let upid = format!("UPID:{node}:{pid:08X}:{pstart:08X}:{started:08X}:{kind}:{id}:{user}:");
        let task = Task {
            upid: upid.clone(),
            node: node.into(),
            kind: kind.into(),
            id: id.into(),
            user: user.into(),
            start: self.now,
            exit: None,
            end: None,
            log: Vec::new(),
            plan: None,
        };
        self.tasks.insert(upid.clone(), task);
        upid
    }

    /// Ends a task and gives its file lock back.
    pub(crate) fn end(&mut self, upid: &str, exit: &str) {
        let now = self.now;
        self.flocks.retain(|_, holder| holder != upid);
        self.shared.retain(|(_, holder)| holder != upid);
        let said = if exit == "OK" { Vec::new() } else { std::mem::take(&mut self.last_words) };
        if let Some(task) = self.tasks.get_mut(upid) {
            task.log.extend(said);
            let line = if exit == "OK" { "TASK OK".to_owned() } else { format!("TASK ERROR: {exit}") };
            task.log.push(line);
            task.exit = Some(exit.replace('\n', " "));
            task.end = Some(now);
        }
    }

    /// Schedules a worker's next piece.
    pub(crate) fn then(&mut self, after: Duration, upid: &str, vmid: u32, work: Work) {
        self.after(after, Step::Work { upid: upid.into(), vmid, work });
    }

    pub(crate) fn unlock(&mut self, vmid: u32, lock: &str) {
        if let Some(guest) = self.guests.get_mut(&vmid).filter(|guest| guest.config.lock() == Some(lock)) {
            guest.config.unset("lock");
        }
    }

    /// The file that PVE locks, in the words of `Tools.pm`.
    pub(crate) fn flock_timeout(&self, vmid: u32) -> String {
        let file = match self.guests.get(&vmid).map(|guest| guest.kind) {
            Some(Kind::Lxc) | None => format!("/run/lock/lxc/pve-config-{vmid}.lock"),
            Some(Kind::Qemu) => format!("/var/lock/qemu-server/lock-{vmid}.conf"),
        };
        format!("can't lock file '{file}' - got timeout")
    }

    /// Whether somebody holds the guest's file lock.
    pub(crate) fn flocked(&self, vmid: u32) -> bool {
        self.flocks.contains_key(&vmid) || self.shared.iter().any(|(at, _)| *at == vmid)
    }

    fn flock(&mut self, upid: String, vmid: u32, since: OffsetDateTime, work: Work) {
        if !self.flocked(vmid) {
            self.flocks.insert(vmid, upid.clone());
            return self.work(&upid, vmid, work);
        }
        if self.now >= since + FLOCK_WAIT {
            return self.end(&upid, &self.flock_timeout(vmid));
        }
        let next = self.next_event().map_or(since + FLOCK_WAIT, |at| at.min(since + FLOCK_WAIT));
        // Behind whatever frees the lock then; polling is what PVE does too.
        let wait = (next - self.now).max(Duration::milliseconds(10));
        self.after(wait, Step::Flock { upid, vmid, since, work });
    }

    fn work(&mut self, upid: &str, vmid: u32, work: Work) {
        match work {
            Work::Clone { newid } => clone::finish(self, upid, vmid, newid),
            Work::Unpack { .. } | Work::Unpacked { .. } | Work::Created => {
                create::work(self, upid, vmid, work);
            }
            Work::Download { volid } => download::finish(self, upid, &volid),
            Work::Start | Work::Started | Work::Stop | Work::Stopped | Work::Reboot | Work::Rebooted => {
                power::work(self, upid, vmid, &work);
            }
            Work::Destroy { .. } | Work::DestroyDisks | Work::DestroyMarks | Work::Destroyed => {
                destroy::work(self, upid, vmid, &work);
            }
            Work::Resize { disk, size } => resize::begin(self, upid, vmid, disk, size),
            Work::Resized { disk, size } => resize::finish(self, upid, vmid, &disk, size),
            Work::Template | Work::Templated => template::work(self, upid, vmid, &work),
            Work::Fail { text } => self.end(upid, &text),
            Work::Unvisited { text } => terminal::give_up(self, upid, &text),
            Work::Qemu(work) => qemu::work(self, upid, vmid, work),
            other => snapshot::work(self, upid, vmid, other),
        }
    }
}
