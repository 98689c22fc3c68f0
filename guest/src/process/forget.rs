//! Forgetting processes: those that the edge names, the oldest of those that have ended, and those of other boots.

use std::{
    path::{Path, PathBuf},
    sync::atomic::Ordering,
    time::{Duration, SystemTime},
};

use pve_edge_guest_protocol::{
    Unique,
    answer::{Code, Done, Refusal},
    process::Named,
};
use rustix::{
    fs::statvfs,
    process::{Pid, Signal, kill_process},
};

use super::{
    Inner, Processes, cgroup,
    folder::{Description, Folder},
    keeper::{Keeper, Request},
};
use crate::keep::tree;

/// Starts after which it is looked whether too many processes that have ended are kept.
const OFTEN: u32 = 64;

/// Time for which a process that has ended is kept in any case: in it, a start may be repeated.
const KEPT: Duration = Duration::from_secs(10 * 60);

/// Time after which it is looked again whether a keeper has ended.
const AGAIN: Duration = Duration::from_millis(10);

/// Bytes of the run folder that those have to leave which have ended.
const SPARE: u64 = 4 << 20;

/// Milliseconds between the note of a start and the command's own.
const LATE_MS: u64 = 10_000;

/// Time that a keeper has for killing everything.
const PATIENCE: Duration = Duration::from_secs(30);

impl Processes {
    /// Kills a process and all its descendants, and forgets it. It goes on if the caller is gone.
    pub async fn forget(&self, Named { process }: Named) -> Result<Done, Refusal> {
        let inner = self.0.clone();
        let forgotten = tokio::spawn(async move { inner.forget(process).await });
        forgotten.await.unwrap_or_else(|error| Err(Refusal::new(Code::Failed, error.to_string())))
    }
}

impl Inner {
    async fn forget(&self, process: Unique) -> Result<Done, Refusal> {
        let folder = self.folder(process);
        if !folder.exists() {
            return Err(self.none(process));
        }
        let over = tokio::time::Instant::now() + PATIENCE;
        // One that is starting has no socket yet.
        while folder.is_kept() {
            if let Ok(mut keeper) = Keeper::connect(&folder).await {
                let _ = keeper.ask(&Request::Kill).await;
                let ended = async { while let Ok(Some(_)) = keeper.answer().await {} };
                let _ = tokio::time::timeout_at(over, ended).await;
            }
            if tokio::time::Instant::now() > over {
                return Err(Refusal::new(Code::Failed, "the process cannot be killed"));
            }
            tokio::time::sleep(AGAIN).await;
        }
        self.remove(process, &folder).map_err(|error| {
            Refusal::new(Code::Failed, format!("the process is killed, but not removed: {error}"))
        })?;
        Ok(Done {})
    }

    /// Removes a process that no keeper keeps, and kills what a keeper that was killed has left.
    fn remove(&self, process: Unique, folder: &Folder) -> std::io::Result<()> {
        self.remove_output(process, folder)?;
        folder.remove()
    }

    /// The same, but its name is left.
    fn retire(&self, process: Unique, folder: &Folder) -> std::io::Result<()> {
        self.remove_output(process, folder)?;
        folder.retire(&Folder::past(&self.layout.run))
    }

    fn remove_output(&self, process: Unique, folder: &Folder) -> std::io::Result<()> {
        let description = folder.description();
        if let Some(description) = description.as_ref().filter(|_| !folder.is_finished()) {
            kill_left(description);
        }
        let boot = description.map_or_else(|| self.boot.now(), |it| it.boot);
        self.log(process, boot).remove()
    }

    /// Whether a process has made room for others lately.
    pub(super) fn is_past(&self, process: Unique) -> bool {
        Folder::past(&self.layout.run).join(process.to_string()).exists()
    }

    /// Forgets the oldest processes that have ended, if there are too many, or if they take the room in which others are
    /// started. While a start may be repeated, the name is left, so that none runs twice.
    pub(super) fn make_room(&self) {
        let is_time = self.starts.fetch_add(1, Ordering::Relaxed).is_multiple_of(OFTEN);
        if !is_time && !is_tight(&self.layout.run) {
            return;
        }
        let mut ended: Vec<(SystemTime, Unique)> = Vec::new();
        for name in self.names() {
            ended.extend(self.folder(name).ended_at().map(|at| (at, name)));
        }
        ended.sort_unstable();
        let too_many = ended.len().saturating_sub(self.limits.ended);
        for (index, (at, name)) in ended.into_iter().enumerate() {
            if index >= too_many && !is_tight(&self.layout.run) {
                break;
            }
            let folder = self.folder(name);
            if !folder.is_kept() {
                // What cannot be removed now is tried again later.
                let _ = if is_old(at) { self.remove(name, &folder) } else { self.retire(name, &folder) };
            }
        }
        forget_past(&Folder::past(&self.layout.run));
    }
}

/// Forgets the names of processes whose starts are repeated no more.
fn forget_past(past: &Path) {
    for name in std::fs::read_dir(past).into_iter().flatten().flatten() {
        if name.metadata().and_then(|it| it.modified()).is_ok_and(is_old) {
            let _ = std::fs::remove_dir_all(name.path());
        }
    }
}

fn is_old(at: SystemTime) -> bool {
    SystemTime::now().duration_since(at).is_ok_and(|age| age >= KEPT)
}

/// Whether a file system has little room left.
fn is_tight(folder: &Path) -> bool {
    statvfs(folder).is_ok_and(|it| {
        let size = |blocks: u64| blocks.saturating_mul(it.f_frsize);
        size(it.f_bavail) < SPARE.min(size(it.f_blocks) / 4)
    })
}

/// Kills what a keeper that was killed has left: its control group, and the session that its command has begun, with
/// their descendants.
fn kill_left(description: &Description) {
    description.cgroup.iter().for_each(|it| cgroup::kill(it));
    let pid = i32::try_from(description.pid).ok().and_then(Pid::from_raw);
    // The number of a command that has ended is not used again while its session has members.
    let is_command = |at: u64| at.abs_diff(description.started_ms) < LATE_MS;
    if let Some(pid) = pid.filter(|it| tree::started_ms(*it).is_none_or(is_command)) {
        for member in tree::session(pid) {
            tree::kill(member, None);
            // It may have ended meanwhile.
            let _ = kill_process(member, Signal::KILL);
        }
    }
    if let Some(group) = description.cgroup.clone() {
        tokio::spawn(remove_group(group));
    }
}

/// Removes a control group as soon as what was killed in it is gone.
async fn remove_group(group: PathBuf) {
    let over = tokio::time::Instant::now() + PATIENCE;
    while !cgroup::remove(&group) && tokio::time::Instant::now() < over {
        tokio::time::sleep(AGAIN).await;
    }
}

/// A tenth of the bytes of the file system on which a folder is.
pub(super) fn tenth_of_disk(folder: &Path) -> u64 {
    let existing = folder.ancestors().find(|it| it.exists()).unwrap_or(folder);
    statvfs(existing).map_or(u64::MAX, |it| it.f_blocks.saturating_mul(it.f_frsize) / 10)
}
