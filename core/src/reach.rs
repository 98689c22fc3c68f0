//! Where a sandbox is reached: URLs of its services, and its exec daemon.
//!
//! The chain is public domain, then FQDN, then container IP.

use std::net::Ipv4Addr;

use serde_json::Value;

use crate::{
    address::{self, SERVICES, Viewers},
    agent,
    edge::Edge,
    error::Error,
    execd::{self, ExecRequest, Probe},
    io::{Io, Way},
    marks::Mark,
    pve::{config::Config, guest::Kind},
    sandbox::{Addresses, Service},
    secret::Secret,
    settings::Settings,
    vmid::Vmid,
};

/// Port of the exec daemon.
pub const EXEC_PORT: u16 = 39375;

/// The guest's hostname, which is also its name in the network's DNS.
pub fn hostname(vmid: Vmid) -> String {
    format!("vm-{vmid}")
}

/// What is known of a guest's addresses without asking PVE: name and URL of each service.
pub fn links(settings: &Settings, vmid: Vmid) -> Vec<(String, String)> {
    addresses(settings, vmid, None, None)
        .services
        .into_iter()
        .filter_map(|service| service.url.map(|url| (service.name, url)))
        .collect()
}

/// Where a guest is reached; `search` and `ip` are what was found out about it.
pub fn addresses(settings: &Settings, vmid: Vmid, search: Option<&str>, ip: Option<Ipv4Addr>) -> Addresses {
    let url = |port| bases(settings, vmid, search, ip, port).into_iter().next().map(|(url, _)| url);
    let services = SERVICES.iter().map(|(name, port)| Service {
        name: (*name).to_owned(),
        port: *port,
        url: url(*port),
    });
    Addresses { services: services.collect(), viewers: Viewers::new(url) }
}

/// Every URL at which a port of a guest may be reached, the best first.
fn bases(
    settings: &Settings,
    vmid: Vmid,
    search: Option<&str>,
    ip: Option<Ipv4Addr>,
    port: u16,
) -> Vec<(String, Way)> {
    if let Some(domain) = &settings.public_domain {
        return vec![(address::public_url(domain, port, vmid), Way::Public)];
    }
    let search = settings.search_domain.as_deref().or(search);
    let fqdn = search.map(|search| address::fqdn_url(&hostname(vmid), search, port));
    let pooled = settings.ip_pool.as_ref().and_then(|pool| pool.address(vmid)).map(|(address, _)| address);
    let ip = pooled.or(ip).map(|ip| address::ip_url(ip, port));
    fqdn.into_iter().chain(ip).map(|url| (url, Way::Guest)).collect()
}

/// Addresses of a guest whose config is at hand; asks PVE for a live address
/// only where neither a domain nor a pool tells it.
pub async fn live_addresses<I: Io>(
    edge: &Edge<'_, I>,
    node: &str,
    config: &Config,
    mark: &Mark,
    running: bool,
) -> Addresses {
    let ip = if running { live_ip(edge, node, mark).await } else { None };
    addresses(edge.settings, mark.vmid, config.searchdomain.as_deref(), ip)
}

async fn live_ip<I: Io>(edge: &Edge<'_, I>, node: &str, mark: &Mark) -> Option<Ipv4Addr> {
    if edge.settings.public_domain.is_some() || edge.settings.ip_pool.is_some() {
        return None;
    }
    let told = edge.send(edge.pve.guest(node, mark.kind, mark.vmid).interfaces()).await.ok()?;
    first_ip(&told)
}

/// The first address of a container's interfaces, or of what a VM's agent says of its.
fn first_ip(told: &Value) -> Option<Ipv4Addr> {
    let interfaces = told.get("result").unwrap_or(told).as_array()?;
    let addresses =
        interfaces.iter().filter(|it| it.get("name").is_none_or(|it| it != "lo")).flat_map(|it| {
            let several = it.get("ip-addresses").and_then(Value::as_array).into_iter().flatten();
            it.get("inet").into_iter().chain(several.filter_map(|it| it.get("ip-address")))
        });
    addresses
        .filter_map(|it| it.as_str()?.split('/').next()?.parse::<Ipv4Addr>().ok())
        .find(|it| !it.is_loopback() && !it.is_link_local())
}

/// The exec token of a sandbox, under the secret that its mark names.
pub fn token(settings: &Settings, mark: &Mark) -> String {
    tokens(settings, mark).into_iter().next().unwrap_or_default()
}

/// The tokens that a sandbox may have: rotation of `EDGE_SECRET` locks nobody out.
pub fn tokens(settings: &Settings, mark: &Mark) -> Vec<String> {
    settings
        .secrets
        .named_first(mark.secret.as_deref())
        .map(|key| key.exec_token(&mark.deployment, mark.vmid, &mark.nonce.to_string()))
        .collect()
}

/// Where the exec daemon may be, the best first.
pub async fn exec_bases<I: Io>(
    edge: &Edge<'_, I>,
    node: &str,
    config: &Config,
    mark: &Mark,
) -> Vec<(String, Way)> {
    let ip = live_ip(edge, node, mark).await;
    bases(edge.settings, mark.vmid, config.searchdomain.as_deref(), ip, EXEC_PORT)
}

/// Whether the exec daemon refuses a wrong token, takes ours, and has run `first`; of a VM, whether
/// its agent answers. An error is one that waiting does not mend.
pub async fn probe<I: Io>(
    edge: &Edge<'_, I>,
    node: &str,
    config: &Config,
    mark: &Mark,
    first: &ExecRequest,
) -> Result<Probe, Error> {
    if mark.kind == Kind::Qemu {
        return agent::probe(edge, node, config, mark, first).await;
    }
    let token = Secret::new(token(edge.settings, mark));
    let wrong = Secret::new("0".repeat(64));
    for (base, way) in exec_bases(edge, node, config, mark).await {
        let deadline = (edge.now() + std::time::Duration::from_secs(4)).min(edge.end());
        match execd::probe(&edge.io, &base, way, (&token, first), &wrong, deadline, || edge.spend(1)).await {
            Probe::NotYet => {}
            found => return Ok(found),
        }
    }
    Ok(Probe::NotYet)
}
