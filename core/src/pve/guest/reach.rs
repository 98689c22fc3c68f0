//! Where a sandbox is reached: URLs of its services, and its exec daemon.
//!
//! People are shown the public domain, else the FQDN, else the guest's address. A token and a command go only
//! where it is proved that the guest is (rule S7.4).

use std::net::Ipv4Addr;

use pve_edge_guest_protocol::{answer::Hello, call::Operation};
use serde_json::Value;
use time::OffsetDateTime;

use super::Located;
use crate::{
    daemon::Daemon,
    error::{Code, Error},
    io::{Io, Way},
    pve::{
        api::PveError,
        cluster::Cluster,
        marks::{Mark, state::is_unproved},
    },
    sandbox::{
        Addresses, Service,
        address::{self, Domain, SERVICES, Viewers},
        channel::Channel,
        id::Kind,
        place::{Place, Target, Visitor},
        service::Services,
        visit::Visited,
        vmid::Vmid,
    },
    settings::Settings,
};

/// Seconds after which a start has ended: up to 50 after a rollback, since ext4 waits for other hosts.
const START_SECONDS: i64 = 120;

/// Port of the exec daemon.
pub const EXEC_PORT: u16 = 39375;

/// The guest's hostname, which is also its name in the network's DNS.
pub fn hostname(vmid: Vmid) -> String {
    format!("vm-{vmid}")
}

/// What is known of a guest's services without asking PVE: name and URL of each. `ip` is what its config says.
pub fn links(settings: &Settings, vmid: Vmid, ip: Option<Ipv4Addr>) -> Vec<(String, String)> {
    addresses(settings, (vmid, None), None, ip)
        .services
        .into_iter()
        .filter_map(|service| service.url.map(|url| (service.name, url)))
        .collect()
}

/// Where a guest is reached, for people: the public domain, else its name in the network, else its
/// address. `search` and `ip` are what its config and PVE say of it; settings tell no address of a
/// guest that exists. Its services, where its mark has told them.
pub fn addresses(
    settings: &Settings,
    (vmid, services): (Vmid, Option<&Services>),
    search: Option<&str>,
    ip: Option<Ipv4Addr>,
) -> Addresses {
    let search = settings.search_domain.as_deref().or(search);
    let url = |port| match (&settings.public_domain, search, ip) {
        (Some(domain), _, _) => Some(address::public_url(domain, port, vmid)),
        (None, Some(search), _) => Some(address::fqdn_url(&hostname(vmid), search, port)),
        (None, None, ip) => ip.map(|ip| address::ip_url(ip, port)),
    };
    let services = match services {
        Some(services) => {
            services.all().map(|(name, terms)| Service::on(terms.clone(), name, url(terms.port))).collect()
        }
        None => SERVICES.iter().map(|(name, port)| Service::new(*name, *port, url(*port))).collect(),
    };
    Addresses { services, viewers: Viewers::new(url) }
}

/// Addresses of a guest whose config is at hand; asks PVE for a live one only where nothing else is shown.
pub async fn live_addresses<I: Io>(cluster: &Cluster<'_, I>, found: &Located, running: bool) -> Addresses {
    let (set, config) = (cluster.settings, &found.config);
    let search = config.searchdomain.as_deref();
    let is_named = set.public_domain.is_some() || set.search_domain.is_some() || search.is_some();
    let ip = match config.address() {
        None if running && !is_named => proven_ip(cluster, found).await.ok().flatten(),
        fixed => fixed,
    };
    addresses(set, (found.mark.vmid, Some(&found.mark.services)), search, ip)
}

/// The address that is proved to be a guest's: the static one of its config, else the one that PVE
/// shows at this moment for the hardware address of its network card.
async fn proven_ip<I: Io>(cluster: &Cluster<'_, I>, found: &Located) -> Result<Option<Ipv4Addr>, PveError> {
    if let Some(ip) = found.config.address() {
        return Ok(Some(ip));
    }
    let Some(card) = found.config.hardware_address() else { return Ok(None) };
    if hangs(cluster, found).await? {
        return Ok(None);
    }
    let told = cluster.send(found.api(cluster).interfaces()).await?;
    Ok(address_of(&told, card))
}

/// Whether a container's start may keep the question for its interfaces waiting: each that is asked meanwhile takes one of
/// the node's three workers until the start ends (rule S5.3). Who was not started lately does not start.
async fn hangs<I: Io>(cluster: &Cluster<'_, I>, found: &Located) -> Result<bool, PveError> {
    let Located { node, mark, .. } = found;
    let has_started = mark.settled_for(cluster.now()) > START_SECONDS && !is_unproved(mark, cluster.now());
    if mark.kind != Kind::Lxc || has_started {
        return Ok(false);
    }
    let tasks = cluster.send(cluster.pve.active_on(node, mark.vmid)).await?;
    Ok(tasks.iter().any(|it| it.kind == Kind::Lxc.starts()))
}

