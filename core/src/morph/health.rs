//! `GET /api/health/sandbox` of a deployment on Morph, in one request.

use serde_json::{Value, json};

use super::{
    Cloud,
    snapshot::{presets, saved},
};
use crate::{
    error::{Code, Error},
    io::Io,
    sandbox::health::reason,
};

/// The report, and whether sandboxes can be made.
pub async fn health<I: Io>(cloud: &Cloud<'_, I>) -> (bool, Value) {
    let start = cloud.now();
    let provider = cloud.settings.provider.name();
    let found = saved(cloud, &[]).await.map(presets);
    let latency = (cloud.now() - start).whole_milliseconds() as i64;
    let offered = match found {
        Ok(offered) => offered,
        Err(error) => {
            let reached = !matches!(error.code(), Code::MorphUnreachable | Code::MorphTimeout);
            let report = json!({
                "status": "unhealthy",
                "provider": provider,
                "reachable": reached,
                "platform": cloud.platform.name,
                "reasons": [reason(&error)],
            });
            return (false, report);
        }
    };
    let none = || {
        let text = "no preset is offered: take a snapshot of a sandbox with promote, or set edge.deployment and \
                    edge.preset in the metadata of a snapshot of Morph";
        reason(&Error::new(Code::TemplateNotFound, text))
    };
    let ready = offered.iter().any(|(_, it)| it.is_ready());
    let templates =
        offered.iter().map(|(id, _)| json!({"vmid": null, "node": null, "snapshotId": id, "lock": null}));
    let report = json!({
        "status": if ready { "healthy" } else { "unhealthy" },
        "provider": provider,
        "reachable": true,
        "latencyMs": latency,
        "templates": templates.collect::<Vec<_>>(),
        "reasons": if ready { Vec::new() } else { vec![none()] },
    });
    (ready, report)
}
