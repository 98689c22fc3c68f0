//! The descendants of a keeper: all that a command has started, whoever has adopted it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    str::FromStr,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::process::cgroup;

/// Times that the descendants are looked for before those that were found are killed.
const PASSES: usize = 100;

/// Fields of `/proc/{pid}/stat`, counted from the name.
const STATE: usize = 0;
const PARENT: usize = 1;
const SESSION: usize = 3;
const START: usize = 19;

/// Clock ticks in a second, as the kernel tells times to programs.
const TICKS: u64 = 100;

/// Sends a signal to all descendants of a process; whether there are any.
pub(crate) fn signal(root: Pid, signal: Signal) -> bool {
    let all = descendants(root);
    for pid in &all {
        // It may have ended meanwhile, or be another user's.
        let _ = kill_process(*pid, signal);
    }
    !all.is_empty()
}

/// Kills all descendants of a process. They are stopped first, until no new ones are found: what is stopped starts
/// nothing. This starts no process itself, because in a full guest nobody can.
pub(crate) fn kill(root: Pid, group: Option<&Path>) {
    group.into_iter().for_each(cgroup::kill);
    let mut stopped = BTreeSet::new();
    for _ in 0..PASSES {
        let new: Vec<Pid> =
            descendants(root).into_iter().filter(|pid| stopped.insert(pid.as_raw_pid())).collect();
        if new.is_empty() {
            break;
        }
        for pid in new {
            let _ = kill_process(pid, Signal::STOP);
        }
    }
    for pid in stopped.into_iter().filter_map(Pid::from_raw) {
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// All descendants of a process.
pub(crate) fn descendants(root: Pid) -> Vec<Pid> {
    let root = root.as_raw_pid();
    let parents = if has_children_files() { None } else { Some(children_by_parent()) };
    let mut found = BTreeSet::new();
    let mut next = vec![root];
    while let Some(pid) = next.pop() {
        let children = match &parents {
            None => children(pid),
            Some(parents) => parents.get(&pid).cloned().unwrap_or_default(),
        };
        next.extend(children.into_iter().filter(|child| *child != root && found.insert(*child)));
    }
    found.into_iter().filter_map(Pid::from_raw).collect()
}

fn has_children_files() -> bool {
    Path::new("/proc/thread-self/children").exists()
}

/// Children of all threads of a process.
fn children(pid: i32) -> Vec<i32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    lists.flat_map(|list| numbers(&list)).collect()
}

fn numbers(list: &str) -> Vec<i32> {
    list.split_ascii_whitespace().filter_map(|it| it.parse().ok()).collect()
}

/// Children of all processes of the guest, for a kernel that does not list them by parent.
fn children_by_parent() -> BTreeMap<i32, Vec<i32>> {
    let mut found: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for (pid, stat) in stats() {
        found.entry(field(&stat, PARENT).unwrap_or(0)).or_default().push(pid);
    }
    found
}

/// The members of the session that a process has begun, itself too.
pub(crate) fn session(leader: Pid) -> Vec<Pid> {
    stats()
        .filter(|(_, stat)| field(stat, SESSION) == Some(leader.as_raw_pid()))
        .filter_map(|(pid, _)| Pid::from_raw(pid))
        .collect()
}

/// Milliseconds from the guest's start to a process's.
pub(crate) fn started_ms(pid: Pid) -> Option<u64> {
    field::<u64>(&stat(pid)?, START).map(|ticks| ticks.saturating_mul(1000 / TICKS))
}

/// Whether a process was stopped by a signal.
pub(crate) fn is_stopped(pid: Pid) -> bool {
    stat(pid).and_then(|it| field(&it, STATE)) == Some('T')
}

fn stat(pid: Pid) -> Option<String> {
    let stat = fs::read(format!("/proc/{}/stat", pid.as_raw_pid())).ok()?;
    Some(String::from_utf8_lossy(&stat).into_owned())
}

/// Each process of the guest, with its line of `/proc/{pid}/stat`.
fn stats() -> impl Iterator<Item = (i32, String)> {
    fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read(entry.path().join("stat")).ok()?;
        Some((pid, String::from_utf8_lossy(&stat).into_owned()))
    })
}

/// A number in a line of `/proc/{pid}/stat`, counted from the name, which may hold anything, parentheses too.
fn field<T: FromStr>(stat: &str, index: usize) -> Option<T> {
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(index)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use proptest::prelude::*;
    use rustix::process::getpid;

    use super::*;

    struct Ends(Child);

    impl Drop for Ends {
        fn drop(&mut self) {
            kill(Pid::from_child(&self.0), None);
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    /// A shell with two children, of which one has a session of its own.
    fn tree() -> Ends {
        let line = "sleep 100 & setsid sleep 100 & wait";
        Ends(Command::new("sh").args(["-c", line]).spawn().unwrap())
    }

    fn until(mut holds: impl FnMut() -> bool) {
        for _ in 0..2000 {
            if holds() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        panic!("it never came to hold");
    }

    #[test]
    fn descendants_are_found_both_ways() {
        let child = tree();
        let shell = Pid::from_child(&child.0);
        until(|| descendants(shell).len() == 2);
        let mut by_parent = children_by_parent().remove(&shell.as_raw_pid()).unwrap();
        by_parent.sort_unstable();
        let found: Vec<i32> = descendants(shell).into_iter().map(Pid::as_raw_pid).collect();
        assert_eq!(by_parent, found);
        assert!(descendants(getpid()).contains(&shell));
    }

    #[test]
    fn the_start_of_a_process_is_told_by_the_clock_of_the_guest() {
        let before = crate::process::folder::uptime_ms();
        let child = tree();
        let started = started_ms(Pid::from_child(&child.0)).unwrap();
        assert!((before.saturating_sub(20)..=crate::process::folder::uptime_ms()).contains(&started));
    }

    #[test]
    fn descendants_are_killed_and_nobody_else() {
        let (first, second) = (tree(), tree());
        let (one, other) = (Pid::from_child(&first.0), Pid::from_child(&second.0));
        until(|| descendants(one).len() == 2 && descendants(other).len() == 2);
        kill(one, None);
        until(|| descendants(one).is_empty());
        assert_eq!(descendants(other).len(), 2);
    }

    proptest! {
        #[test]
        fn any_lines_of_proc_are_read_without_a_panic(name in "(?s).{0,20}", rest in "(?s).{0,40}", pid: i32) {
            let _ = (field::<i32>(&rest, PARENT), numbers(&rest));
            prop_assert_eq!(field(&format!("1 ({name}) S {pid} 7 7"), PARENT), Some(pid));
        }
    }
}
