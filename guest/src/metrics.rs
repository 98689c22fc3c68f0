//! Figures of the guest, be it a container or a machine.
//!
//! A container sees itself at the root of the control groups, in one version or the other; for a machine that root tells
//! nothing, or of all of it, and `/proc` does. A container's `/proc` may be its own or its host's: what the control
//! groups tell goes first.

use std::{fs, path::PathBuf};

use pve_edge_guest_protocol::answer::{Code, Metrics, Refusal};
use rustix::{fs::statvfs, thread::sched_getaffinity};

/// Measures the guest.
pub fn measure() -> Result<Metrics, Refusal> {
    let failed = |why: &str| Refusal::new(Code::Failed, format!("the guest could not be measured: {why}"));
    let disk = statvfs("/").map_err(|errno| failed(&errno.to_string()))?;
    let cpus = sched_getaffinity(None).map_or(0, |it| it.count());
    let metrics = Files { root: "/".into() }.metrics(cpus).ok_or_else(|| failed("/proc tells nothing"))?;
    let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
    let disk_used = bytes(disk.f_blocks.saturating_sub(disk.f_bfree));
    Ok(Metrics { disk_total: bytes(disk.f_blocks), disk_used, ..metrics })
}

/// Times that the kernel has killed in this guest for want of memory.
pub(crate) fn oom_kills() -> Option<u64> {
    Files { root: "/".into() }.oom_kills()
}

/// Files of the kernel, below the root.
struct Files {
    root: PathBuf,
}

/// Memory in use and cached, and what is most.
struct Memory {
    total: u64,
    used: u64,
    cached: u64,
}

impl Files {
    /// What the files tell; `affinity` is the number of processors on which this process may run.
    fn metrics(&self, affinity: u32) -> Option<Metrics> {
        let stat = self.read("proc/stat")?;
        let uptime = decimal(self.read("proc/uptime")?.split_whitespace().next()?, 3)?;
        let machine = machine_memory(&self.read("proc/meminfo")?)?;
        let memory = self.group_memory().unwrap_or(Memory { ..machine });
        Some(Metrics {
            cpus: self.cpus(&stat, affinity),
            cpu_used_us: self.cpu_used_us().or_else(|| machine_cpu_used_us(&stat))?,
            uptime_ms: uptime,
            memory_total: memory.total.min(machine.total),
            memory_used: memory.used,
            memory_cached: memory.cached,
            disk_total: 0,
            disk_used: 0,
            processes: self.processes(),
            oom_kills: self.oom_kills().unwrap_or_default(),
        })
    }

    fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.root.join(path)).ok()
    }

    /// A field of a file with a word and a number in each line.
    fn field(&self, path: &str, name: &str) -> Option<u64> {
        field(&self.read(path)?, name)
    }

    /// A file that is a number.
    fn number(&self, path: &str) -> Option<u64> {
        self.read(path)?.trim().parse().ok()
    }

    fn cpus(&self, stat: &str, affinity: u32) -> f64 {
        let own = stat.lines().filter(|line| is_processor(line)).count();
        let own = u32::try_from(own).ok().filter(|it| *it > 0).unwrap_or(affinity);
        let all = f64::from(if affinity == 0 { own } else { own.min(affinity) });
        let quota = self.read("sys/fs/cgroup/cpu.max").and_then(|it| share(&it)).or_else(|| {
            let file = |name: &str| self.read(&format!("sys/fs/cgroup/cpu/cpu.cfs_{name}_us"));
            share(&format!("{} {}", file("quota")?, file("period")?))
        });
        quota.map_or(all, |quota| all.min(quota))
    }

    fn cpu_used_us(&self) -> Option<u64> {
        let first = self.field("sys/fs/cgroup/cpu.stat", "usage_usec");
        first.or_else(|| Some(self.number("sys/fs/cgroup/cpuacct/cpuacct.usage")? / 1_000))
    }

    fn group_memory(&self) -> Option<Memory> {
        let unlimited = |limit: Option<u64>| limit.unwrap_or(u64::MAX);
        let (total, used, stat, prefix) = match self.number("sys/fs/cgroup/memory.current") {
            Some(used) => {
                let total = unlimited(self.number("sys/fs/cgroup/memory.max"));
                (total, used, self.read("sys/fs/cgroup/memory.stat")?, "")
            }
            None => {
                let file = |name: &str| format!("sys/fs/cgroup/memory/memory.{name}");
                let total = self.number(&file("limit_in_bytes"))?;
                // At its root the first version tells of the machine, and without its kernel.
                if total >= i64::MAX.unsigned_abs() - (1 << 20) {
                    return None;
                }
                (total, self.number(&file("usage_in_bytes"))?, self.read(&file("stat"))?, "total_")
            }
        };
        let files = |name: &str| field(&stat, &format!("{prefix}{name}")).unwrap_or_default();
        let cached = files("active_file").saturating_add(files("inactive_file")).min(used);
        Some(Memory { total, used: used - cached, cached })
    }

    /// Processes: a number each in `/proc`.
    fn processes(&self) -> u64 {
        let names = fs::read_dir(self.root.join("proc")).into_iter().flatten().flatten();
        names.filter(|it| it.file_name().to_str().is_some_and(is_number)).count() as u64
    }

    fn oom_kills(&self) -> Option<u64> {
        self.field("sys/fs/cgroup/memory.events", "oom_kill")
            .or_else(|| self.field("sys/fs/cgroup/memory/memory.oom_control", "oom_kill"))
            .or_else(|| self.field("proc/vmstat", "oom_kill"))
    }
}

