//! Room for a log among all logs.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

use pve_edge_guest_protocol::Unique;

use super::Log;
use crate::process::folder::Folder;

impl Log {
    /// Makes room for so many bytes on the disk: the logs of processes that are over go, of the first one first. Whether
    /// there is room.
    pub(super) fn make_room(&self, bytes: u64) -> bool {
        let mut size = size(&self.disk);
        if size + bytes <= self.all {
            return true;
        }
        for path in self.over() {
            let length = fs::metadata(&path).map_or(0, |it| it.len());
            // Another keeper may have removed it.
            let _ = fs::remove_file(path);
            size = size.saturating_sub(length);
            if size + bytes <= self.all {
                return true;
            }
        }
        false
    }

    /// Files of the logs of other processes that are over: of the one that has ended first, its oldest file first.
    fn over(&self) -> Vec<PathBuf> {
        let mut files: BTreeMap<Unique, Vec<PathBuf>> = BTreeMap::new();
        for entry in fs::read_dir(&self.disk).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let process = name.to_str().and_then(|it| it.split_once('.')?.0.parse().ok());
            if let Some(process) = process.filter(|it| *it != self.process) {
                files.entry(process).or_default().push(entry.path());
            }
        }
        let at = |process| Folder::of(&self.run, process).over_at();
        let mut over: Vec<(SystemTime, Vec<PathBuf>)> =
            files.into_iter().filter_map(|(process, files)| Some((at(process)?, files))).collect();
        over.sort();
        over.iter_mut().for_each(|(_, files)| files.sort());
        over.into_iter().flat_map(|(_, files)| files).collect()
    }
}

/// Bytes of all logs in a folder.
pub(super) fn size(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|it| it.len()).sum()
}
