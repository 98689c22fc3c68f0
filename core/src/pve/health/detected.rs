//! What is not set, and what is used in its place.

use std::net::Ipv4Addr;

use serde_json::Value;

use super::{Seen, shortages::Findings};
use crate::{
    error::Code,
    io::Io,
    pve::{api::config::Config, cluster::Cluster, create::spread::Room, guest::network, inventory::Template},
    sandbox::{
        address::IpPool,
        health::{Defaults, Detected},
    },
};

/// Each value and where it is from: the name of its setting, or what tells it.
pub(super) async fn detected<I: Io>(
    cluster: &Cluster<'_, I>,
    seen: &Seen<'_>,
    findings: &mut Findings,
) -> Defaults {
    let set = cluster.settings;
    let node = node(cluster, seen);
    let storage = node.as_deref().and_then(|it| seen.inventory.roomiest(it, seen.kind));
    let bridge = seen.configs.iter().find_map(|(_, config)| config.bridge());
    let searched = match &node {
        Some(node) if set.public_domain.is_none() && set.search_domain.is_none() => {
            let dns = cluster.send(cluster.pve.dns(node)).await.ok();
            dns.and_then(|it| it.get("search")?.as_str().map(str::to_owned))
        }
        _ => None,
    };
    let gateway = match &set.ip_pool {
        Some(pool) if set.gateway.is_none() => gateway(cluster, seen, pool, node.as_deref(), findings).await,
        _ => (None, "DHCP"),
    };
    let storage = storage.and_then(|it| it.storage.clone());
    Defaults {
        bridge: value("PVE_BRIDGE", set.bridge.clone(), bridge.map(str::to_owned), "template"),
        gateway: value(
            "PVE_GATEWAY",
            set.gateway.map(|it| it.to_string()),
            gateway.0.map(|it| it.to_string()),
            gateway.1,
        ),
        node: value("PVE_NODE", set.node.clone(), node, "free memory"),
        search_domain: value("PVE_SEARCH_DOMAIN", set.search_domain.clone(), searched, "DNS"),
        storage: value("PVE_STORAGE", set.storage.clone(), storage, "free space"),
    }
}

/// What is `set` by this setting, or else what was `found` there.
fn value(setting: &'static str, set: Option<String>, found: Option<String>, there: &'static str) -> Detected {
    match set {
        Some(set) => Detected { from: setting, value: Some(set) },
        None => Detected { from: there, value: found },
    }
}

/// Where the next sandbox goes, as far as the listing tells.
fn node<I: Io>(cluster: &Cluster<'_, I>, seen: &Seen<'_>) -> Option<String> {
    if let Some(node) = &cluster.settings.node {
        return Some(node.clone());
    }
    let offered = seen.templates.iter().filter(|it| it.kind == seen.kind);
    let nodes: Vec<&str> =
        offered.map(|it| it.node.as_str()).filter(|it| seen.inventory.is_online(it)).collect();
    let room = Room::of(seen.inventory, &cluster.settings.vmid_range, &nodes, cluster.now(), 0);
    room.best().map(str::to_owned)
}

/// The commit takes it from the template, as nothing else costs nothing; what a bridge says is only shown.
async fn gateway<I: Io>(
    cluster: &Cluster<'_, I>,
    seen: &Seen<'_>,
    pool: &IpPool,
    node: Option<&str>,
    findings: &mut Findings,
) -> (Option<Ipv4Addr>, &'static str) {
    let of = |(template, config): &(Template, Config)| {
        network::gateway(config, template.vmid).filter(|it| pool.is_in_network(*it))
    };
    let without = seen.configs.iter().find(|it| of(it).is_none());
    let Some((template, config)) = without else {
        return (seen.configs.iter().find_map(of), "template");
    };
    let bridge = cluster.settings.bridge.as_deref().or(config.bridge());
    let rows = match node {
        Some(node) => cluster.send(cluster.pve.bridges(node)).await.unwrap_or_default(),
        None => Vec::new(),
    };
    let row = rows.iter().find(|it| it.get("iface").and_then(Value::as_str) == bridge);
    let address = |name: &str| row?.get(name)?.as_str()?.parse().ok().filter(|it| pool.is_in_network(*it));
    let found: Option<Ipv4Addr> = address("gateway").or_else(|| address("address"));
    let text = format!(
        "PVE_IP_POOL_CIDR is set and PVE_GATEWAY is not, and template {} has no gateway of that network in its \
         network card: sandboxes made of it have no way out",
        template.vmid
    );
    match found {
        Some(it) if pool.gives(it) => findings.wrong(
            Code::Misconfigured,
            format!("{text}, and one gets {it}, the address of their bridge: set PVE_GATEWAY={it}"),
        ),
        Some(it) => {
            findings.warn(Code::Misconfigured, format!("{text}; set PVE_GATEWAY={it}, as their bridge"))
        }
        // Nobody has one, which may be what is wanted.
        None => findings.warn(Code::Misconfigured, text),
    }
    (found, "bridge")
}
