//! Memory of processes, as Linux tells it.

/// Bytes that a process has in memory.
pub(super) fn resident(pid: u32) -> f64 {
    sum(pid, "status", &["VmRSS:"])
}

/// Bytes that no other process shares with it.
pub(super) fn private(pid: u32) -> f64 {
    sum(pid, "smaps_rollup", &["Private_Clean:", "Private_Dirty:"])
}

/// The sum of some lines of a file of `/proc`, which are in kB.
fn sum(pid: u32, file: &str, lines: &[&str]) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let wanted = text.lines().filter_map(|line| lines.iter().find_map(|name| line.strip_prefix(name)));
    wanted.filter_map(|rest| rest.split_whitespace().next()?.parse::<f64>().ok()).sum::<f64>() * 1024.0
}
