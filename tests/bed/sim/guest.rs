//! A guest and its run.

use std::{collections::BTreeMap, net::Ipv4Addr};

use time::OffsetDateTime;

use super::{Config, Sim};

/// Container or virtual machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `lxc`.
    Lxc,
    /// `qemu`.
    Qemu,
}

impl Kind {
    /// As in paths of the API, and `type` of a listing.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lxc => "lxc",
            Self::Qemu => "qemu",
        }
    }

    /// As in PVE's sentences.
    pub(crate) fn noun(self) -> &'static str {
        match self {
            Self::Lxc => "CT",
            Self::Qemu => "VM",
        }
    }

    /// The type of a task: `vzstart`, `qmstart`.
    pub(crate) fn task(self, action: &str) -> String {
        match self {
            Self::Lxc => format!("vz{action}"),
            Self::Qemu => format!("qm{action}"),
        }
    }

    /// Where config files are, below a node's folder.
    pub(crate) fn folder(self) -> &'static str {
        match self {
            Self::Lxc => "lxc",
            Self::Qemu => "qemu-server",
        }
    }

    /// What the guest is called by.
    pub(crate) fn name_key(self) -> &'static str {
        match self {
            Self::Lxc => "hostname",
            Self::Qemu => "name",
        }
    }

    /// The first disk of the guests here.
    pub(crate) fn disk(self) -> &'static str {
        match self {
            Self::Lxc => "rootfs",
            Self::Qemu => "scsi0",
        }
    }
}

/// A guest.
#[derive(Clone, Debug)]
pub struct Guest {
    /// Its number, unique in the cluster.
    pub vmid: u32,
    /// Where its config file is.
    pub node: String,
    /// What it is.
    pub kind: Kind,
    /// Its config file.
    pub config: Config,
    /// Its pool.
    pub pool: Option<String>,
    /// Set while it runs.
    pub run: Option<Run>,
    /// Bearer token that the template's disk carries.
    pub disk_token: Option<String>,
    /// Whether nothing that we know is on its disk: no daemon listens in it.
    pub is_bare: bool,
    /// Content of `/etc/pve-edge/keys` where the project's own daemon is on the disk; else execd is.
    pub keys: Option<String>,
    /// Memory on disk: of each snapshot with `vmstate`, and under `""` that of
    /// a VM that is suspended to disk.
    pub(crate) saved: BTreeMap<String, Run>,
    /// Whether its disk is that of a moment in which it ran: a rollback's.
    pub(crate) unclean: bool,
    /// Until when the start that mounts such a disk waits; then it is up.
    pub(crate) recovers_until: Option<OffsetDateTime>,
    /// Files that PVE or the guest agent wrote.
    pub(crate) files: BTreeMap<String, String>,
}

/// What a start left behind until the stop.
#[derive(Clone, Debug)]
pub struct Run {
    /// When the start's worker ended.
    pub since: OffsetDateTime,
    /// When execd answers and addresses are there.
    pub ready: OffsetDateTime,
    /// The bearer token that execd asks for; `None` lets everybody in.
    pub token: Option<String>,
    /// Address of `eth0`.
    pub address: Ipv4Addr,
    /// Address that whoever is root in it has it tell in the place of that.
    pub claimed: Option<Ipv4Addr>,
    /// A number of this memory: the same one after a suspension, another after a start.
    pub memory: u64,
    /// Whether the processors stand still.
    pub paused: bool,
    /// What the project's own daemon has in its memory.
    pub daemon: super::daemon::Memory,
}

