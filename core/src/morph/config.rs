//! `GET /api/config/sandbox` of a deployment on Morph.

use serde_json::Value;

use super::{
    Cloud,
    snapshot::{presets, saved},
};
use crate::{error::Error, io::Io, sandbox::offer::report};

/// The answer, from one listing.
pub async fn config<I: Io>(cloud: &Cloud<'_, I>) -> Result<Value, Error> {
    let offered = presets(saved(cloud, &[]).await?);
    let ready = offered.into_iter().filter(|(_, it)| it.is_ready());
    Ok(report(
        cloud.settings.provider,
        cloud.platform.streams,
        cloud.settings.public_domain.as_ref(),
        cloud.settings.server_origin.as_deref(),
        ready.map(|(id, _)| id).collect(),
    ))
}
