//! Control groups (version 2): one for each process, so that all of it is killed with one write.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rustix::mount::{MountFlags, mount};

/// The control group below which each process gets one, if this daemon may make them. Where the guest has not mounted
/// the file system for them, it is mounted in the run folder.
pub(crate) fn parent(run: &Path) -> Option<PathBuf> {
    let mounted = || Some(own(&read("/proc/self/mountinfo")?, &read("/proc/self/cgroup")?)).flatten();
    let parent = mounted().or_else(|| {
        let folder = run.join("cgroup");
        fs::create_dir_all(&folder).ok()?;
        mount("cgroup2", &folder, "cgroup2", MountFlags::NOSUID | MountFlags::NODEV, None).ok()?;
        mounted()
    })?;
    let tried = parent.join(format!("pve-edge-try-{}", std::process::id()));
    fs::create_dir(&tried).ok()?;
    let can_kill = tried.join("cgroup.kill").exists();
    fs::remove_dir(&tried).ok()?;
    can_kill.then_some(parent)
}

/// Makes the control group of a process.
pub(crate) fn create(parent: &Path, process: &str) -> io::Result<PathBuf> {
    let group = of(parent, process);
    fs::create_dir(&group)?;
    Ok(group)
}

/// The control group that a process has or had.
pub(crate) fn of(parent: &Path, process: &str) -> PathBuf {
    parent.join(format!("pve-edge-{process}"))
}

/// Kills all that is in a control group, and in those below it.
pub(crate) fn kill(group: &Path) {
    // It is gone already, or the walk over the descendants does it.
    let _ = fs::write(group.join("cgroup.kill"), "1");
}

/// Removes a control group in which nothing is left; whether it is gone.
pub(crate) fn remove(group: &Path) -> bool {
    let below = fs::read_dir(group).into_iter().flatten().flatten();
    for folder in below.filter(|it| it.file_type().is_ok_and(|it| it.is_dir())) {
        remove(&folder.path());
    }
    fs::remove_dir(group).is_ok() || !group.exists()
}

/// The control group of this process, from its lines in `mountinfo` and `cgroup`.
fn own(mountinfo: &str, cgroup: &str) -> Option<PathBuf> {
    let path = cgroup.lines().find_map(|line| line.strip_prefix("0::"))?;
    let (root, point) = mountinfo.lines().find_map(|line| {
        let (fields, kind) = line.split_once(" - ")?;
        let mut fields = fields.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        kind.starts_with("cgroup2 ").then_some((root, point))
    })?;
    let below = Path::new(path).strip_prefix(root).ok()?;
    let is_plain = below.components().all(|it| matches!(it, std::path::Component::Normal(_)));
    is_plain.then(|| Path::new(point).join(below))
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MOUNTS: &str = "25 30 0:23 / /proc rw - proc proc rw\n\
        34 25 0:29 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";

    #[test]
    fn the_own_group_is_found_below_its_mount() {
        let found = |mounts, cgroup| own(mounts, cgroup).map(|it| it.to_str().unwrap().to_owned());
        let service = "/sys/fs/cgroup/system.slice/pve-edge-guest.service";
        let line = "0::/system.slice/pve-edge-guest.service\n";
        assert_eq!(found(MOUNTS, line).as_deref(), Some(service));
        assert_eq!(found(MOUNTS, "4:memory:/x\n0::/\n").as_deref(), Some("/sys/fs/cgroup/"));
        assert_eq!(found(MOUNTS, "4:memory:/x\n"), None);
        assert_eq!(found(MOUNTS, "0::/../../other\n"), None);
        assert_eq!(found("25 30 0:23 / /proc rw - proc proc rw\n", line), None);
        let below = MOUNTS.replace(" / /sys", " /system.slice /sys");
        assert_eq!(found(&below, line).as_deref(), Some("/sys/fs/cgroup/pve-edge-guest.service"));
        assert_eq!(found(&below, "0::/other\n"), None);
    }

    proptest! {
        #[test]
        fn any_lines_are_read_without_a_panic(mounts in "(?s).{0,200}", cgroup in "(0::)?(?s).{0,60}") {
            let _ = own(&mounts, &cgroup);
        }
    }
}
