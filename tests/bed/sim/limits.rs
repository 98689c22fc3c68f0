//! Locks that refuse a call.

use time::OffsetDateTime;

use super::{Guest, Kind, Sim, reply::Fail, setup::FLOCK_WAIT, wire::Call};

impl Sim {
    /// The guest that a call names, on the node that it names.
    pub(crate) fn named(&self, call: &Call) -> Result<&Guest, Fail> {
        let (kind, node, vmid) = (call.kind(), call.node(), call.vmid());
        self.at(kind, node, vmid).ok_or_else(|| Fail::die(missing(kind, node, vmid)))
    }

    /// A guest of this kind on this node.
    pub(crate) fn at(&self, kind: Kind, node: &str, vmid: u32) -> Option<&Guest> {
        self.guests.get(&vmid).filter(|guest| guest.node == node && guest.kind == kind)
    }

    /// `check_lock` of pve-guest-common `AbstractConfig.pm`.
    pub(crate) fn check_lock(&self, vmid: u32) -> Result<(), Fail> {
        self.guests.get(&vmid).and_then(locked).map_or(Ok(()), |text| Err(Fail::die(text)))
    }

    /// Waits for the guest's file lock as long as PVE does.
    pub(crate) fn wait_flock(&self, vmid: u32, arrived: OffsetDateTime) -> Result<(), Fail> {
        match self.flocked(vmid) {
            false => Ok(()),
            true if self.now >= arrived + FLOCK_WAIT => Err(Fail::die(self.flock_timeout(vmid))),
            true => Err(Fail::Locked),
        }
    }
}

/// `load_config` of a file that is not there.
pub(crate) fn missing(kind: Kind, node: &str, vmid: u32) -> String {
    format!("Configuration file 'nodes/{node}/{}/{vmid}.conf' does not exist", kind.folder())
}

/// What a locked guest's refusal says.
pub(crate) fn locked(guest: &Guest) -> Option<String> {
    guest.config.lock().map(|lock| format!("{} is locked ({lock})", guest.kind.noun()))
}
