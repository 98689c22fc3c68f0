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
    Ok(report(cloud, offered.into_iter().map(|(id, _)| id).collect()))
}
