//! `GET /api/health/sandbox` of a deployment on Morph, in one request.

use super::{
    Cloud,
    snapshot::{list_by_entries, preset_versions},
};
use crate::{
    error::{Code, Error},
    io::Io,
    sandbox::health::{Finding, Offered, Report},
};

/// Reports whether sandboxes can be made.
pub async fn health<I: Io>(cloud: &Cloud<'_, I>) -> Report {
    let start = cloud.now();
    let provider = cloud.settings.provider;
    let found = list_by_entries(cloud, &[]).await.map(preset_versions);
    let latency = (cloud.now() - start).whole_milliseconds() as i64;
    let offered = match found {
        Ok(offered) => offered,
        Err(error) => {
            let reached = !matches!(error.code(), Code::MorphUnreachable | Code::MorphTimeout);
            return Report::failed(provider, reached, cloud.platform.name, &error);
        }
    };
    let none = || {
        let text = "no preset is offered: take a snapshot of a sandbox with promote, or set edge.deployment and \
                    edge.preset in the metadata of a snapshot of Morph";
        Finding::of(&Error::new(Code::TemplateNotFound, text))
    };
    let ready = offered.iter().any(|(_, it)| it.is_ready());
    let templates = offered.into_iter();
    let templates =
        templates.map(|(id, _)| Offered { lock: None, node: None, snapshot_id: Some(id), vmid: None });
    Report {
        latency_ms: Some(latency),
        templates: Some(templates.collect()),
        ..Report::new(provider, true, if ready { Vec::new() } else { vec![none()] })
    }
}
