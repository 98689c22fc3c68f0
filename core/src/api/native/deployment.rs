//! Routes about the deployment: health, what it offers, the sweep.

use http::Response;
use serde::Serialize;

use crate::{
    api::{
        answer::plain,
        request::{ApiRequest, SweepBody},
    },
    error::Error,
    io::Io,
    provider::Provider,
};

/// A deployment that is alive.
#[derive(Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
pub(in crate::api) struct Alive {
    /// That it is.
    #[cfg_attr(feature = "contract", schemars(extend("enum" = ["ok"])))]
    status: &'static str,
}

pub(super) fn alive() -> Response<Vec<u8>> {
    plain(200, &Alive { status: "ok" })
}

pub(super) async fn health<I: Io>(provider: &Provider<'_, I>) -> Result<Response<Vec<u8>>, Error> {
    let report = provider.health().await;
    Ok(plain(if report.is_healthy() { 200 } else { 503 }, &report))
}

pub(super) async fn offer<I: Io>(provider: &Provider<'_, I>) -> Result<Response<Vec<u8>>, Error> {
    Ok(plain(200, &provider.offer().await?))
}

pub(super) async fn sweep<I: Io>(
    provider: &Provider<'_, I>,
    asked: &ApiRequest<'_>,
) -> Result<Response<Vec<u8>>, Error> {
    let SweepBody { dry_run } = asked.json()?;
    asked.caller.ensure_admin("the sweep works for all teams")?;
    Ok(plain(200, &provider.sweep(dry_run).await?))
}
