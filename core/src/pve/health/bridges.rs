//! Whether what sandboxes are plugged into is there.

use serde_json::Value;

use super::{Seen, shortages::Findings};
use crate::{
    error::Code,
    io::Io,
    pve::{api::cluster::Permissions, cluster::Cluster, guest::network},
};

/// Nodes that are asked for their bridges.
const NODES: usize = 4;

/// Names a bridge that is set and that a node with a template does not have. PVE shows only those
/// that the token may use: one that it may not is told as a missing privilege.
pub(super) async fn missing<I: Io>(
    cluster: &Cluster<'_, I>,
    seen: &Seen<'_>,
    rights: Option<&Permissions>,
    findings: &mut Findings,
) {
    let Some(set) = cluster.settings.bridge.as_deref() else { return };
    if !rights.is_some_and(|it| !seen.has_sdn() || super::rights::uses(it, set)) {
        return;
    }
    for node in seen.serving_nodes().into_iter().take(NODES) {
        // A node that does not answer is told elsewhere.
        let Ok(rows) = cluster.send(cluster.pve.bridges(node)).await else { continue };
        let all: Vec<&str> = rows.iter().filter_map(|it| it.get("iface").and_then(Value::as_str)).collect();
        if !all.contains(&set) {
            let known = if all.is_empty() { "none".to_owned() } else { all.join(", ") };
            let text = format!("PVE_BRIDGE names {set}, and node {node} has no such bridge; it has: {known}");
            findings.wrong(Code::Misconfigured, text);
        }
    }
}

/// Warns of templates with more than one network card that has a static address.
pub(super) fn fixed(seen: &Seen<'_>, findings: &mut Findings) {
    for (template, config) in &seen.configs {
        let fixed = network::fixed(config);
        if !fixed.is_empty() {
            let text = format!(
                "template {} has a static address in {}, which no two sandboxes may have: they get DHCP there; \
                 set ip=dhcp or ip=manual in the template",
                template.vmid,
                fixed.join(", ")
            );
            findings.warn(Code::Misconfigured, text);
        }
    }
}