/// The first global address of the interfaces with this hardware address: of a container as its kernel
/// tells them, of a VM as its agent does. A bridge in the guest, such as docker0, has another.
fn address_of(told: &Value, card: &str) -> Option<Ipv4Addr> {
    let interfaces = told.get("result").unwrap_or(told).as_array()?;
    let is_card = |it: &&Value| {
        let hardware = it.get("hardware-address").or_else(|| it.get("hwaddr")).and_then(Value::as_str);
        hardware.is_some_and(|it| it.eq_ignore_ascii_case(card))
    };
    let addresses = interfaces.iter().filter(is_card).flat_map(|it| {
        // `inet` is the last one of several.
        let several = it.get("ip-addresses").and_then(Value::as_array).into_iter().flatten();
        several.filter_map(|it| it.get("ip-address")).chain(it.get("inet"))
    });
    addresses.filter_map(|it| it.as_str()?.split('/').next()?.parse::<Ipv4Addr>().ok()).find(is_global)
}

fn is_global(ip: &Ipv4Addr) -> bool {
    !(ip.is_loopback() || ip.is_link_local() || ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast())
}

/// The exec token of a sandbox, under the secret that its mark names (rule S7.6).
pub fn token(settings: &Settings, mark: &Mark) -> String {
    tokens(settings, mark).into_iter().next().unwrap_or_default()
}

/// The tokens that a sandbox may have: rotation of `EDGE_SECRET` locks nobody out.
pub fn tokens(settings: &Settings, mark: &Mark) -> Vec<String> {
    settings
        .secrets
        .named_first(mark.secret.as_deref())
        .map(|key| key.exec_token(&mark.deployment, mark.vmid.into(), &mark.nonce.to_string()))
        .collect()
}

/// Where the exec daemon of this guest, and of no other, is: behind the proxy beside PVE, or below the public domain, for
/// which the admin vouches, or at the address that is proved to be the guest's. A name in the network's DNS may be
/// anybody's: it gets no token and no command. A deployment in the guests' network needs no proxy.
pub async fn exec_place<I: Io>(cluster: &Cluster<'_, I>, found: &Located) -> Result<Option<Place>, PveError> {
    if let Some(domain) = &cluster.settings.public_domain {
        let by_name = || Place::by_name(domain, EXEC_PORT, found.mark.vmid);
        return Ok(match visited(cluster, found).await? {
            Some(at) => Some(exec_place_at(cluster, domain, at)),
            // Its address is not known yet, and the proxy takes no guest out of a name.
            None if cluster.settings.ip_pool.is_none() && cluster.settings.guest_network.is_some() => None,
            None => Some(by_name()),
        });
    }
    Ok(proven_ip(cluster, found).await?.map(|ip| Place::direct(ip, EXEC_PORT)))
}

fn exec_place_at<I: Io>(cluster: &Cluster<'_, I>, domain: &Domain, at: Visited) -> Place {
    let Settings { secrets, deployment, .. } = cluster.settings;
    match cluster.platform.in_guest_network {
        true => Place::direct(at.ip, EXEC_PORT),
        false => Place::proxied(domain, (at.target, EXEC_PORT), &Visitor::Ourselves, (secrets, deployment)),
    }
}

/// Whether the daemon at an address obeys calls that are for this sandbox alone. What PVE shows of a guest's interfaces is
/// the word of whoever is root in it, and may be another's address.
pub async fn answers_at<I: Io>(
    cluster: &Cluster<'_, I>,
    found: &Located,
    at: Visited,
    until: OffsetDateTime,
) -> bool {
    let Some(domain) = cluster.settings.public_domain.as_ref() else { return false };
    if found.mark.channel() != Some(Channel::Guest) {
        return false;
    }
    let mut daemon = daemon_at(cluster, vec![exec_place_at(cluster, domain, at)], found);
    daemon.ask::<Hello>(&Operation::Hello {}, &[], until).await.is_ok()
}

/// The places where the daemon of this guest, and of no other, is reached: as [`exec_place`], and behind the public domain
/// the static address of its network card, for a call that was never sent that way.
pub async fn places<I: Io>(cluster: &Cluster<'_, I>, found: &Located) -> Result<Vec<Place>, PveError> {
    let mut places: Vec<_> = exec_place(cluster, found).await?.into_iter().collect();
    let is_direct = places.iter().any(|it| it.way == Way::Guest);
    if cluster.platform.private_network && !is_direct {
        let fixed = found.config.address();
        places.extend(fixed.map(|ip| Place::direct(ip, EXEC_PORT)));
    }
    Ok(places)
}

