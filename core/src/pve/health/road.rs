//! Whether the way from here to guests is whole: the tunnel, and the proxy beside PVE.

use std::time::Duration;

use http::{HeaderMap, Request, Uri};

use super::shortages::Findings;
use crate::{
    error::Code,
    io::{Io, RequestBody, proxy},
    pve::{
        cluster::Cluster,
        guest::{Located, reach},
        inventory::Inventory,
    },
    sandbox::{
        place::{Place, Target, Visitor},
        vmid::Vmid,
    },
};

/// Time for the answer: the proxy waits 3 s for a guest that is not there.
const ANSWER: Duration = Duration::from_secs(6);

/// Warns of the link that is broken, where guests are reached through the proxy. A guest may be missing: the proxy says
/// that it got no connection then, and so the way to it is whole. A deployment in the guests' network has no such way.
pub(super) async fn test<I: Io>(cluster: &Cluster<'_, I>, inventory: &Inventory, findings: &mut Findings) {
    let settings = cluster.settings;
    let Some(domain) = settings.public_domain.as_ref().filter(|_| !cluster.platform.in_guest_network) else {
        return;
    };
    let Some(target) = target(cluster, inventory).await else { return };
    if !cluster.spend(1) {
        return;
    }
    let whose = (&settings.secrets, settings.deployment.as_str());
    let place = Place::proxied(domain, (target, proxy::NOBODYS), &Visitor::Ourselves, whose);
    let request = place.request("/", &Request::new(())).map(|()| RequestBody::Whole(Vec::new()));
    let gate = place.base.parse::<Uri>().ok().and_then(|it| it.host().map(str::to_owned)).unwrap_or_default();
    let answer = cluster.io.open(request, cluster.now() + ANSWER).await;
    let told = |it: &HeaderMap| it.get(proxy::FAULT).map(|it| it.as_bytes() == proxy::REFUSED.as_bytes());
    match answer.map(|it| (it.status, told(&it.headers), proxy::fault(place.way, it.status, &it.headers))) {
        Ok((_, Some(true), fault)) => {
            findings.warn(Code::ProxyRefused, fault.map_or_else(String::new, |it| it.detail));
        }
        Ok((_, Some(false), _)) => {}
        Ok((status @ (502..=504), None, _)) => {
            let text = format!(
                "{gate} answers {status}, as cloudflared does that finds no proxy: is pve-edge-proxy.service running on the \
                 PVE host?"
            );
            findings.warn(Code::TunnelDown, text);
        }
        Ok((_, None, Some(fault))) => {
            let text = format!("{gate}: {}: is cloudflared running on the PVE host?", fault.detail);
            findings.warn(Code::TunnelDown, text);
        }
        Ok((status, None, None)) => {
            let text = format!(
                "what answers at {gate} ({status}) is not the proxy of /api/setup/proxy.sh: the name has to lead to the \
                 tunnel, and the tunnel to the proxy"
            );
            findings.warn(Code::ProxyRefused, text);
        }
        Err(error) => findings.warn(Code::TunnelDown, format!("{gate}: {error}")),
    }
}

/// A guest that the proxy may be asked for: one that runs, or whoever has the first address of the pool. Without a pool only
/// one that runs has an address.
async fn target<I: Io>(cluster: &Cluster<'_, I>, inventory: &Inventory) -> Option<Target> {
    let mut runs = inventory.guests.iter().filter(|it| it.ours.is_some() && it.row.status == "running");
    let Some(pool) = &cluster.settings.ip_pool else {
        let guest = runs.find(|_| cluster.settings.guest_network.is_some())?;
        let api = cluster.pve.guest(&guest.row.node, guest.kind, guest.vmid);
        let found = Located::of(&guest.row.node, guest.vmid, cluster.send(api.config()).await.ok()?)?;
        return Some(reach::visited(cluster, &found).await.ok()??.target);
    };
    let all = (0..pool.size())
        .filter_map(|it| Vmid::try_from(u32::from(cluster.settings.vmid_range.first()) + it).ok());
    let vmid = runs.map(|it| it.vmid).chain(all).find(|it| pool.serves(*it))?;
    if pool.is_tabled() { Some(Target::Vmid(vmid)) } else { pool.address(vmid).map(Target::Address) }
}