impl Guest {
    /// `running` or `stopped`.
    pub fn status(&self) -> &'static str {
        if self.run.is_some() { "running" } else { "stopped" }
    }

    /// Host name, or what PVE shows in its place.
    pub fn name(&self) -> String {
        let prefix = match self.kind {
            Kind::Lxc => "CT",
            Kind::Qemu => "VM ",
        };
        self.config.get(self.kind.name_key()).map_or_else(|| format!("{prefix}{}", self.vmid), str::to_owned)
    }

    /// Its tags.
    pub fn tags(&self) -> Vec<&str> {
        self.config.get("tags").unwrap_or("").split(';').filter(|tag| !tag.is_empty()).collect()
    }

    /// What tells it from an earlier guest of its number: the token of its
    /// daemon, which nobody has who is not let in; with a daemon of ours its network card, of a VM its own UUID.
    pub fn identity(&self) -> Option<String> {
        match self.kind {
            Kind::Lxc if self.keys.is_some() => self.config.get("net0").map(str::to_owned),
            Kind::Lxc => self.run.as_ref()?.token.clone(),
            Kind::Qemu => self.config.get("smbios1").map(str::to_owned),
        }
    }

    /// Hardware address of a container's network card, as PVE writes it.
    pub fn card(&self) -> Option<String> {
        let net0 = self.config.get("net0").filter(|_| self.kind == Kind::Lxc)?;
        net0.split(',').find_map(|part| part.strip_prefix("hwaddr=")).map(str::to_owned)
    }

    /// Whether a VM's memory is on disk, and its processes with it.
    pub fn is_suspended(&self) -> bool {
        self.config.lock() == Some("suspended")
    }

    /// The number of the memory that a snapshot keeps.
    pub fn memory_of(&self, snapname: &str) -> Option<u64> {
        self.saved.get(snapname).map(|run| run.memory)
    }

    /// The run, unless its processors stand still.
    pub(crate) fn awake(&self) -> Option<&Run> {
        self.run.as_ref().filter(|run| !run.paused)
    }

    /// What the listing shows: of a VM what QEMU says of itself.
    pub(crate) fn shown_status(&self) -> &'static str {
        if self.run.is_some() && self.awake().is_none() { "paused" } else { self.status() }
    }
}

impl Sim {
    /// What a start that ends now makes of a guest.
    pub(crate) fn boot(&mut self, vmid: u32) {
        let now = self.now;
        let Some(guest) = self.guests.get_mut(&vmid) else { return };
        let boot = if guest.kind == Kind::Lxc { self.setup.boot } else { self.setup.vm_boot };
        guest.config.apply_pending();
        let token = token_at_start(guest);
        let address = address(guest);
        self.sequence += 1;
        let memory = self.sequence;
        guest.run = Some(Run {
            since: now,
            ready: now + boot,
            token,
            address,
            claimed: None,
            memory,
            paused: false,
            daemon: super::daemon::Memory::new(memory),
        });
    }

    /// Has a guest tell another address than it has, as its root can.
    pub fn claim_address(&mut self, vmid: u32, address: Ipv4Addr) {
        let run = self.guests.get_mut(&vmid).and_then(|it| it.run.as_mut());
        run.expect("it runs").claimed = Some(address);
    }
}

/// `env` wins; the line in the description needs a hook script to read it.
fn token_at_start(guest: &Guest) -> Option<String> {
    let env = guest.config.get("env").unwrap_or("");
    let from_env = env.split('\0').find_map(|entry| entry.strip_prefix("CMUX_EXECD_AUTH_TOKEN="));
    let description = guest.config.description.as_deref().unwrap_or("");
    let hooked = guest.config.get("hookscript").is_some();
    let from_hook = description
        .lines()
        .find_map(|line| line.trim().strip_prefix("cmux-execd-auth-token="))
        .filter(|token| hooked && token.len() == 64);
    from_env.or(from_hook).map(str::to_owned).or_else(|| guest.disk_token.clone())
}

/// The static address of `net0`, else what DHCP gives: a function of the VMID.
pub(crate) fn address(guest: &Guest) -> Ipv4Addr {
    let line = if guest.kind == Kind::Lxc { "net0" } else { "ipconfig0" };
    let fixed = guest
        .config
        .get(line)
        .unwrap_or("")
        .split(',')
        .find_map(|part| part.strip_prefix("ip="))
        .and_then(|cidr| cidr.split('/').next()?.parse().ok());
    let [_, a, b, c] = guest.vmid.to_be_bytes();
    fixed.unwrap_or(Ipv4Addr::new(10, 100u8.wrapping_add(a), b, c))
}
