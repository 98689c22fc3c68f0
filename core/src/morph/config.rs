//! `GET /api/config/sandbox` of a deployment on Morph.

use super::{
    Cloud,
    snapshot::{list_by_entries, preset_versions},
};
use crate::{error::Error, io::Io, sandbox::offer::Offer};

/// The answer, from one listing.
pub async fn config<I: Io>(cloud: &Cloud<'_, I>) -> Result<Offer, Error> {
    let offered = preset_versions(list_by_entries(cloud, &[]).await?);
    let ready = offered.into_iter().filter(|(_, it)| it.is_ready());
    Ok(Offer::new(
        cloud.settings.provider,
        (cloud.platform.streams, cloud.platform.upgrades),
        cloud.settings.public_domain.as_ref(),
        cloud.settings.server_origin.as_deref(),
        ready.map(|(id, _)| id).collect(),
    ))
}
