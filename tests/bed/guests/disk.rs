//! The files of guests: what clones, snapshots and rollbacks make of them.

use std::{
    collections::{BTreeMap, VecDeque},
    fs, io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use tempfile::TempDir;

use super::{Guests, Home, Homes, root::Layer};
use crate::sim::disk::{Disk, DiskHost};

/// Changes of disks that the files have not followed yet, in their order.
#[derive(Default)]
pub(super) struct Changes(Arc<Mutex<VecDeque<Disk>>>);

/// The files of a guest.
pub(super) struct Files {
    /// Where its processes begin; the one folder that its daemon shares with its console.
    pub(super) folder: TempDir,
    /// What else was written from its console, once that was used.
    pub(super) layer: Option<Layer>,
}

impl Files {
    /// None yet.
    pub(super) fn new() -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("pve-edge-guest-").tempdir()?;
        Ok(Self { folder, layer: None })
    }

    /// These, by their paths.
    fn with(files: &BTreeMap<String, String>) -> io::Result<Self> {
        let layer = Layer::new()?;
        files.iter().try_for_each(|(path, text)| layer.add(path, text))?;
        Ok(Self { layer: Some(layer), ..Self::new()? })
    }

    /// The same, for another guest.
    pub(super) fn copied(&self) -> io::Result<Self> {
        let layer = self.layer.as_ref().map(Layer::copied).transpose()?;
        let files = Self { layer, ..Self::new()? };
        copy(self.folder.path(), files.folder.path());
        Ok(files)
    }
}

impl Guests {
    /// Follows the disks of a simulated PVE.
    pub fn disk_host(&self) -> DiskHost {
        // Whoever tells has locked the simulator, and guests look into it: so it is only noted.
        let changes = self.shared.changes.0.clone();
        Arc::new(move |change| changes.lock().unwrap_or_else(PoisonError::into_inner).push_back(change))
    }
}

impl Changes {
    /// Makes the files what the disks are.
    pub(super) fn follow(&self, homes: &mut Homes) {
        loop {
            let next = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            match next {
                Some(change) => follow(homes, change),
                None => return,
            }
        }
    }
}

/// A guest that has run nothing has no files, and neither has what is made of it.
fn follow(homes: &mut Homes, change: Disk) {
    match change {
        Disk::Created { vmid, files } => {
            homes.remove(&vmid);
            if let Ok(files) = Files::with(&files) {
                homes.insert(vmid, Home::of(files, None));
            }
        }
        Disk::Cloned { from, snapshot, to } => {
            // Whatever had this VMID before is gone.
            homes.remove(&to);
            let source = homes.get(&from).and_then(|home| match snapshot {
                Some(name) => home.kept.get(&name),
                None => Some(&home.files),
            });
            if let Some(Ok(home)) = source.map(Home::copy) {
                homes.insert(to, home);
            }
        }
        Disk::Kept { vmid, snapshot } => {
            if let Some(home) = homes.get_mut(&vmid)
                && let Ok(files) = home.files.copied()
            {
                home.kept.insert(snapshot, files);
            }
        }
        Disk::RolledBack { vmid, snapshot } => {
            if let Some(home) = homes.get_mut(&vmid) {
                home.kill();
                empty(home.files.folder.path());
                if let Some(kept) = home.kept.get(&snapshot) {
                    home.files.layer = kept.layer.as_ref().and_then(|it| it.copied().ok());
                    copy(kept.folder.path(), home.files.folder.path());
                }
            }
        }
        Disk::Forgotten { vmid, snapshot } => {
            if let Some(home) = homes.get_mut(&vmid) {
                home.kept.remove(&snapshot);
            }
        }
    }
}

/// Copies files, links and folders. What goes away meanwhile is left out, as sockets and pipes are.
fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).into_iter().flatten().flatten() {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        let Ok(kind) = entry.file_type() else { continue };
        let _ = if kind.is_dir() {
            let made = fs::create_dir(&to);
            copy(&from, &to);
            made.and_then(|()| fs::set_permissions(&to, fs::metadata(&from)?.permissions()))
        } else if kind.is_symlink() {
            fs::read_link(&from).and_then(|target| std::os::unix::fs::symlink(target, &to))
        } else if kind.is_file() {
            fs::copy(&from, &to).map(drop)
        } else {
            Ok(())
        };
    }
}

fn empty(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let _ = if is_folder { fs::remove_dir_all(entry.path()) } else { fs::remove_file(entry.path()) };
    }
}
