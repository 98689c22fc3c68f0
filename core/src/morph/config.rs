//! `GET /api/config/sandbox` of a deployment on Morph.

use serde_json::Value;

use super::{
    Cloud,
    snapshot::{presets, saved},
};
use crate::{config::report, error::Error, io::Io};

/// The answer, from one listing.
pub async fn config<I: Io>(cloud: &Cloud<'_, I>) -> Result<Value, Error> {
    let offered = presets(saved(cloud, &[]).await?);
    let ready = offered.into_iter().filter(|(_, it)| it.is_ready());
    Ok(report(cloud, ready.map(|(id, _)| id).collect()))
}
