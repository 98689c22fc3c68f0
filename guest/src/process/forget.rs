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
    keeper::Request,
};
use crate::keep::tree;

/// Starts after which it is looked whether too many processes that are over are kept.
const OFTEN: u32 = 64;

/// Time for which the name of a process that is over is kept in any case: in it, a start may be repeated.
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
            match self.keeper(process).await {
                Ok(mut keeper) => match keeper.ask(&Request::Kill).await {
                    Err(refusal) if refusal.code == Code::Failed => kill_with_keeper(&folder),
                    _ => {
                        let ended = async { while let Ok(Some(_)) = keeper.answer().await {} };
                        let _ = tokio::time::timeout_at(over, ended).await;
                    }
                },
                Err(refusal) if refusal.code == Code::Failed => kill_with_keeper(&folder),
                Err(_) => {}
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
        let noted = description.as_ref().and_then(|it| it.cgroup.clone());
        // One that was not noted is found by its name.
        let named = || Some(cgroup::of(self.cgroups.as_ref()?, &process.to_string()));
        let group = noted.or_else(named);
        if !folder.is_finished() {
            group.iter().for_each(|it| cgroup::kill(it));
            description.iter().for_each(kill_left);
        }
        if let Some(group) = group {
            tokio::spawn(remove_group(group));
        }
        let boot = description.map_or_else(|| self.boot.now(), |it| it.boot);
        self.log(process, boot).remove()
    }

    /// Whether a process has made room for others lately.
    pub(super) fn is_past(&self, process: Unique) -> bool {
        Folder::past(&self.layout.run).join(process.to_string()).exists()
    }

    /// Removes the control groups that keepers have left which were killed: those in which nothing is left.
    pub(super) fn remove_groups(&self) {
        let Some(parent) = &self.cgroups else { return };
        for name in self.names().into_iter().filter(|it| !self.folder(*it).is_kept()) {
            cgroup::remove(&cgroup::of(parent, &name.to_string()));
        }
    }

    /// Forgets the oldest processes that are over, if there are too many, or if they take the room in which others are
    /// started. While a start may be repeated, the name is left, so that none runs twice.
    pub(super) fn make_room(&self) {
        let is_time = self.starts.fetch_add(1, Ordering::Relaxed).is_multiple_of(OFTEN);
        if !is_time && !is_tight(&self.layout.run) {
            return;
        }
        let names = self.names().into_iter();
        let mut over: Vec<_> = names.filter_map(|name| Some((self.folder(name).over_at()?, name))).collect();
        over.sort_unstable();
        let too_many = over.len().saturating_sub(self.limits.ended);
        for (index, (at, name)) in over.into_iter().enumerate() {
            if index >= too_many && !is_tight(&self.layout.run) {
                break;
            }
            let folder = self.folder(name);
            // What cannot be removed now is tried again later.
            let _ = if is_old(at) { self.remove(name, &folder) } else { self.retire(name, &folder) };
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

/// Kills what a keeper that was killed has left: the session that its command has begun, with its descendants.
fn kill_left(description: &Description) {
    let pid = description.pid.and_then(|it| Pid::from_raw(it.try_into().ok()?));
    // The number of a command that has ended is not used again while its session has members.
    let is_command = |at: u64| at.abs_diff(description.started_ms) < LATE_MS;
    if let Some(pid) = pid.filter(|it| tree::started_ms(*it).is_none_or(is_command)) {
        for member in tree::session(pid) {
            tree::kill(member, None);
            // It may have ended meanwhile.
            let _ = kill_process(member, Signal::KILL);
        }
    }
}

/// Kills a process and its keeper, which does not answer.
fn kill_with_keeper(folder: &Folder) {
    let Some(description) = folder.description().filter(|_| folder.is_kept()) else { return };
    let pid = i32::try_from(description.keeper).ok().and_then(Pid::from_raw);
    if let Some(pid) = pid {
        tree::kill(pid, description.cgroup.as_deref());
        let _ = kill_process(pid, Signal::KILL);
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
