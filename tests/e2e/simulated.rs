//! Who is in a simulated PVE that this process serves.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    path::Path,
    sync::{Mutex, PoisonError},
};

use pve_edge_bed::{
    console::faults::{At, Human, LostInput, LostOutput},
    guests::{GuestState, Guests, Inventory},
    sim::{
        Guest,
        server::{Shared, lock},
    },
};

/// Guests of a simulator, as it has them at this moment.
pub struct Simulated {
    sim: Shared,
    tokens: Mutex<BTreeSet<String>>,
}

impl Simulated {
    /// Those of `sim`.
    pub fn new(sim: Shared) -> Self {
        Self { sim, tokens: Mutex::default() }
    }

    /// What its VMs' agents start runs in these guests, and they have the files of its disks.
    pub fn host(&self, guests: &Guests) {
        let mut sim = lock(&self.sim);
        sim.set_agent_host(guests.agent_host());
        sim.set_disk_host(guests.disk_host());
        sim.set_console_host(guests.console_host());
        // As LXC 6 loses output, and now and then what is typed.
        let mut console = sim.console();
        console.faults.lost_output = Some(LostOutput { seed: 7, pieces: 2 });
        console.faults.lost_input = Some(LostInput { seed: 7, one_in: 2000 });
    }

    /// Consoles lose nothing any more.
    pub fn lose_nothing(&self) {
        let sim = lock(&self.sim);
        let mut console = sim.console();
        (console.faults.lost_output, console.faults.lost_input) = (None, None);
    }

    /// Somebody has typed this in the next console before anybody else does.
    pub fn somebody_types(&self, bytes: &[u8]) {
        let human = Human { at: At::Input(0), bytes: bytes.to_vec() };
        lock(&self.sim).console().faults.humans.push(human);
    }

    /// Root has this shell in containers, and `sh` in them is what `sh` of the folder is.
    pub fn set_shell(&self, shell: &[&str], sh: &Path) {
        let path =
            format!("PATH={}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", sh.display());
        let words = ["env", &path].into_iter().chain(shell.iter().copied());
        lock(&self.sim).console().shell = words.map(str::to_owned).collect();
    }

    /// Requests that it has had so far.
    pub fn requests(&self) -> u64 {
        lock(&self.sim).counts().values().sum()
    }

    /// Node, state and config of these guests.
    pub fn configs(&self, vmids: &[u32]) -> Vec<String> {
        let all = lock(&self.sim).snapshot_of(|guest| vmids.contains(&guest.vmid));
        all.into_iter().map(|(vmid, text)| format!("{vmid}: {text}")).collect()
    }

    /// Every exec token that was ever asked for.
    pub fn tokens(&self) -> Vec<String> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

impl Inventory for Simulated {
    fn guest(&self, vmid: u32) -> Option<GuestState> {
        let sim = lock(&self.sim);
        let guest = sim.guest(vmid)?;
        let run = guest.run.as_ref().filter(|run| run.ready <= sim.now());
        let token = guest.identity();
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner).extend(token.clone());
        let ip = run.map_or(IpAddr::from([0; 4]), |run| run.address.into());
        let (running, is_bare) = (run.is_some() || guest.is_suspended(), guest.is_bare);
        Some(GuestState { running, token, ip, card: guest.card(), is_bare })
    }

    fn at(&self, ip: IpAddr) -> Option<u32> {
        let has = |guest: &&Guest| guest.run.as_ref().is_some_and(|run| IpAddr::from(run.address) == ip);
        lock(&self.sim).guests().find(has).map(|guest| guest.vmid)
    }
}