/// Where visitors come to a guest: the address that neither it nor another guest can choose, and what the proxy beside PVE
/// takes for it. `None` where its network is not known (neither `PVE_IP_POOL_CIDR` nor `EDGE_GUEST_NETWORK`), and where it
/// has no address in that.
pub async fn visited<I: Io>(cluster: &Cluster<'_, I>, found: &Located) -> Result<Option<Visited>, PveError> {
    let Settings { ip_pool, guest_network, .. } = cluster.settings;
    let Some(pool) = ip_pool else {
        let Some(network) = guest_network else { return Ok(None) };
        let ip = proven_ip(cluster, found).await?.filter(|it| network.has(*it));
        return Ok(ip.map(|ip| Visited { ip, target: Target::Address(ip) }));
    };
    let vmid = found.mark.vmid;
    let fixed = found.config.address().filter(|it| pool.gives(*it));
    // The proxy's table has the address that the settings give now; the guest has that of its commit.
    let target = fixed.and_then(|ip| match pool.is_tabled() {
        true => (pool.address(vmid) == Some(ip)).then_some(Target::Vmid(vmid)),
        false => Some(Target::Address(ip)),
    });
    Ok(fixed.zip(target).map(|(ip, target)| Visited { ip, target }))
}

/// The daemon of our own in this guest. Refused where commands go another way, and where no address of the guest is
/// known.
pub async fn daemon<'c, I: Io>(cluster: &'c Cluster<'_, I>, found: &Located) -> Result<Daemon<'c, I>, Error> {
    match found.mark.channel() {
        Some(Channel::Guest) => {}
        Some(other) => return Err(other.lacks("this")),
        None => {
            let text = format!("{} is still coming up; ask again", found.mark.id());
            return Err(Error::new(Code::StillCreating, text).retry_after(2));
        }
    }
    let places = places(cluster, found).await?;
    if places.is_empty() {
        let text = "PVE shows no address of the sandbox's network card (net0): it has none yet, or set \
                    PVE_PUBLIC_DOMAIN or PVE_IP_POOL_CIDR";
        return Err(Error::new(Code::ExecUnreachable, text).retry_after(2));
    }
    Ok(daemon_at(cluster, places, found))
}

/// The daemon that is expected in this guest, at these places.
pub(super) fn daemon_at<'c, I: Io>(
    cluster: &'c Cluster<'_, I>,
    places: Vec<Place>,
    found: &Located,
) -> Daemon<'c, I> {
    let Settings { secrets, deployment, .. } = cluster.settings;
    Daemon::new(cluster, places, found.mark.name_of_guest(), secrets, deployment)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_the_guests_own_card_has_its_address() {
        let container = json!([
            {"name": "lo", "hwaddr": "00:00:00:00:00:00", "inet": "127.0.0.1/8"},
            {"name": "docker0", "hwaddr": "02:42:aa:00:00:01", "inet": "172.17.0.1/16"},
            {"name": "eth0", "hwaddr": "bc:24:11:00:00:01", "inet": "10.0.0.8/24", "ip-addresses": [
                {"ip-address": "fe80::1", "ip-address-type": "inet6", "prefix": 64},
                {"ip-address": "169.254.3.4", "ip-address-type": "inet", "prefix": 16},
                {"ip-address": "10.0.0.7", "ip-address-type": "inet", "prefix": 24},
                {"ip-address": "10.0.0.8", "ip-address-type": "inet", "prefix": 24},
            ]},
        ]);
        let at = |told: &Value, card: &str| address_of(told, card).map(|it| it.to_string());
        assert_eq!(at(&container, "BC:24:11:00:00:01").as_deref(), Some("10.0.0.7"));
        assert_eq!(at(&container, "BC:24:11:00:00:09"), None);
        let old = json!([{"name": "eth0", "hwaddr": "BC:24:11:00:00:01", "inet": "10.0.0.8/24"}]);
        assert_eq!(at(&old, "BC:24:11:00:00:01").as_deref(), Some("10.0.0.8"));
        let vm = json!({"result": [
            {"name": "br-1", "hardware-address": "02:42:00:00:00:01", "ip-addresses": [{"ip-address": "172.18.0.1"}]},
            {"name": "ens18", "hardware-address": "bc:24:11:00:00:02", "ip-addresses": [{"ip-address": "10.0.0.6"}]},
            {"name": "none", "ip-addresses": [{"ip-address": "10.0.0.5"}]},
        ]});
        assert_eq!(at(&vm, "BC:24:11:00:00:02").as_deref(), Some("10.0.0.6"));
        assert_eq!(at(&Value::Null, "BC:24:11:00:00:02"), None);
        let young = json!([{"name": "eth0", "hwaddr": "bc:24:11:00:00:01"}]);
        assert_eq!(at(&young, "BC:24:11:00:00:01"), None);
    }
}
