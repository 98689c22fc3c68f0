//! Destroying a guest.

use super::Located;
use crate::{
    io::Io,
    pve::{
        api::{PveError, task::Upid},
        cluster::Cluster,
    },
};

/// Takes the protection off, if the guest is still what it was when it was located, and destroys it
/// (rule S3.1).
pub(crate) async fn destroy<I: Io>(cluster: &Cluster<'_, I>, found: &Located) -> Result<Upid, PveError> {
    let (guest, config) = (found.api(cluster), &found.config);
    if config.protection == Some(true) {
        cluster.send(guest.set_config(&[("protection", "0"), ("digest", &*config.digest)])).await?;
    }
    cluster.send(guest.destroy()).await
}

/// The same; a VM that runs is stopped instead, and a later attempt destroys it.
pub(crate) async fn destroy_or_stop<I: Io>(
    cluster: &Cluster<'_, I>,
    found: &Located,
) -> Result<Upid, PveError> {
    match destroy(cluster, found).await {
        Err(error) if error.must_be_stopped() => cluster.send(found.api(cluster).stop()).await,
        result => result,
    }
}
