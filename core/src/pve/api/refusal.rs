//! Why a PVE call has no data: the way, PVE's refusal, or not PVE at all.
//!
//! PVE tells almost everything as 500 with free text; the questions that operations ask of that text are
//! asked here and nowhere else (rule S10.4).

mod problem;
mod stranger;
#[cfg(test)]
mod tests;

use serde_json::Value;

pub use self::stranger::{Stranger, Who};
use crate::{
    error::{Code, Error},
    io::{Failure, NetError, Sent, invocation::Lost},
};

/// The words of a storage without room; all words of a row together, in small letters.
const FULL: [&[&str]; 14] = [
    // The kernel's words, which btrfs, Ceph, rsync and qemu-img repeat.
    &["no space left"],
    &["disk quota exceeded"],
    // ZFS.
    &["out of space"],
    &["quota exceeded"],
    // LVM, and PVE's own check of it (pve-storage `LVMPlugin.pm`).
    &["not enough free space"],
    &["insufficient free space"],
    &["insufficient suitable", "extents"],
    &["volume group", "has insufficient"],
    // LVM-thin.
    &["free space in", "pool", "threshold"],
    &["out of data space"],
    &["out of metadata space"],
    // Ceph, of a pool or a cluster.
    &["pool", "is full"],
    &["pool(s) full"],
    &["osds full"],
];

/// So much of a failed task's log is told: the last lines, and of each the beginning.
const LINES: usize = 4;
const CHARACTERS: usize = 200;

/// Why a PVE call has no data.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PveError {
    /// No answer.
    #[error("no answer from PVE: {0}")]
    Net(NetError),
    /// PVE said no.
    #[error("PVE refused: {} {}", .0.status, .0.message)]
    Refused(Refusal),
    /// A task that PVE had begun has failed: how it ended, and the last lines of its log.
    #[error("{0}")]
    Task(String),
    /// Something between here and PVE answered in its place.
    #[error("{0}")]
    NotPve(Stranger),
    /// PVE answered, and its data is not what the call answers.
    #[error("PVE's answer has an unexpected shape: {0}")]
    Shape(String),
    /// The platform allows this invocation no more requests.
    #[error("no outgoing requests left")]
    Budget,
}

/// PVE said no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status, or the one inside an extjs answer.
    pub status: u16,
    /// PVE's text; empty where it was lost on the way.
    pub message: String,
    /// What is wrong with which parameter.
    pub errors: Vec<(String, String)>,
}

impl PveError {
    /// The failure of a task: how it ended, and the end of its log where that tells more.
    pub fn of_task(exit: &str, log: &[Value]) -> Self {
        match last_lines(log, exit) {
            last if last.is_empty() => Self::Task(exit.to_owned()),
            last => Self::Task(format!("{exit} (its log ends: {last})")),
        }
    }

    fn text(&self) -> &str {
        match self {
            Self::Refused(refusal) => &refusal.message,
            Self::Task(text) => text,
            _ => "",
        }
    }

    /// Whether the storage has no room, in the words of LVM, ZFS, Ceph, btrfs or a file system.
    pub fn is_storage_full(&self) -> bool {
        let text = self.text().to_ascii_lowercase();
        FULL.iter().any(|words| words.iter().all(|it| text.contains(it)))
    }

    /// `can't clone CT to node 'pve2' (CT uses local storage)`.
    pub fn is_bound_to_node(&self) -> bool {
        self.text().contains("can't clone") && self.text().contains("to node")
    }

    /// `base volume '…' is still in use by linked clones`.
    pub fn is_in_use(&self) -> bool {
        self.text().contains("still in use")
    }

    /// `snapshot 'x' does not exist`: another request was faster.
    pub fn is_snapshot_missing(&self) -> bool {
        self.text().contains("snapshot '") && self.text().contains("does not exist")
    }

    /// `can't rollback, 's' is not most recent snapshot on 'S:vol'`.
    pub fn is_not_newest(&self) -> bool {
        self.text().contains("is not most recent snapshot")
    }

    /// `refusing to override existing file 'x'`: the download's file is there.
    pub fn is_file_there(&self) -> bool {
        self.text().contains("refusing to override existing file")
    }

    /// Whether another clone has the VMID, or had its lock, or the template's.
    pub fn is_outdone(&self) -> bool {
        let is_lock = self.is_lock_timeout() && !self.is_storage_lock_timeout();
        self.is_taken() || is_lock || self.text().contains("unexpected state change")
    }

