//! Where the daemon finds and keeps what it has.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use rustix::process::{Resource, getrlimit};

/// Folder of what the edge gives to a guest: keys and variables.
pub const OWN_FOLDER: &str = "/etc/pve-edge";

/// Variables by which systemd and OpenRC are told: all that they set are their own.
const OF_MANAGERS: [&str; 2] = ["INVOCATION_ID", "RC_SVCNAME"];

/// Variables that are nobody else's: of the shell that started the daemon, and the token of another daemon.
const OWN: [&str; 5] = ["PWD", "OLDPWD", "SHLVL", "_", "CMUX_EXECD_AUTH_TOKEN"];

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
    /// Variables that each command gets, besides its user's and its own: those of an image, whose entry point the daemon is.
    pub environment: BTreeMap<String, String>,
    /// Open files that each command may have at first: as many as the daemon was given; `None` if that has no bound.
    pub open_files: Option<u64>,
    /// This program, for the processes that it starts of itself: `/proc/self/exe`.
    pub program: PathBuf,
}

impl Layout {
    /// Folder that stands for [`OWN_FOLDER`], in a guest that is no machine of its own.
    pub fn own_folder(&self) -> Option<PathBuf> {
        let folder = self.keys.parent()?;
        (folder != Path::new(OWN_FOLDER)).then(|| folder.to_owned())
    }

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
            environment: inherited(
                std::env::vars_os()
                    .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))),
            ),
            open_files: getrlimit(Resource::Nofile).current,
            program: "/proc/self/exe".into(),
        }
    }
}

/// The variables of the daemon that commands get: none under a service manager.
fn inherited(variables: impl Iterator<Item = (String, String)>) -> BTreeMap<String, String> {
    let mut all: BTreeMap<_, _> = variables.collect();
    if OF_MANAGERS.iter().any(|name| all.contains_key(*name)) {
        return BTreeMap::new();
    }
    all.retain(|name, _| !OWN.contains(&name.as_str()));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_get_an_images_variables_and_no_managers() {
        let check = |given: &[&str], expected: &[&str]| {
            let given = given.iter().map(|name| ((*name).to_owned(), "x".to_owned()));
            assert_eq!(inherited(given).into_keys().collect::<Vec<_>>(), expected);
        };
        check(&["PATH", "NODE_VERSION", "PWD", "CMUX_EXECD_AUTH_TOKEN"], &["NODE_VERSION", "PATH"]);
        check(&["PATH", "INVOCATION_ID", "LANG"], &[]);
        check(&["PATH", "RC_SVCNAME"], &[]);
    }
}
