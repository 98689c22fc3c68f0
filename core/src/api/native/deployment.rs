//! Routes about the deployment: health, what it offers, the sweep.

use http::Response;
use serde_json::json;

use crate::{
    api::{
        answer::plain,
        request::{ApiRequest, SweepBody},
    },
    error::Error,
    io::Io,
    provider::Provider,
};

pub(super) fn alive() -> Response<Vec<u8>> {
    plain(200, &json!({"status": "ok"}))
}

pub(super) async fn health<I: Io>(provider: &Provider<'_, I>) -> Result<Response<Vec<u8>>, Error> {
    let (healthy, report) = provider.health().await;
    Ok(plain(if healthy { 200 } else { 503 }, &report))
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
