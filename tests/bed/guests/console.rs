//! The console of a container: a shell in its folder, as `lxc-attach --clear-env` starts root's, in a root of its own.

use std::{
    ffi::OsString,
    fs, io,
    path::Path,
    sync::{Arc, PoisonError, atomic::Ordering},
};

use tempfile::TempDir;

use super::{
    GuestState, Guests, Home,
    root::{Layer, Root},
};
use crate::console::{Client, Host, Login, Order, Session, Settings, Shell, locked, not_running};

/// Folder that everything names which builds a template.
const BUILD: &str = "/var/lib/pve-edge-build";
/// Where a guest that shares this machine's `/run` has what it keeps in memory.
const MEMORY: &str = "PVE_EDGE_RUN";

/// A console that was opened.
pub(super) struct Open {
    /// Unless a real `dtach` keeps it, or only a VM's guest agent was asked.
    session: Option<Session>,
    /// Where its processes are; ends with the guest's run.
    root: Root,
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
        self.open_root(home, guest)?;
        let Some(Open { root, memory, .. }) = home.console.take() else {
            return Err(io::ErrorKind::Other.into());
        };
        let folder = home.files.folder.path();
        let variables = self.variables(order.vmid, guest, folder);
        let path = variables.into_iter().filter(|(name, _)| *name == "PATH");
        let Settings { shell: words, real_dtach, .. } = locked(&order.settings).clone();
        let mut shell = Shell {
            command: command(&root.enter(), &words, folder, memory.path())?,
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
        home.console = Some(Open { session, root, memory });
        Ok(client)
    }

    /// Makes the root of a guest that runs, where it has none.
    fn open_root(&self, home: &mut Home, guest: &GuestState) -> io::Result<()> {
        home.used = true;
        if home.console.is_some() {
            return Ok(());
        }
        let layer = match &mut home.files.layer {
            Some(layer) => &*layer,
            none => none.insert(Layer::new()?),
        };
        self.add_programs(layer)?;
        if let Some(card) = &guest.card {
            layer.set_card(card)?;
        }
        let memory = tempfile::Builder::new().prefix("pve-edge-run-").tempdir()?;
        let is_cut_off = self.shared.is_cut_off.load(Ordering::SeqCst);
        let root = Root::make(layer, home.files.folder.path(), memory.path(), is_cut_off)?;
        home.console = Some(Open { session: None, root, memory });
        Ok(())
    }

    /// The words before a command of a VM's guest agent. What builds a template writes wherever it likes, and so goes into
    /// a root of the VM's own; so does what runs where that was built.
    pub(super) fn words_before(
        &self,
        vmid: u32,
        guest: &GuestState,
        command: &[&str],
    ) -> io::Result<Vec<String>> {
        self.shared.reconcile();
        let mut homes = self.shared.homes();
        let home = self.home(&mut homes, vmid, guest)?;
        let is_build = command.iter().any(|it| it.contains(BUILD));
        if !is_build && home.files.layer.is_none() {
            return Ok(Vec::new());
        }
        self.open_root(home, guest)?;
        Ok(home.console.iter().flat_map(|it| it.root.enter()).collect())
    }

    /// Gives each container whose console is opened from now on a network of its own, which leads nowhere.
    pub fn cut_off(&self) {
        self.shared.is_cut_off.store(true, Ordering::SeqCst);
    }

    /// Has every container whose console is opened from now on bring a program of its own.
    pub fn add_program(&self, path: &str, text: &str) {
        let mut programs = self.shared.programs.lock().unwrap_or_else(PoisonError::into_inner);
        programs.push((path.to_owned(), text.to_owned()));
    }

    /// Number of containers that have a root.
    #[cfg(test)]
    pub(crate) fn roots(&self) -> usize {
        self.shared.homes().values().filter(|it| it.console.is_some()).count()
    }

    fn add_programs(&self, layer: &Layer) -> io::Result<()> {
        let programs = self.shared.programs.lock().unwrap_or_else(PoisonError::into_inner);
        programs.iter().try_for_each(|(path, text)| layer.add(path, text))
    }
}

/// How PVE calls it [pve-container `API2/LXC.pm`].
fn dtach(socket: &Path) -> [OsString; 6] {
    ["dtach".into(), "-A".into(), socket.into(), "-r".into(), "winch".into(), "-z".into()]
}

/// The shell and its arguments, behind what enters the container's root. bash takes this user's home for its own and writes
/// a history there, unless it is told.
fn command(enter: &[String], words: &[String], folder: &Path, memory: &Path) -> io::Result<Vec<OsString>> {
    let mut command: Vec<OsString> = enter.iter().chain(words).map(Into::into).collect();
    if words.first().is_some_and(|it| it.rsplit('/').next() == Some("bash")) {
        let (folder, script) = (folder.display(), memory.join("bashrc"));
        fs::write(&script, format!("HOME='{folder}' HISTFILE='{folder}/.bash_history'\n"))?;
        let at = enter.len() + 1;
        command.splice(at..at, ["--rcfile".into(), script.into()]);
    }
    Ok(command)
}