/// Memory of a machine, from `/proc/meminfo`.
fn machine_memory(meminfo: &str) -> Option<Memory> {
    let bytes = |name: &str| field(meminfo, name).map(|it| it.saturating_mul(1 << 10));
    let (total, free) = (bytes("MemTotal:")?, bytes("MemFree:")?);
    let available = bytes("MemAvailable:").unwrap_or(free).min(total);
    Some(Memory { total, used: total - available, cached: available.saturating_sub(free) })
}

/// Processor time of a machine, from `/proc/stat`: all but idle, in hundredths of a second.
fn machine_cpu_used_us(stat: &str) -> Option<u64> {
    let mut fields = stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace();
    let mut next = || fields.next().and_then(|it| it.parse::<u64>().ok());
    let (user, nice, system, _idle, _waiting) = (next()?, next()?, next()?, next(), next());
    let interrupts = next().unwrap_or_default().saturating_add(next().unwrap_or_default());
    Some(user.saturating_add(nice).saturating_add(system).saturating_add(interrupts).saturating_mul(10_000))
}

/// The number behind a word at the beginning of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().map(str::split_whitespace);
    lines.find_map(|mut words| if words.next() == Some(name) { words.next()?.parse().ok() } else { None })
}

/// Processors of which a quota in a period is the time; `None` if there is no quota.
fn share(text: &str) -> Option<f64> {
    let mut numbers = text.split_whitespace().map(str::parse::<u32>);
    match (numbers.next()?, numbers.next()?) {
        (Ok(quota), Ok(period)) if quota > 0 && period > 0 => Some(f64::from(quota) / f64::from(period)),
        _ => None,
    }
}

/// Reads a number such as `12.5` with so many digits behind the point, as `12500` for three.
fn decimal(text: &str, digits: usize) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let all = format!("{whole}{part:0<digits$.digits$}");
    is_number(&all).then(|| all.parse().ok()).flatten()
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit())
}

