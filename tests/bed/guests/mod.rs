//! Simulated guests whose commands are real: ordinary processes of this user,
//! in a scratch folder per guest, reachable on loopback alone.

mod agent;
mod console;
mod daemon;
mod disk;
mod execd;
mod group;
mod proxy;
mod root;
#[cfg(test)]
mod tests;
mod tree;

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    ffi::OsString,
    io,
    net::{IpAddr, Ipv4Addr, TcpListener},
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::Request;
use hyper::body::Incoming;
use pve_edge_core::access::secret::Keyring;
use rustix::process::Pid;

pub use self::daemon::{Daemon, part};
use crate::serve::Reply;

/// How soon after a guest has stopped its processes are killed.
const TICK: Duration = Duration::from_millis(100);

/// Who is there: what the simulated PVE knows, or what was asked of another.
pub trait Inventory: Send + Sync {
    /// The guest as it is now; `None` when there is none, or none any more.
    fn guest(&self, vmid: u32) -> Option<GuestState>;

    /// The running guest that has this address.
    fn at(&self, ip: IpAddr) -> Option<u32>;
}

/// One guest, now.
#[derive(Clone, Debug)]
pub struct GuestState {
    /// Whether processes can run in it.
    pub running: bool,
    /// What its execd asks for; `None` is a daemon without a token file, open to all.
    pub token: Option<String>,
    /// The address that PVE shows.
    pub ip: IpAddr,
    /// Hardware address of its network card, if it is a container.
    pub card: Option<String>,
    /// Whether no daemon is in it.
    pub is_bare: bool,
}

impl GuestState {
    /// By which it is told from the next guest of its VMID.
    fn identity(&self) -> Identity {
        (self.token.clone(), self.card.clone())
    }
}

/// Token and hardware address of a guest.
type Identity = (Option<String>, Option<String>);

/// All guests that have run something; ends their processes when dropped.
#[derive(Clone)]
pub struct Guests {
    shared: Arc<Shared>,
}

struct Shared {
    inventory: Arc<dyn Inventory>,
    /// The daemon of containers; a stand-in of another one where there is none.
    daemon: Option<Daemon>,
    homes: Mutex<Homes>,
    changes: disk::Changes,
    /// Programs that containers bring, by their paths.
    programs: Mutex<Vec<(String, String)>>,
    /// VMIDs whose daemon answers nobody.
    unplugged: Mutex<BTreeSet<(u32, Identity)>>,
    /// Whether containers have a network of their own, which leads nowhere.
    is_cut_off: AtomicBool,
    /// Set when the guests end: nothing is started any more.
    closed: AtomicBool,
    /// Whether this system has all of 127.0.0.0/8 (Linux), not just 127.0.0.1.
    own_addresses: bool,
    /// Keys by which the proxy beside PVE knows the deployment.
    proxy_keys: OnceLock<Vec<String>>,
}

type Homes = BTreeMap<u32, Home>;

