//! Tasks: what PVE works on after it has answered.

use std::{fmt, str::FromStr};

use serde::Deserialize;
use serde_json::Value;

use super::{Call, Pve, perl};

/// More than a log has in which every hundredth of a copy is a line.
const LOG_LINES: &str = "1000";
/// More tasks than a node has in a minute and a half.
const TASKS: &str = "1000";

/// `UPID:{node}:{pid}:{pstart}:{starttime}:{type}:{id}:{user}:`
/// (pve-common `UPID.pm`). For a clone, `id` is the *source's* VMID.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Upid(String);

impl Upid {
    /// What kind of work it is: `vzclone`, `vzstart`, …
    pub fn kind(&self) -> &str {
        self.0.split(':').nth(5).unwrap_or_default()
    }

    /// Where the task runs; only that node has its log.
    pub fn node(&self) -> &str {
        self.0.split(':').nth(1).unwrap_or_default()
    }
}

impl FromStr for Upid {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split(':').collect();
        match parts.as_slice() {
            ["UPID", node, _, _, _, _, _, _, ..] if !node.is_empty() => Ok(Self(text.to_owned())),
            _ => Err("not a UPID".into()),
        }
    }
}

impl TryFrom<String> for Upid {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for Upid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How a task stands.
#[derive(Clone, Debug, Deserialize)]
pub struct TaskStatus {
    status: String,
    exitstatus: Option<String>,
}

impl TaskStatus {
    /// How it ended; `None` while it runs.
    pub fn exit(&self) -> Option<Result<(), String>> {
        if self.status == "running" {
            return None;
        }
        let exit = self.exitstatus.as_deref().unwrap_or("unexpected status");
        Some(if is_success(exit) { Ok(()) } else { Err(exit.to_owned()) })
    }
}

/// Whether a task that ended so has done its work: `WARNINGS: 3` is success.
fn is_success(exit: &str) -> bool {
    exit == "OK" || exit.starts_with("WARNINGS:")
}

/// One row of a node's task list.
#[derive(Clone, Debug, Deserialize)]
pub struct Task {
    /// Which.
    pub upid: String,
    /// `vzclone`, `vzstart`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// How it ended; absent while it runs.
    #[serde(default)]
    pub status: Option<String>,
    /// When it ended, in Unix seconds.
    #[serde(rename = "endtime", default, deserialize_with = "perl::number")]
    pub ended: Option<u64>,
}

impl Task {
    /// Whether it is such work on this guest that began at `since` or later:
    /// asked of the UPID too, since a filter that is passed over tells nothing.
    pub fn is_since(&self, wanted: &str, vmid: impl fmt::Display, since: i64) -> bool {
        let mut parts = self.upid.split(':').skip(5);
        let (kind, id) = (parts.next(), parts.next());
        kind == Some(wanted) && id == Some(&*vmid.to_string()) && self.began().is_some_and(|it| it >= since)
    }

    /// When it began, in Unix seconds by its node's clock.
    pub fn began(&self) -> Option<i64> {
        self.upid.split(':').nth(4).and_then(|it| i64::from_str_radix(it, 16).ok())
    }

    /// Whether it works on this guest; a copy is about what is copied.
    pub fn is_about(&self, vmid: impl fmt::Display) -> bool {
        self.upid.split(':').nth(6) == Some(&*vmid.to_string())
    }

    /// Whether it starts a guest, so that the guest may answer before it ends.
    pub fn is_start(&self) -> bool {
        matches!(
            self.kind.as_str(),
            "vzstart" | "qmstart" | "vzreboot" | "qmreboot" | "qmresume" | "vzresume"
        )
    }

    /// Whether it works on this guest, under its lock: no console, no backup, no copy of it.
    pub fn is_work_on(&self, vmid: impl fmt::Display) -> bool {
        const BESIDE: [&str; 8] =
            ["vncproxy", "vncshell", "termproxy", "spiceproxy", "spiceshell", "vzdump", "vzclone", "qmclone"];
        self.is_about(vmid) && !BESIDE.contains(&self.kind.as_str())
    }

    /// Whether it has succeeded.
    pub fn has_succeeded(&self) -> bool {
        self.status.as_deref().is_some_and(is_success)
    }

    /// Whether it has not ended.
    pub fn is_running(&self) -> bool {
        self.status.as_deref().is_none_or(|it| it == "RUNNING")
    }

