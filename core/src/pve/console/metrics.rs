//! Figures of a container, by a script that its console's hub runs: what the kernel tells in files, of its control group
//! first.

use pve_edge_guest_protocol::answer::{Code as Refused, Metrics};
use time::OffsetDateTime;

use super::{Console, process::Input, refused};
use crate::{daemon::CallFailure, io::Io};

/// Tells each figure in a line: a word for where it is from, and what stands there.
const SCRIPT: &str = r#"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
tell() { [ -r "$2" ] && while read -r a b x; do echo "$1 $a $b"; done <"$2"; }
g=/sys/fs/cgroup
tell share $g/cpu.max; tell cpu $g/cpu.stat; tell used $g/memory.current; tell most $g/memory.max
tell group $g/memory.stat; tell events $g/memory.events
tell uptime /proc/uptime; tell memory /proc/meminfo; tell vm /proc/vmstat
IFS= read -r a </proc/stat; echo "all $a"
echo "cpus $(nproc 2>/dev/null)"; echo "own $(grep -c '^cpu[0-9]' /proc/stat)"
set -- $(stat -f -c '%b %f %S' / 2>/dev/null)
if [ $# = 3 ]; then echo "disk $(($1 * $3 / 1024)) $((($1 - $2) * $3 / 1024))"
else set -- $(df -Pk / | tail -n 1); echo "disk $2 $3"; fi
set -- /proc/[0-9]*; echo "processes $#"
exit 0
"#;

impl<I: Io> Console<I> {
    /// Measures the container.
    pub(in crate::pve) async fn measure(&mut self, until: OffsetDateTime) -> Result<Metrics, CallFailure> {
        let said = self.ask(SCRIPT.to_owned(), Input::None, until).await?;
        let told = String::from_utf8_lossy(&said.stdout);
        Figures(&told).metrics().ok_or_else(|| {
            refused(Refused::Failed, "the container could not be measured: its /proc tells nothing")
        })
    }
}

/// Lines of the script.
struct Figures<'t>(&'t str);

impl<'t> Figures<'t> {
    fn metrics(&self) -> Option<Metrics> {
        let kilobytes = |name: &str| self.number(&["memory", name]).map(|it| it.saturating_mul(1 << 10));
        let (total, free) = (kilobytes("MemTotal:")?, kilobytes("MemFree:")?);
        let available = kilobytes("MemAvailable:").unwrap_or(free).min(total);
        let (memory_used, memory_cached) = match self.number(&["used"]) {
            Some(used) => {
                let files = |name| self.number(&["group", name]).unwrap_or_default();
                let cached = files("active_file").saturating_add(files("inactive_file")).min(used);
                (used - cached, cached)
            }
            None => (total - available, available.saturating_sub(free)),
        };
        let disk =
            |at| self.words(&["disk"]).nth(at)?.parse::<u64>().ok().map(|it| it.saturating_mul(1 << 10));
        let uptime: f64 = self.words(&["uptime"]).next()?.parse().ok()?;
        let oom_kills = self.number(&["events", "oom_kill"]).or_else(|| self.number(&["vm", "oom_kill"]));
        Some(Metrics {
            cpus: self.cpus()?,
            cpu_used_us: self.number(&["cpu", "usage_usec"]).or_else(|| self.all_used_us())?,
            uptime_ms: (uptime * 1000.0) as u64,
            memory_total: total.min(self.number(&["most"]).unwrap_or(u64::MAX)),
            memory_used,
            memory_cached,
            disk_total: disk(0)?,
            disk_used: disk(1)?,
            processes: self.number(&["processes"])?,
            oom_kills: oom_kills.unwrap_or_default(),
        })
    }

    /// What stands behind these words.
    fn words(&self, name: &[&str]) -> impl Iterator<Item = &'t str> {
        let text = self.0;
        let found = text.lines().find_map(|line| {
            let mut words = line.split_whitespace();
            name.iter().all(|it| words.next() == Some(it)).then_some(words)
        });
        found.into_iter().flatten()
    }

    fn number(&self, name: &[&str]) -> Option<u64> {
        self.words(name).next()?.parse().ok()
    }

    /// Processors: those that it sees, or of which it has the time.
    fn cpus(&self) -> Option<f64> {
        let counts = [self.number(&["cpus"]), self.number(&["own"])];
        let count = counts.into_iter().flatten().filter(|it| *it > 0).min()?;
        let count = f64::from(u32::try_from(count).ok()?);
        let mut share = self.words(&["share"]).map(str::parse::<u32>);
        Some(match (share.next(), share.next()) {
            (Some(Ok(quota)), Some(Ok(period))) if quota > 0 && period > 0 => {
                count.min(f64::from(quota) / f64::from(period))
            }
            _ => count,
        })
    }

    /// Processor time that is not idle, of hundredths of a second.
    fn all_used_us(&self) -> Option<u64> {
        let mut times = self.words(&["all", "cpu"]).map(|it| it.parse::<u64>().unwrap_or_default());
        let busy = times.by_ref().take(3).fold(0_u64, u64::saturating_add);
        let interrupts = times.skip(2).take(2).fold(0_u64, u64::saturating_add);
        Some(busy.saturating_add(interrupts).saturating_mul(10_000))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MACHINE: &str = "uptime 12.34 5.00\nmemory MemTotal: 8000\nmemory MemFree: 1000\nmemory MemAvailable: 6000\n\
                           all cpu  100 5 50 900 3 2 1 9 0 0\ncpus 8\nown 3\ndisk 500 200\nprocesses 7\n";

    #[test]
    fn a_container_without_a_group_of_its_own_is_measured_by_proc() {
        let metrics = Figures(MACHINE).metrics().unwrap();
        assert_eq!((metrics.cpus, metrics.cpu_used_us, metrics.uptime_ms), (3.0, 1_580_000, 12_340));
        let memory = (metrics.memory_total, metrics.memory_used, metrics.memory_cached);
        assert_eq!(memory, (8000 << 10, 2000 << 10, 5000 << 10));
        assert_eq!((metrics.disk_total, metrics.disk_used, metrics.processes), (500 << 10, 200 << 10, 7));
    }

    #[test]
    fn its_group_goes_first() {
        let group = "share 150000 100000\ncpu usage_usec 42\nused 5000 \nmost 6000 \ngroup inactive_file 2000\n\
                     group active_file 1000\nevents oom 2\nevents oom_kill 1\n";
        let metrics = Figures(&format!("{group}{MACHINE}")).metrics().unwrap();
        assert_eq!((metrics.cpus, metrics.cpu_used_us, metrics.oom_kills), (1.5, 42, 1));
        assert_eq!((metrics.memory_total, metrics.memory_used, metrics.memory_cached), (6000, 2000, 3000));
        let unlimited = format!("share max 100000\nmost max \n{MACHINE}");
        assert_eq!(
            Figures(&unlimited).metrics().map(|it| (it.cpus, it.memory_total)),
            Some((3.0, 8000 << 10))
        );
    }

    proptest! {
        #[test]
        fn any_lines_are_read_without_a_panic(text in "((all|cpu|share|used|most|group|disk|uptime|[0-9]{1,20}|nan|-)[ \n])*") {
            let _ = Figures(&format!("{text}\n{MACHINE}")).metrics();
        }
    }
}