/// Environment of what runs in a guest.
type Variables = [(&'static str, OsString); 5];

/// A guest's disk and processes. Another identity means another guest: VMIDs are reused.
struct Home {
    /// Of the guest that has run in it; a fresh copy is of whoever runs there first.
    identity: Option<Identity>,
    files: disk::Files,
    /// The snapshots that PVE keeps of it.
    kept: BTreeMap<String, disk::Files>,
    groups: Vec<Pid>,
    /// Its daemon, once that was asked for.
    daemon: Option<daemon::Running>,
    /// Its console, once somebody has opened that.
    console: Option<console::Open>,
    /// Whether anything was started since the guest was last seen stopped.
    used: bool,
}

impl Guests {
    /// Guests of `inventory`, of which containers have this daemon; needs a tokio runtime.
    pub fn new(inventory: Arc<dyn Inventory>, daemon: Option<Daemon>) -> Self {
        // An address that nothing configures: binds only where the whole range is local.
        let own_addresses = TcpListener::bind((Ipv4Addr::new(127, 64, 0, 1), 0)).is_ok();
        let shared = Arc::new(Shared {
            inventory,
            daemon,
            homes: Mutex::default(),
            changes: disk::Changes::default(),
            programs: Mutex::default(),
            unplugged: Mutex::default(),
            is_cut_off: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            own_addresses,
            proxy_keys: OnceLock::new(),
        });
        tokio::spawn(watch(Arc::downgrade(&shared)));
        Self { shared }
    }

    /// Has the proxy beside PVE know a deployment by the keys of these secrets; without that there is none.
    pub fn admit(&self, secrets: &str, deployment: &str) -> Result<(), &'static str> {
        let keys = Keyring::parse(secrets)?.all().map(|it| it.proxy_key(deployment)).collect();
        self.shared.proxy_keys.get_or_init(|| keys);
        Ok(())
    }

    /// Answers a request of the proxy beside PVE, or to `port-39375-vm-{vmid}.…`, or gives it back.
    pub async fn proxy(&self, request: Request<Incoming>) -> Result<Reply, Box<Request<Incoming>>> {
        match proxy::target(self, &request) {
            Some(target) => Ok(proxy::answer(self, target, request).await),
            None => Err(Box::new(request)),
        }
    }

    /// Answers for the execd of the guest at the connection's own address, for
    /// runtimes that cannot resolve `*.localhost`. Its listener may have to be
    /// bound to all addresses: a peer that is not on loopback is refused.
    pub async fn execd(&self, request: Request<Incoming>) -> Reply {
        proxy::by_address(self, request).await
    }

    /// Has the daemon of a guest answer nobody from now on.
    pub fn unplug(&self, vmid: u32) {
        let guest = self.running(vmid).map(|it| (vmid, it.identity()));
        self.shared.unplugged.lock().unwrap_or_else(PoisonError::into_inner).extend(guest);
    }

    fn is_unplugged(&self, vmid: u32, guest: &GuestState) -> bool {
        let unplugged = self.shared.unplugged.lock().unwrap_or_else(PoisonError::into_inner);
        unplugged.contains(&(vmid, guest.identity()))
    }

    /// Kills all processes and removes all folders; nothing starts any more.
    pub fn close(&self) {
        let mut homes = self.shared.homes();
        // With the homes locked: who starts something has them, too.
        self.shared.closed.store(true, Ordering::SeqCst);
        homes.clear();
    }

    /// The disk and the processes of a guest that runs.
    fn home<'h>(&self, homes: &'h mut Homes, vmid: u32, guest: &GuestState) -> io::Result<&'h mut Home> {
        if self.shared.closed.load(Ordering::SeqCst) {
            return Err(io::Error::other("the guests have ended"));
        }
        Ok(match homes.entry(vmid) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(Home::new(guest)?),
        })
    }

    fn running(&self, vmid: u32) -> Option<GuestState> {
        self.shared.inventory.guest(vmid).filter(|guest| guest.running)
    }

    /// Variables of every process of a guest. Nothing of this process's environment is in them but the way to
    /// programs: it holds tokens.
    fn variables(&self, vmid: u32, guest: &GuestState, folder: &Path) -> Variables {
        let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
        [
            ("PATH", path),
            ("LANG", "C.UTF-8".into()),
            ("SANDBOX_VMID", vmid.to_string().into()),
            ("SANDBOX_IP", self.address(vmid, guest).to_string().into()),
            ("SANDBOX_FOLDER", folder.into()),
        ]
    }

    /// Where a guest's services listen, and what it knows as `SANDBOX_IP`. A
    /// guest of an ordinary network gets an address by its VMID. Without a range
    /// of them guests share 127.0.0.1; elsewhere that one is out of their reach,
    /// and with it everything else that this user runs.
    fn address(&self, vmid: u32, guest: &GuestState) -> IpAddr {
        match guest.ip {
            _ if !self.shared.own_addresses => Ipv4Addr::LOCALHOST.into(),
            ip if ip.is_loopback() => ip,
            _ => {
                let [_, b, c, d] = vmid.to_be_bytes();
                Ipv4Addr::new(127, 64 | (b & 63), c, d).into()
            }
        }
    }
}

impl Shared {
    fn homes(&self) -> MutexGuard<'_, Homes> {
        self.homes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes what runs, and the files, agree with the inventory.
    fn reconcile(&self) {
        let mut homes = self.homes();
        // A look into the inventory is what makes a simulator tell of its disks.
        let seen: BTreeMap<_, _> = homes.keys().map(|&vmid| (vmid, self.inventory.guest(vmid))).collect();
        self.changes.follow(&mut homes);
        homes.retain(|vmid, home| {
            match seen.get(vmid).cloned().unwrap_or_else(|| self.inventory.guest(*vmid)) {
                Some(guest)
                    if guest.running && home.identity.as_ref().is_some_and(|it| *it != guest.identity()) =>
                {
                    false
                }
                // Its disk outlives a stop, after which it has no token for a while.
                Some(guest) => {
                    if guest.running {
                        home.identity = Some(guest.identity());
                    }
                    if !guest.running && std::mem::take(&mut home.used) {
                        home.kill();
                    }
                    // An id of a group that is gone may become another's.
                    home.groups.retain(|&group| group::exists(group));
                    true
                }
                None => false,
            }
        });
    }
}

impl Home {
    fn new(guest: &GuestState) -> io::Result<Self> {
        disk::Files::new().map(|files| Self::of(files, Some(guest.identity())))
    }

    /// With the files of another's.
    fn copy(from: &disk::Files) -> io::Result<Self> {
        from.copied().map(|files| Self::of(files, None))
    }

    fn of(files: disk::Files, identity: Option<Identity>) -> Self {
        Self {
            identity,
            files,
            kept: BTreeMap::new(),
            groups: Vec::new(),
            daemon: None,
            console: None,
            used: false,
        }
    }

    fn kill(&mut self) {
        self.daemon = None;
        self.groups.iter().for_each(|&group| group::kill(group));
        group::kill_marked(&self.marks());
        self.console = None;
    }

    /// Of which every process of this guest has one in its environment.
    fn marks(&self) -> Vec<String> {
        let own = format!("SANDBOX_FOLDER={}", self.files.folder.path().display());
        self.console.iter().map(console::Open::mark).chain([own]).collect()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn watch(shared: Weak<Shared>) {
    loop {
        tokio::time::sleep(TICK).await;
        match shared.upgrade() {
            Some(shared) => shared.reconcile(),
            None => return,
        }
    }
}