    /// Whether it runs or has succeeded.
    pub fn may_count(&self) -> bool {
        self.has_succeeded() || self.is_running()
    }
}

impl Pve {
    /// `GET /nodes/{node}/tasks/{upid}/status` ([API viewer](https://pve.proxmox.com/pve-docs/api-viewer/#/nodes/{node}/tasks/{upid}/status))
    ///
    /// Old tasks are pruned: a busy node forgets after about a thousand.
    pub fn task(&self, upid: &Upid) -> Call<TaskStatus> {
        self.get(
            "/nodes/{node}/tasks/{upid}/status",
            &[&"nodes", &upid.node(), &"tasks", upid, &"status"],
            &[],
        )
    }

    /// `GET /nodes/{node}/tasks/{upid}/log` ([API viewer](https://pve.proxmox.com/pve-docs/api-viewer/#/nodes/{node}/tasks/{upid}/log))
    ///
    /// Lines, as objects with `t`. A token may read its own tasks'.
    pub fn task_log(&self, upid: &Upid) -> Call<Vec<Value>> {
        let path: [&dyn fmt::Display; 5] = [&"nodes", &upid.node(), &"tasks", upid, &"log"];
        self.get("/nodes/{node}/tasks/{upid}/log", &path, &[("limit", LOG_LINES)])
    }

    /// `GET /nodes/{node}/tasks?source=active` ([API viewer](https://pve.proxmox.com/pve-docs/api-viewer/#/nodes/{node}/tasks))
    ///
    /// Without `Sys.Audit` on the node it shows only the token's own tasks.
    pub fn active_clones(&self, node: &str, source: impl fmt::Display) -> Call<Vec<Task>> {
        let vmid = source.to_string();
        let query = [("source", "active"), ("typefilter", "vzclone"), ("vmid", &*vmid)];
        self.get("/nodes/{node}/tasks", &[&"nodes", &node, &"tasks"], &query)
    }

    /// `GET /nodes/{node}/tasks?source=active` ([API viewer](https://pve.proxmox.com/pve-docs/api-viewer/#/nodes/{node}/tasks))
    ///
    /// Whatever works on a guest; what is seen without `Sys.Audit` is as above.
    pub fn active_on(&self, node: &str, vmid: impl fmt::Display) -> Call<Vec<Task>> {
        let query = [("source", "active"), ("vmid", &*vmid.to_string())];
        self.get("/nodes/{node}/tasks", &[&"nodes", &node, &"tasks"], &query)
    }

    /// `GET /nodes/{node}/tasks?source=all` ([API viewer](https://pve.proxmox.com/pve-docs/api-viewer/#/nodes/{node}/tasks))
    ///
    /// Work of one kind on a VMID that began at `since` or later, running or over.
    pub fn tasks_of(&self, node: &str, kind: &str, vmid: impl fmt::Display, since: i64) -> Call<Vec<Task>> {
        let (vmid, since) = (vmid.to_string(), since.to_string());
        let query = [("source", "all"), ("typefilter", kind), ("vmid", &*vmid), ("since", &*since)];
        self.get("/nodes/{node}/tasks", &[&"nodes", &node, &"tasks"], &query)
    }

    /// `GET /nodes/{node}/tasks?source=all` ([API viewer](https://pve.proxmox.com/pve-docs/api-viewer/#/nodes/{node}/tasks))
    ///
    /// Work of one kind on any guest that began in this time, running or over; PVE lists 50 unless it is told otherwise.
    pub fn tasks_between(&self, node: &str, kind: &str, since: i64, until: i64) -> Call<Vec<Task>> {
        let (since, until) = (since.to_string(), until.to_string());
        let query = [
            ("source", "all"),
            ("typefilter", kind),
            ("since", &*since),
            ("until", &*until),
            ("limit", TASKS),
        ];
        self.get("/nodes/{node}/tasks", &[&"nodes", &node, &"tasks"], &query)
    }

    /// `GET /nodes/{node}/tasks?source=active` ([API viewer](https://pve.proxmox.com/pve-docs/api-viewer/#/nodes/{node}/tasks))
    ///
    /// Whatever runs on a node; what is seen without `Sys.Audit` is as above.
    pub fn active(&self, node: &str) -> Call<Vec<Task>> {
        let query = [("source", "active"), ("limit", TASKS)];
        self.get("/nodes/{node}/tasks", &[&"nodes", &node, &"tasks"], &query)
    }

    /// Whether a task was begun by the token of these calls.
    pub fn has_begun(&self, task: &Task) -> bool {
        !self.user.is_empty() && task.upid.split(':').nth(7) == Some(&*self.user)
    }
}
