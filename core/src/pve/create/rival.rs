//! One key, one sandbox: whoever is about to commit looks for others first (rule S2.8).
//!
//! Two requests with one key claim two VMIDs when one that the key draws was
//! freed or taken between their listings. Each looks after its claim and
//! before its commit, and whoever sees another gives way. So no two commit:
//! each would have had to look before the other had claimed.

use super::source::vmids_of_key;
use crate::{
    error::Error,
    io::Io,
    pve::{
        cluster::Cluster,
        guest::{Located, claimed::taken_by_unknown, located::was_destroyed},
        inventory::{Guest, Inventory},
        marks::{Mark, Want},
    },
};

/// The VMID of another guest of this guest's key. A guest at a VMID of the key of which PVE does not tell yet whose it is
/// may be a stranger's: that is an error, and to be asked again.
pub(super) async fn rival<I: Io>(cluster: &Cluster<'_, I>, mark: &Mark) -> Result<Option<u32>, Error> {
    let Some(key) = mark.key else { return Ok(None) };
    let inventory = Inventory::read(cluster).await?;
    let is_rival = |other: &Mark| {
        other.key == Some(key)
            && other.deployment == mark.deployment
            && other.team == mark.team
            && other.nonce.origin() != mark.nonce.origin()
            && other.want != Want::Gone
    };
    let another = |guest: &&Guest| guest.vmid != mark.vmid;
    let listed = inventory.guests.iter().filter(another);
    if let Some(guest) = listed.into_iter().find(|it| it.ours.as_ref().is_some_and(|it| is_rival(&it.mark))) {
        return Ok(Some(guest.vmid.into()));
    }
    let drawn: Vec<_> =
        vmids_of_key(cluster, &inventory, key).filter_map(|vmid| inventory.guest(vmid)).collect();
    for guest in drawn.into_iter().filter(another).filter(|it| it.ours.is_none()) {
        let config =
            match cluster.send(cluster.pve.guest(&guest.row.node, guest.kind, guest.vmid).config()).await {
                Ok(config) => config,
                Err(error) if error.is_missing() || error.is_final() => continue,
                Err(error) => return Err(error.into()),
            };
        // The first moment of a clone tells nobody whose it is.
        if config.is_unknown_yet() {
            return Err(taken_by_unknown(guest.vmid));
        }
        let Some(other) = Located::of(&guest.row.node, guest.vmid, config) else { continue };
        if !is_rival(&other.mark) {
            continue;
        }
        // Nobody commits what a late clone has brought back after its deletion.
        if other.committed || !was_destroyed(cluster, &other.node, &other.mark).await? {
            return Ok(Some(guest.vmid.into()));
        }
    }
    Ok(None)
}
