//! The daemon of the product in a simulated guest: a process of this user, at an address of the guest's.

use std::{
    fs, io,
    net::{IpAddr, SocketAddr, TcpListener},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    time::Duration,
};

use pve_edge_core::access::secret::{Key, Keyring};
use rustix::process::Pid;
use tempfile::TempDir;
use tokio::{net::TcpStream, time::sleep};

use super::{GuestState, Guests, Home, Variables, tree};

/// How long a daemon may take until it listens.
const TRIES: u32 = 200;
const PAUSE: Duration = Duration::from_millis(50);

/// Name under which a program plays the daemon, as the daemon itself calls its own processes.
const NAME: &str = "pve-edge-guest";

/// The daemon that guests have.
#[derive(Clone, Debug)]
pub struct Daemon {
    /// Program that plays the daemon's parts: `pve-edge-guest`, or one that begins with [`part`].
    pub program: PathBuf,
    /// Content of the file of keys in templates.
    pub keys: String,
}

impl Daemon {
    /// The daemon that a program plays, and that obeys a deployment of these secrets, as `EDGE_SECRET` has them.
    pub fn new(program: PathBuf, secrets: &str, deployment: &str) -> Result<Self, &'static str> {
        let lines = |it: &Key| format!("{}\n", it.guest_key(deployment).line(deployment));
        Ok(Self { program, keys: Keyring::parse(secrets)?.all().map(lines).collect() })
    }
}

/// Plays the daemon, if this process was started as one; a program that hosts guests begins with it. Returns the exit
/// code. Only Linux has what the daemon needs.
pub fn part() -> Option<ExitCode> {
    let mut arguments = std::env::args_os();
    if arguments.next()? != NAME {
        return None;
    }
    #[cfg(target_os = "linux")]
    return Some(pve_edge_guest::main(arguments));
    #[cfg(not(target_os = "linux"))]
    None
}

/// The daemon of one guest that runs.
pub(super) struct Running {
    run: Pid,
    at: SocketAddr,
    /// What a guest has in memory: it ends with the guest's run.
    _memory: TempDir,
}

impl Drop for Running {
    fn drop(&mut self) {
        tree::kill(self.run);
    }
}

impl Guests {
    /// Connects to the daemon of a guest that runs; it is started with the first connection.
    pub(super) async fn connect(
        &self,
        daemon: &Daemon,
        vmid: u32,
        guest: &GuestState,
    ) -> io::Result<TcpStream> {
        let at = {
            self.shared.reconcile();
            let mut homes = self.shared.homes();
            let home = self.home(&mut homes, vmid, guest)?;
            let variables = self.variables(vmid, guest, home.files.folder.path());
            home.boot(daemon, guest, self.address(vmid, guest), variables)?
        };
        let mut last = io::Error::from(io::ErrorKind::TimedOut);
        for _ in 0..TRIES {
            match TcpStream::connect(at).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
            sleep(PAUSE).await;
        }
        Err(last)
    }
}

impl Home {
    /// Starts the daemon unless it runs. Returns its address.
    fn boot(
        &mut self,
        daemon: &Daemon,
        guest: &GuestState,
        ip: IpAddr,
        variables: Variables,
    ) -> io::Result<SocketAddr> {
        if let Some(running) = self.daemon.as_ref().filter(|it| tree::exists(it.run)) {
            return Ok(running.at);
        }
        self.used = true;
        let folder = self.files.folder.path();
        let keys = folder.join("etc/pve-edge/keys");
        if !keys.exists() {
            fs::create_dir_all(folder.join("etc/pve-edge"))?;
            fs::write(&keys, &daemon.keys)?;
        }
        let memory = tempfile::Builder::new().prefix("pve-edge-run-").tempdir()?;
        let cards = memory.path().join("cards");
        fs::create_dir_all(cards.join("eth0"))?;
        fs::write(cards.join("eth0/address"), guest.card.as_deref().unwrap_or_default())?;
        // A port that is free now: the guest's own may be the one of whoever stands before all guests.
        let at = TcpListener::bind((ip, 0))?.local_addr()?;
        let run = Command::new(&daemon.program)
            .arg0(NAME)
            .arg("run")
            .args(["--listen", &at.to_string()])
            .args(pair("--keys", &keys))
            .args(pair("--run-dir", &memory.path().join("run")))
            .args(pair("--state-dir", &folder.join("var/lib/pve-edge")))
            .args(pair("--home", folder))
            .args(pair("--cards", &cards))
            .env_clear()
            .envs(variables)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .process_group(0)
            .spawn()?;
        let run = Pid::from_child(&run);
        self.daemon = Some(Running { run, at, _memory: memory });
        Ok(at)
    }
}

fn pair(name: &str, path: &Path) -> [std::ffi::OsString; 2] {
    [name.into(), path.into()]
}
