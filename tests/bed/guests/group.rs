//! Process groups, and what has left them.

use std::{fs, path::Path, time::Duration};

use rustix::{
    io::Errno,
    process::{Pid, Signal, kill_process, kill_process_group, test_kill_process_group},
};

/// Whether any process is left in it.
pub(super) fn exists(group: Pid) -> bool {
    test_kill_process_group(group) != Err(Errno::SRCH)
}

/// Kills all of it.
pub(super) fn kill(group: Pid) {
    // Gone already is as good.
    let _ = kill_process_group(group, Signal::KILL);
}

/// Kills every process with one of these marks in its environment, those that called
/// `setsid` too, and waits a moment until they are gone, so that none writes
/// into a folder that is being removed. Finds none where there is no /proc.
pub(super) fn kill_marked(marks: &[String]) {
    kill_those(|process| {
        let environment = fs::read(process.join("environ")).unwrap_or_default();
        environment.split(|&byte| byte == 0).any(|pair| marks.iter().any(|it| it.as_bytes() == pair))
    });
}

/// Kills every process in a mount namespace, as [`kill_marked`] does.
pub(super) fn kill_within(of: &str) {
    kill_those(|process| namespace(process).is_some_and(|it| it == of));
}

/// The mount namespace of the process with this folder in /proc.
pub(super) fn namespace(process: impl AsRef<Path>) -> Option<String> {
    let link = fs::read_link(process.as_ref().join("ns/mnt")).ok()?;
    Some(link.to_str()?.to_owned())
}

fn kill_those(is_one: impl Fn(&Path) -> bool) {
    for _ in 0..50 {
        let mut none_left = true;
        for pid in processes(&is_one) {
            let _ = kill_process(pid, Signal::KILL);
            none_left = false;
        }
        if none_left {
            return;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn processes(is_one: impl Fn(&Path) -> bool) -> impl Iterator<Item = Pid> {
    fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(move |entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        is_one(&entry.path()).then(|| Pid::from_raw(pid)).flatten()
    })
}
