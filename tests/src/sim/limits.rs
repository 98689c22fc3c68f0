//! Locks that refuse a call.

use time::OffsetDateTime;

use super::{Guest, Kind, Sim, reply::Fail, setup::FLOCK_WAIT, tasks, wire::Call};

impl Sim {
    /// The container that a call names, on the node that it names.
    pub(crate) fn container(&self, call: &Call) -> Result<&Guest, Fail> {
        let (node, vmid) = (call.node(), call.vmid());
        let here = |guest: &&Guest| guest.node == node && guest.kind == Kind::Lxc;
        self.guests.get(&vmid).filter(here).ok_or_else(|| Fail::die(missing(node, vmid)))
    }

    /// `check_lock` of pve-guest-common `AbstractConfig.pm`.
    pub(crate) fn check_lock(&self, vmid: u32) -> Result<(), Fail> {
        match self.guests.get(&vmid).and_then(|guest| guest.config.lock()) {
            Some(lock) => Err(Fail::die(format!("CT is locked ({lock})"))),
            None => Ok(()),
        }
    }

    /// Waits for the guest's file lock as long as PVE does.
    pub(crate) fn wait_flock(&self, vmid: u32, arrived: OffsetDateTime) -> Result<(), Fail> {
        match self.flocked(vmid) {
            false => Ok(()),
            true if self.now >= arrived + FLOCK_WAIT => Err(Fail::die(tasks::flock_timeout(vmid))),
            true => Err(Fail::Locked),
        }
    }
}

/// `load_config` of a file that is not there.
pub(crate) fn missing(node: &str, vmid: u32) -> String {
    format!("Configuration file 'nodes/{node}/lxc/{vmid}.conf' does not exist")
}
