//! The console of a container: a shell of this system in its folder, as `lxc-attach --clear-env` starts root's.

use std::{ffi::OsString, fs, io, path::Path, sync::Arc};

use tempfile::TempDir;

use super::{GuestState, Guests};
use crate::console::{Client, Host, Login, Order, Session, Settings, Shell, locked, not_running};

/// Where a guest that shares this machine's `/run` has what it keeps in memory.
const MEMORY: &str = "XDG_RUNTIME_DIR";

/// A console that was opened.
pub(super) struct Open {
    /// Unless a real `dtach` keeps it.
    session: Option<Session>,
    /// Ends with the guest's run.
    memory: TempDir,
}

impl Open {
    /// What the shell and its processes have in their environment.
    pub(super) fn mark(&self) -> String {
        format!("{MEMORY}={}", self.memory.path().display())
    }
}

impl Guests {
    /// Opens the consoles of a simulated PVE's containers in these guests.
    pub fn console_host(&self) -> Host {
        // The simulator keeps this, and the guests keep the simulator.
        let shared = Arc::downgrade(&self.shared);
        Arc::new(move |order| {
            let guests = shared.upgrade().map(|shared| Self { shared });
            let found = guests.as_ref().and_then(|guests| Some((guests, guests.running(order.vmid)?)));
            let Some((guests, guest)) = found else { return Err(not_running(order.vmid)) };
            guests.attach(&order, &guest).map_err(|error| format!("lxc-attach: {}: {error}\r\n", order.vmid))
        })
    }

    /// Attaches to the session of a container, which is started if there is none.
    fn attach(&self, order: &Order, guest: &GuestState) -> io::Result<Client> {
        self.shared.reconcile();
        let mut homes = self.shared.homes();
        let home = self.home(&mut homes, order.vmid, guest)?;
        if let Some(client) = home.console.as_ref().and_then(|it| it.session.as_ref()?.attach()) {
            return Ok(client);
        }
        home.used = true;
        let memory = match home.console.take() {
            Some(last) => last.memory,
            None => tempfile::Builder::new().prefix("pve-edge-run-").tempdir()?,
        };
        let folder = home.folder.path();
        let variables = self.variables(order.vmid, guest, folder);
        let path = variables.into_iter().filter(|(name, _)| *name == "PATH");
        let Settings { shell: words, real_dtach, .. } = locked(&order.settings).clone();
        let mut shell = Shell {
            command: command(&words, folder, memory.path())?,
            environment: path.chain([(MEMORY, memory.path().into())]).collect(),
            folder: folder.to_owned(),
        };
        let (session, leader, client) = if real_dtach && order.login == Login::Shell {
            shell.command.splice(0..0, dtach(&memory.path().join("console")));
            let (leader, client) = Session::of_dtach(order, &shell)?;
            (None, leader, client)
        } else {
            let (session, client) = Session::start(order, &shell)?;
            let leader = session.leader();
            (Some(session), leader, client)
        };
        home.groups.extend(leader);
        home.console = Some(Open { session, memory });
        Ok(client)
    }
}

/// How PVE calls it [pve-container `API2/LXC.pm`].
fn dtach(socket: &Path) -> [OsString; 6] {
    ["dtach".into(), "-A".into(), socket.into(), "-r".into(), "winch".into(), "-z".into()]
}

/// The shell and its arguments. bash takes this user's home for its own and writes a history there, unless it is told.
fn command(words: &[String], folder: &Path, memory: &Path) -> io::Result<Vec<OsString>> {
    let mut command: Vec<OsString> = words.iter().map(Into::into).collect();
    if words.first().is_some_and(|it| it.rsplit('/').next() == Some("bash")) {
        let (folder, script) = (folder.display(), memory.join("bashrc"));
        fs::write(&script, format!("HOME='{folder}' HISTFILE='{folder}/.bash_history'\n"))?;
        command.splice(1..1, ["--rcfile".into(), script.into()]);
    }
    Ok(command)
}
