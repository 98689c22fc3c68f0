//! Guests that a request with the same key may have claimed.

use crate::{
    error::{Code, Error},
    io::{Io, deadline::Deadline, pace},
    pve::{
        api::config::Config,
        cluster::Cluster,
        inventory::{Guest, Inventory},
        marks::Mark,
        reserve,
    },
    sandbox::vmid::Vmid,
};

/// Whether `found` is the mark of a guest that the request of `mark` made, or one with the same key.
pub(crate) fn is_same_claim(mark: &Mark, found: &Mark) -> bool {
    let same_owner = found.deployment == mark.deployment && found.team == mark.team;
    same_owner && (found.nonce == mark.nonce || (mark.key.is_some() && found.key == mark.key))
}

/// Node and config of a guest that a key may have made, once they tell whose
/// it is; `None` when it is gone, or not ours to see.
pub(crate) async fn read_claimed<I: Io>(
    cluster: &Cluster<'_, I>,
    guest: &Guest,
    deadline: Deadline<'_, I>,
) -> Result<Option<(String, Config)>, Error> {
    let mut node = guest.row.node.clone();
    let mut wait = deadline.keeping(reserve::CLAIM).paced(pace::RETRY);
    loop {
        match cluster.send(cluster.pve.guest(&node, guest.kind, guest.vmid).config()).await {
            Ok(config) if !config.is_unknown_yet() => return Ok(Some((node, config))),
            Ok(_) => {}
            // It may have moved since the listing; only one that lacks it proves that it is gone.
            Err(error) if error.is_missing() => match Inventory::read(cluster).await?.guest(guest.vmid) {
                None => return Ok(None),
                Some(now) if now.row.node != node => {
                    node.clone_from(&now.row.node);
                    continue;
                }
                Some(_) => {}
            },
            Err(error) if error.is_final() => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        if !wait.pause().await {
            return Err(taken_by_unknown(guest.vmid));
        }
    }
}

/// The refusal of a VMID that somebody is taking, where PVE does not say who.
pub(crate) fn taken_by_unknown(vmid: Vmid) -> Error {
    let text = format!("VMID {vmid} is being taken, and PVE does not say by whom yet");
    Error::new(Code::NoFreeVmid, text).retry_after(2)
}