    /// `can't lock file '/var/lock/pve-manager/pve-storage-S' - got timeout`, `cfs-lock 'storage-S' error: got lock request
    /// timeout`: that lock is no guest's.
    pub fn is_storage_lock_timeout(&self) -> bool {
        self.is_lock_timeout() && self.text().contains("storage-")
    }

    /// `command 'lxc-info -n 100 -p' failed: exit code 1`, `unable to get PID for CT 100 (not running?)`: PVE cannot tell
    /// whether a container runs, as while it starts or ends, and takes no change of it.
    pub fn is_state_unknown(&self) -> bool {
        self.text().contains("lxc-info -n") || self.text().contains("unable to get PID for CT")
    }

    /// Whether another task has done the same, or is at work on the guest: nothing is wrong with it.
    pub fn is_beside_another(&self) -> bool {
        self.is_already_running() || self.is_locked()
    }

    /// A failed task as a problem: of the storage where that is full, else of this code, with
    /// what PVE could not do in front of its words.
    pub fn problem(&self, code: Code, what: &str) -> Error {
        if self.is_storage_full() {
            return Error::new(Code::StorageFull, format!("{what}: {self}; free some space on the storage"));
        }
        Error::new(code, format!("{what}: {self}"))
    }

    /// Whether PVE may have executed the call, or may do so later (rule S10.2): the answer did not come, or
    /// it says nothing about that.
    pub fn may_be_executed(&self) -> bool {
        match self {
            Self::Net(error) => error.sent == Sent::Maybe,
            // A tunnel's 502 says nothing about what PVE did. What refuses with less has not passed
            // the request on: a login page, a firewall, a limit.
            Self::NotPve(stranger) => stranger.status >= 500,
            // Nor does a node that did not hear its neighbour's answer.
            Self::Refused(refusal) => (596..=599).contains(&refusal.status),
            Self::Shape(_) => true,
            Self::Budget | Self::Task(_) => false,
        }
    }

    /// What stands between has refused it, and will again (rule S10.3): PVE was not asked.
    pub fn is_turned_away(&self) -> bool {
        matches!(self, Self::NotPve(stranger) if stranger.status < 500)
    }

    /// Proved never to have reached PVE.
    pub fn is_never_sent(&self) -> bool {
        matches!(self, Self::Net(error) if error.sent == Sent::Never)
            || matches!(self, Self::Refused(refusal) if refusal.status == 595)
    }

    /// `Configuration file 'nodes/pve1/lxc/100.conf' does not exist`.
    pub fn is_missing(&self) -> bool {
        self.text().contains("does not exist") && self.text().contains("onfiguration file")
    }

    /// `CT is locked (disk)`: the lock's name.
    pub fn lock(&self) -> Option<&str> {
        let (_, rest) = self.text().split_once("is locked (")?;
        rest.split_once(')').map(|(name, _)| name)
    }

    /// `can't lock file '...' - got timeout`: something works on the guest.
    pub fn is_lock_timeout(&self) -> bool {
        self.text().contains("can't lock file") || self.text().contains("got lock request timeout")
    }

    /// PVE works on the guest, and lets nobody else.
    pub fn is_locked(&self) -> bool {
        self.lock().is_some() || self.is_lock_timeout()
    }

    /// The VMID is taken; also pmxcfs' way of saying so across nodes.
    pub fn is_taken(&self) -> bool {
        let text = self.text();
        ["already exists on node", "config file already exists", "File exists"]
            .iter()
            .any(|it| text.contains(it))
    }

    /// Somebody changed the config since it was read.
    pub fn is_digest_mismatch(&self) -> bool {
        let text = self.text();
        // Of VMs; older ones spell the word before it wrongly (qemu-server `API2/Qemu.pm`).
        text.contains("detected modified configuration") || text.contains("file change by other user")
    }

    /// `CT 100 already running`.
    pub fn is_already_running(&self) -> bool {
        self.text().contains("already running")
    }

    /// `CT 100 not running`.
    pub fn is_not_running(&self) -> bool {
        self.text().contains("not running")
    }

    /// `VM 100 is running - destroy failed`: unlike a container it has to be stopped first.
    pub fn must_be_stopped(&self) -> bool {
        self.text().contains("is running - destroy failed")
    }

    /// `No QEMU guest agent configured`: neither here nor in the template.
    pub fn lacks_agent(&self) -> bool {
        self.text().contains("No QEMU guest agent configured")
    }

