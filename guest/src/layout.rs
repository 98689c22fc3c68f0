//! Where the daemon finds and keeps what it has.

use std::path::PathBuf;

/// Folders and files of the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// File of the public keys whose calls are obeyed: `/etc/pve-edge/keys`.
    pub keys: PathBuf,
    /// Folder for what ends with the guest's run: `/run/pve-edge`, on a file system in memory of its own.
    pub run: PathBuf,
    /// Folder for what lasts: `/var/lib/pve-edge`.
    pub state: PathBuf,
    /// Folder of `passwd` and `group`: `/etc`.
    pub etc: PathBuf,
    /// Home of root's commands and files, instead of the one in `passwd`; for a guest that is no machine of its own.
    pub home: Option<PathBuf>,
    /// This program, for the processes that it starts of itself: `/proc/self/exe`.
    pub program: PathBuf,
}

impl Layout {
    /// Folder of the processes' output: a folder for each boot.
    pub fn logs(&self) -> PathBuf {
        self.state.join("log")
    }
}

impl Default for Layout {
    fn default() -> Self {
        Self {
            keys: "/etc/pve-edge/keys".into(),
            run: "/run/pve-edge".into(),
            state: "/var/lib/pve-edge".into(),
            etc: "/etc".into(),
            home: None,
            program: "/proc/self/exe".into(),
        }
    }
}
