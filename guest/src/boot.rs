//! What a guest's run begins with: a file system in memory, and the name of this run, the boot.

use std::{
    fs::{self, DirBuilder, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use pve_edge_guest_protocol::Unique;
use rustix::{
    mount::{MountFlags, mount},
    process::geteuid,
};

use crate::{layout::Layout, log::log};

/// Most bytes and inodes of the file system in memory, whose root is the daemon's alone.
const IN_MEMORY: &std::ffi::CStr = c"size=16m,nr_inodes=65536,mode=0700";

/// Boot of the guest: what is told of a process holds as long as it is the same.
#[derive(Debug)]
pub struct Boot {
    file: PathBuf,
    now: Mutex<Unique>,
}

impl Boot {
    /// Makes the folders that the daemon needs, and draws the boot, unless that was done since the guest has started.
    ///
    /// The folder of the run is put on a file system in memory, if the guest is a machine of its own: `/run` alone may
    /// be the disk, which outlives a restart and is in clones.
    pub fn begin(layout: &Layout, is_machine: bool, draw: impl FnOnce() -> Unique) -> io::Result<()> {
        own_folder(&layout.run).map_err(|error| told("make", &layout.run, error))?;
        if is_machine && geteuid().is_root() && !is_mounted(&layout.run)? {
            let flags = MountFlags::NOSUID | MountFlags::NODEV;
            mount(c"pve-edge", &layout.run, c"tmpfs", flags, IN_MEMORY)
                .map_err(|error| told("mount a tmpfs on", &layout.run, error.into()))?;
        }
        // Commands run on a disk that is full or read-only, too.
        if let Err(error) = own_folder(&layout.state) {
            log(told("make", &layout.state, error));
        }
        if Self::open(layout).is_ok() {
            return Ok(());
        }
        remove_logs(layout);
        write(&file(layout), draw()).map_err(|error| told("write to", &layout.run, error))
    }

    /// The boot that was drawn since the guest has started.
    pub fn open(layout: &Layout) -> io::Result<Self> {
        let file = file(layout);
        let boot = fs::read_to_string(&file)?.trim().parse().map_err(io::Error::other)?;
        Ok(Self { file, now: Mutex::new(boot) })
    }

    /// The boot.
    pub fn now(&self) -> Unique {
        *self.lock()
    }

    /// Takes another boot.
    pub fn renew(&self, boot: Unique) -> io::Result<()> {
        let mut now = self.lock();
        write(&self.file, boot)?;
        *now = boot;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Unique> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn told(what: &str, path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot {what} {}: {error}", path.display()))
}

/// Makes a folder that is the daemon's alone, unless it is there.
fn own_folder(path: &Path) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::set_permissions(path, Permissions::from_mode(0o700))
        }
        made => made,
    }
}

fn is_mounted(path: &Path) -> io::Result<bool> {
    Ok(fs::metadata(path)?.dev() != fs::metadata(path.join(".."))?.dev())
}

/// Removes the output of processes of earlier boots: of this guest, or of the template that it is a clone of.
fn remove_logs(layout: &Layout) {
    let logs = layout.logs();
    match fs::remove_dir_all(&logs) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => log(told("remove", &logs, error)),
        _ => {}
    }
}

fn file(layout: &Layout) -> PathBuf {
    layout.run.join("boot")
}

fn write(file: &Path, boot: Unique) -> io::Result<()> {
    let new = file.with_extension("new");
    fs::write(&new, format!("{boot}\n"))?;
    fs::rename(&new, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_lasts_until_its_folder_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout {
            run: folder.path().join("a/run"),
            state: folder.path().join("b/state"),
            ..Layout::default()
        };
        let begin = |drawn| Boot::begin(&layout, false, || Unique([drawn; 16])).unwrap();
        begin(1);
        assert_eq!(fs::metadata(&layout.run).unwrap().mode() & 0o777, 0o700);
        fs::create_dir_all(layout.logs().join("old")).unwrap();
        begin(2);
        let boot = Boot::open(&layout).unwrap();
        assert_eq!(boot.now(), Unique([1; 16]));
        assert!(layout.logs().join("old").exists());
        boot.renew(Unique([3; 16])).unwrap();
        begin(4);
        assert_eq!(Boot::open(&layout).unwrap().now(), Unique([3; 16]));
        assert!(layout.logs().join("old").exists(), "the processes of before run on");
        fs::remove_dir_all(&layout.run).unwrap();
        begin(5);
        assert_eq!(Boot::open(&layout).unwrap().now(), Unique([5; 16]));
        assert!(!layout.logs().exists());
    }

    #[test]
    fn a_disk_that_takes_no_folder_stops_nothing() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("full"), "").unwrap();
        let layout = Layout {
            run: folder.path().join("run"),
            state: folder.path().join("full/state"),
            ..Layout::default()
        };
        Boot::begin(&layout, false, || Unique([1; 16])).unwrap();
        assert_eq!(Boot::open(&layout).unwrap().now(), Unique([1; 16]));
    }
}
