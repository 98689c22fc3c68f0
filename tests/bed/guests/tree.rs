//! A process and all its descendants.

use std::{collections::BTreeSet, fs};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, test_kill_process, waitpid};

/// Whether a child of this process runs; one that has ended is reaped.
pub(super) fn exists(child: Pid) -> bool {
    !matches!(waitpid(Some(child), WaitOptions::NOHANG), Ok(Some(_))) && test_kill_process(child).is_ok()
}

/// Kills a child and all its descendants, which are those that had their parent in the tree when they were last looked
/// for: what was seen is stopped, so that it starts nothing more, until nothing new is seen.
pub(super) fn kill(child: Pid) {
    let mut seen = BTreeSet::new();
    loop {
        let new: Vec<Pid> =
            descendants(child).into_iter().filter(|it| seen.insert(it.as_raw_nonzero())).collect();
        if new.is_empty() {
            break;
        }
        for pid in new {
            // Gone already is as good.
            let _ = kill_process(pid, Signal::STOP);
        }
    }
    for pid in seen.into_iter().filter_map(|it| Pid::from_raw(it.get())) {
        let _ = kill_process(pid, Signal::KILL);
    }
    let _ = waitpid(Some(child), WaitOptions::empty());
}

/// A process and its descendants, as `/proc` shows them now.
fn descendants(root: Pid) -> Vec<Pid> {
    let children: Vec<(Pid, Pid)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let pid = Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)?;
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            // `pid (name) state parent …`: the name may have any character in it.
            let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
            Some((pid, Pid::from_raw(parent)?))
        })
        .collect();
    let mut found = vec![root];
    let mut at = 0;
    while let Some(parent) = found.get(at).copied() {
        found.extend(children.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        at += 1;
    }
    found
}