    /// `QEMU guest agent is not running`: not yet, or too busy to answer in 3 s.
    pub fn is_agent_silent(&self) -> bool {
        self.text().contains("guest agent is not running")
    }

    /// `VM 100 qga command 'guest-exec' failed - Command guest-exec has been disabled`: the agent's own settings forbid it.
    pub fn forbids_agent_exec(&self) -> bool {
        self.text().contains("guest-exec has been disabled")
    }

    /// `disk is already at specified size`, or `unable to shrink disk size`: it is larger.
    pub fn is_large_enough(&self) -> bool {
        ["already at specified size", "unable to shrink disk"].iter().any(|it| self.text().contains(it))
    }

    /// `Linked clone feature for 'S:vol' is not available`, or of VMs `… is not supported for …`.
    pub fn lacks_linked_clones(&self) -> bool {
        self.text().contains("Linked clone feature")
    }

    /// `can't remove CT 100 - protection mode enabled`.
    pub fn is_protected(&self) -> bool {
        self.text().contains("protection mode enabled")
    }

    /// 400 that names this parameter.
    pub fn names(&self, parameter: &str) -> bool {
        matches!(self, Self::Refused(refusal)
            if refusal.status == 400 && (refusal.errors.iter().any(|(name, _)| name == parameter)
                || (refusal.errors.is_empty() && refusal.message.contains(parameter))))
    }

    /// `Permission check failed (/, Sys.Modify for modifying tag 'x')`.
    pub fn restricts_tags(&self) -> bool {
        self.is_final() && self.text().contains("for modifying tag")
    }

    /// The node did not answer its neighbour.
    pub fn is_node_silent(&self) -> bool {
        matches!(self, Self::Refused(refusal) if (595..=599).contains(&refusal.status))
            || self.text().contains("hostname lookup")
    }

    /// PVE itself said no, at once or by a task that failed.
    pub fn is_by_pve(&self) -> bool {
        self.is_refusal() || matches!(self, Self::Task(_))
    }

    /// PVE itself said no.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.status < 595)
    }

    /// This version of PVE lacks the call.
    pub fn is_unsupported(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.status == 501)
    }

    /// Nobody answered in time.
    pub fn is_late(&self) -> bool {
        matches!(self, Self::Net(error) if error.failure == Failure::Timeout)
    }

    /// The node that was named is none of the cluster's.
    pub fn is_node_unknown(&self) -> bool {
        self.text().contains("hostname lookup") || self.text().contains("no such cluster node")
    }

    /// The cluster has no quorum, and takes no change.
    pub fn lacks_quorum(&self) -> bool {
        self.text().contains("no quorum")
    }

    /// The privilege that the token lacks, and the path on which it does:
    /// `Permission check failed (/vms/100, VM.Audit)`.
    pub fn missing_privilege(&self) -> Option<(&str, &str)> {
        let (_, rest) = self.text().split_once('(')?;
        rest.rsplit_once(')')?.0.split_once(", ")
    }

    /// Whether a 403 says what is missing: `(user != root@pam)`, or a path and a privilege.
    pub fn says_privilege(&self) -> bool {
        self.text().contains('(')
    }

    /// PVE says that the token lacks a privilege: 403.
    pub fn is_forbidden(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.status == 403)
    }

    /// A task that PVE had begun has failed.
    pub fn is_failed_task(&self) -> bool {
        matches!(self, Self::Task(_))
    }

    /// A refusal that proves that this step cannot succeed: 400 or 403.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Refused(refusal) if matches!(refusal.status, 400 | 403))
    }
}

/// The last lines of a task's log, but for those that repeat the exit.
fn last_lines(log: &[Value], exit: &str) -> String {
    let lines = log.iter().filter_map(|it| it.get("t")?.as_str()).map(str::trim);
    let telling = lines.filter(|it| {
        !it.is_empty() && *it != "no content" && !it.starts_with("TASK ERROR") && !exit.contains(it)
    });
    let short = telling.map(|it| it.chars().filter(|it| !it.is_control()).take(CHARACTERS).collect());
    let all: Vec<String> = short.collect();
    all.get(all.len().saturating_sub(LINES)..).unwrap_or_default().join("; ")
}

impl From<Lost> for PveError {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::Net(error) => Self::Net(error),
            Lost::Budget => Self::Budget,
        }
    }
}
