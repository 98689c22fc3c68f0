//! Destroying a guest.

use crate::{
    io::Io,
    pve::{
        api::{PveError, config::Config, task::Upid},
        cluster::Cluster,
        marks::Mark,
    },
};

/// Takes the protection off, if the guest is still what `config` says, and destroys it.
pub(crate) async fn destroy<I: Io>(
    cluster: &Cluster<'_, I>,
    node: &str,
    config: &Config,
    mark: &Mark,
) -> Result<Upid, PveError> {
    let guest = cluster.pve.guest(node, mark.kind, mark.vmid);
    if config.protection == Some(true) {
        cluster.send(guest.set_config(&[("protection", "0"), ("digest", &*config.digest)])).await?;
    }
    cluster.send(guest.destroy()).await
}