fn is_processor(line: &str) -> bool {
    line.strip_prefix("cpu").and_then(|it| it.split_whitespace().next()).is_some_and(is_number)
        && !line.starts_with("cpu ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::*;

    const STAT: &str = "cpu  100 5 50 900 3 2 1 9 0 0\ncpu0 1 1\ncpu1 1 1\ncpu2 1 1\nintr 5\n";
    const MEMINFO: &str = "MemTotal: 8000 kB\nMemFree: 1000 kB\nMemAvailable: 6000 kB\nCached: 4000 kB\n";

    fn kernel(files: &[(&str, &str)]) -> (TempDir, Files) {
        let folder = tempfile::tempdir().unwrap();
        let proc = [("proc/stat", STAT), ("proc/meminfo", MEMINFO), ("proc/uptime", "12.34 5.00\n")];
        let more =
            [("proc/vmstat", "nr_free_pages 5\noom_kill 4\n"), ("proc/1/stat", ""), ("proc/22/stat", "")];
        for (path, text) in proc.iter().chain(&more).chain(files) {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let files = Files { root: folder.path().into() };
        (folder, files)
    }

    #[test]
    fn a_machine_is_measured_by_proc() {
        let (_folder, files) = kernel(&[("sys/fs/cgroup/cpu.stat", "usage_usec 77\nuser_usec 70\n")]);
        let metrics = files.metrics(8).unwrap();
        assert_eq!((metrics.cpus, metrics.cpu_used_us, metrics.uptime_ms), (3.0, 77, 12_340));
        let memory = (metrics.memory_total, metrics.memory_used, metrics.memory_cached);
        assert_eq!(memory, (8000 << 10, 2000 << 10, 5000 << 10));
        assert_eq!((metrics.processes, metrics.oom_kills), (2, 4));
        let (_folder, files) = kernel(&[]);
        assert_eq!(files.metrics(2).map(|it| (it.cpus, it.cpu_used_us)), Some((2.0, 1_580_000)));
    }

    #[test]
    fn a_container_is_measured_by_its_group() {
        let (_folder, files) = kernel(&[
            ("sys/fs/cgroup/cpu.max", "150000 100000\n"),
            ("sys/fs/cgroup/cpu.stat", "usage_usec 42\n"),
            ("sys/fs/cgroup/memory.current", "5000\n"),
            ("sys/fs/cgroup/memory.max", "6000\n"),
            ("sys/fs/cgroup/memory.stat", "anon 1000\nfile 3500\ninactive_file 2000\nactive_file 1000\n"),
            ("sys/fs/cgroup/memory.events", "low 0\noom 2\noom_kill 1\n"),
        ]);
        let metrics = files.metrics(8).unwrap();
        assert_eq!((metrics.cpus, metrics.cpu_used_us, metrics.oom_kills), (1.5, 42, 1));
        let memory = (metrics.memory_total, metrics.memory_used, metrics.memory_cached);
        assert_eq!(memory, (6000, 2000, 3000));
        let (_folder, files) = kernel(&[
            ("sys/fs/cgroup/memory.current", "5000\n"),
            ("sys/fs/cgroup/memory.max", "max\n"),
            ("sys/fs/cgroup/memory.stat", ""),
            ("sys/fs/cgroup/cpu.max", "max 100000\n"),
        ]);
        let metrics = files.metrics(8).unwrap();
        assert_eq!((metrics.memory_total, metrics.memory_used, metrics.cpus), (8000 << 10, 5000, 3.0));
    }

    #[test]
    fn a_container_of_the_first_version_is_measured_too() {
        let (_folder, files) = kernel(&[
            ("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "50000\n"),
            ("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
            ("sys/fs/cgroup/cpuacct/cpuacct.usage", "9000\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "6000\n"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "5000\n"),
            ("sys/fs/cgroup/memory/memory.stat", "total_inactive_file 2000\ntotal_active_file 1000\n"),
            ("sys/fs/cgroup/memory/memory.oom_control", "oom_kill_disable 0\noom_kill 3\n"),
        ]);
        let metrics = files.metrics(8).unwrap();
        assert_eq!((metrics.cpus, metrics.cpu_used_us, metrics.oom_kills), (0.5, 9, 3));
        assert_eq!((metrics.memory_total, metrics.memory_used), (6000, 2000));
        let limit = ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
        let (_folder, files) = kernel(&[limit]);
        assert_eq!(files.metrics(8).unwrap().memory_used, 2000 << 10);
    }

    #[test]
    fn this_guest_is_measured() {
        let metrics = measure().unwrap();
        assert!(metrics.cpus > 0.0 && metrics.uptime_ms > 0 && metrics.processes > 0);
        assert!(metrics.memory_used <= metrics.memory_total && metrics.disk_used <= metrics.disk_total);
    }

    proptest! {
        #[test]
        fn any_files_are_read_without_a_panic(
            text in "(cpu|cpu0|MemTotal:|MemFree:|max|usage_usec|[0-9]{1,20}|[-. \n])*",
            digits in 0..30_usize,
        ) {
            let _ = (machine_memory(&text), machine_cpu_used_us(&text), share(&text), decimal(&text, digits));
        }

        #[test]
        fn what_is_read_is_what_was_printed(number: u64, quota in 1..u32::MAX, period in 1..u32::MAX, ms in 0..u64::MAX / 2) {
            prop_assert_eq!(field(&format!("a 1\nused {number}\n"), "used"), Some(number));
            prop_assert_eq!(share(&format!("{quota} {period}\n")), Some(f64::from(quota) / f64::from(period)));
            prop_assert_eq!(decimal(&format!("{}.{:03}", ms / 1000, ms % 1000), 3), Some(ms));
        }
    }
}
