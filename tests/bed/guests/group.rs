//! Process groups, and what has left them.

use std::time::Duration;

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
    for _ in 0..50 {
        let mut none_left = true;
        for pid in marked(marks) {
            let _ = kill_process(pid, Signal::KILL);
            none_left = false;
        }
        if none_left {
            return;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn marked(marks: &[String]) -> impl Iterator<Item = Pid> + '_ {
    std::fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(move |entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let environment = std::fs::read(entry.path().join("environ")).ok()?;
        let is_mark = |pair: &[u8]| marks.iter().any(|it| it.as_bytes() == pair);
        environment.split(|&byte| byte == 0).any(is_mark).then_some(())?;
        Pid::from_raw(pid)
    })
}
