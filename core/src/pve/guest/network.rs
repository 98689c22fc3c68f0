//! The network of a guest that is being made: what a clone has from its
//! source and must not keep.
//!
//! Settings decide at creation only. The address of a guest that exists is what its config says (rule S7.3).

use std::net::Ipv4Addr;

use pve_edge_guest_protocol::identity::HardwareAddress;

use crate::{
    error::{Code, Error},
    io::Io,
    pve::{
        api::config::{Config, with_options},
        cluster::Cluster,
        marks::{Mark, Reading},
    },
    sandbox::{channel::Channel, id::Kind, vmid::Vmid},
};

/// Cloud-init's address of a VM's first network card.
const IPCONFIG: &str = "ipconfig0";
const DHCP: &str = "dhcp";

/// Options of a config, with their new values.
pub type Changes = Vec<(String, String)>;

/// The changes that the commit of a new sandbox makes: the address is the pool's, or DHCP's, and the hardware address
/// is the sandbox's own.
pub fn of_sandbox<I: Io>(cluster: &Cluster<'_, I>, config: &Config, mark: &Mark) -> Result<Changes, Error> {
    let (ip, gateway) = address(cluster, config, mark)?;
    let changes = [("ip", Some(ip)), ("gw", gateway.map(|it| it.to_string()))];
    let mut all = Changes::new();
    let mut bridged = config.net0.clone();
    if let (Some(net0), Some(bridge)) = (&mut bridged, &cluster.settings.bridge) {
        *net0 = with_options(net0, &[("bridge", Some(bridge.clone()))]);
    }
    let bridged = bridged.map(|it| identified(&it, mark));
    match mark.kind {
        Kind::Lxc => all.extend(bridged.map(|it| ("net0".to_owned(), addressed(&it, &changes)))),
        Kind::Qemu => {
            all.extend(bridged.map(|it| ("net0".to_owned(), it)));
            let told = config.option(IPCONFIG).unwrap_or_default();
            let cloud_init = config.has_cloud_init();
            all.extend(cloud_init.then(|| (IPCONFIG.to_owned(), addressed(told, &changes))));
        }
    }
    all.extend(further(config));
    all.retain(|(name, value)| config.option(name) != Some(value) || name == IPCONFIG);
    Ok(all)
}

/// The change that gives a sandbox which exists its hardware address back, by which our daemon in it knows which sandbox
/// it is. One without the daemon keeps the address that it has.
pub fn identity(config: &Config, mark: &Mark) -> Changes {
    let net0 = config.net0.as_ref().filter(|_| mark.commands == Some(Channel::Guest));
    let changed = net0.map(|it| identified(it, mark)).filter(|it| Some(it) != net0);
    changed.map(|it| ("net0".to_owned(), it)).into_iter().collect()
}

/// The hardware address of a sandbox (rule S7.9).
pub fn hardware_address(mark: &Mark) -> HardwareAddress {
    HardwareAddress::of(&mark.deployment, &mark.name_of_guest())
}

/// The changes that the commit of a template makes: no address is anybody's.
pub fn of_template(config: &Config, kind: Kind) -> Changes {
    let dhcp = [("ip", Some(DHCP.to_owned())), ("gw", None)];
    let mut all = Changes::new();
    match kind {
        Kind::Lxc => all.extend(config.net0.as_ref().map(|it| ("net0".to_owned(), addressed(it, &dhcp)))),
        Kind::Qemu => all.extend(config.has_cloud_init().then(|| {
            let told = config.option(IPCONFIG).unwrap_or_default();
            (IPCONFIG.to_owned(), addressed(told, &dhcp))
        })),
    }
    all.extend(further(config));
    all
}

/// Network cards beside the first that have a static address, which two clones must not both have.
pub fn fixed(config: &Config) -> Vec<&str> {
    further_options(config).filter(|(_, value)| is_static(value)).map(|(name, _)| name).collect()
}

/// The gateway that guests made of this template have where none is set: that of its network
/// card, or what its mark has kept of the sandbox that it is a snapshot of.
pub fn gateway(config: &Config, vmid: Vmid) -> Option<Ipv4Addr> {
    let kept = || Reading::of(vmid, config).mark()?.gateway;
    config.gateway().or_else(kept)
}

/// Address with its prefix, and gateway: the pool's, else DHCP. A gateway that is not set is the
/// template's, where that is in the pool's network.
fn address<I: Io>(
    cluster: &Cluster<'_, I>,
    config: &Config,
    mark: &Mark,
) -> Result<(String, Option<Ipv4Addr>), Error> {
    let Some(pool) = &cluster.settings.ip_pool else { return Ok((DHCP.to_owned(), None)) };
    let gateway = cluster.settings.gateway.or(config.gateway()).or(mark.gateway);
    let gateway = gateway.filter(|it| pool.is_in_network(*it));
    let address = pool.address(mark.vmid).filter(|it| pool.gives(*it) && Some(*it) != gateway);
    // The claim drew a VMID whose address may be given: the settings have changed since.
    let text = "the address of this VMID may not be given any more: PVE_IP_POOL_CIDR, PVE_GATEWAY or \
                PVE_IP_RESERVED was changed; ask again";
    let address = address.ok_or_else(|| Error::new(Code::NoFreeVmid, text).retry_after(1))?;
    Ok((format!("{address}/{}", pool.prefix()), gateway))
}

/// A network card with the hardware address of this sandbox. A VM's is the value of the card's model.
fn identified(options: &str, mark: &Mark) -> String {
    let address = hardware_address(mark).to_string();
    let pairs = || options.split(',').filter_map(|it| it.split_once('='));
    let name = match mark.kind {
        Kind::Lxc => Some("hwaddr"),
        Kind::Qemu => pairs().find(|(_, it)| it.parse::<HardwareAddress>().is_ok()).map(|(name, _)| name),
    };
    match name {
        Some(name) if option(options, name).is_none_or(|it| !it.eq_ignore_ascii_case(&address)) => {
            with_options(options, &[(name, Some(address))])
        }
        _ => options.to_owned(),
    }
}

/// A network card with another IPv4 address. A static IPv6 address is its source's alone.
fn addressed(options: &str, changes: &[(&str, Option<String>)]) -> String {
    let changed = with_options(options, changes);
    match option(options, "ip6").is_some_and(|it| it.contains(':')) {
        true => with_options(&changed, &[("ip6", None), ("gw6", None)]),
        false => changed,
    }
}

/// Network cards beside the first: a static address is its source's, so they get DHCP instead (rule S7.3).
fn further(config: &Config) -> Changes {
    let fixed = further_options(config).filter(|(_, value)| is_static(value));
    let changed = fixed.map(|(name, value)| {
        let dynamic: &[_] = match option(value, "ip").is_some_and(|it| it.contains('/')) {
            true => &[("ip", Some(DHCP.to_owned())), ("gw", None)],
            false => &[],
        };
        (name.to_owned(), addressed(value, dynamic))
    });
    changed.collect()
}

fn further_options(config: &Config) -> impl Iterator<Item = (&str, &str)> {
    config.options().filter(|(name, _)| {
        let number = name.strip_prefix("net").or_else(|| name.strip_prefix("ipconfig"));
        number.is_some_and(|it| it != "0" && it.parse::<u8>().is_ok())
    })
}

fn is_static(options: &str) -> bool {
    option(options, "ip").is_some_and(|it| it.contains('/'))
        || option(options, "ip6").is_some_and(|it| it.contains(':'))
}

fn option<'a>(options: &'a str, name: &str) -> Option<&'a str> {
    options.split(',').find_map(|it| it.split_once('=').filter(|(key, _)| *key == name)).map(|(_, it)| it)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn config(options: serde_json::Value) -> Config {
        serde_json::from_value(options).unwrap()
    }

    #[test]
    fn further_cards_keep_no_static_address() {
        let config = config(json!({
            "net0": "name=eth0,bridge=vmbr0,ip=10.0.0.9/24,gw=10.0.0.1,ip6=fd00::9/64,gw6=fd00::1",
            "net1": "name=eth1,bridge=vmbr1,ip=10.1.0.9/24,gw=10.1.0.1",
            "net2": "name=eth2,bridge=vmbr1,ip=manual,ip6=fd01::9/64",
            "net3": "name=eth3,bridge=vmbr1,ip=dhcp,ip6=auto",
            "net10": "name=eth4,bridge=vmbr1,ip=10.2.0.9/24,ip6=dhcp",
        }));
        assert_eq!(fixed(&config), ["net1", "net10", "net2"]);
        let changes = of_template(&config, Kind::Lxc);
        let changes: Vec<(&str, &str)> = changes.iter().map(|(name, it)| (&**name, &**it)).collect();
        assert_eq!(
            changes,
            [
                ("net0", "name=eth0,bridge=vmbr0,ip=dhcp"),
                ("net1", "name=eth1,bridge=vmbr1,ip=dhcp"),
                ("net10", "name=eth4,bridge=vmbr1,ip=dhcp,ip6=dhcp"),
                ("net2", "name=eth2,bridge=vmbr1,ip=manual"),
            ]
        );
    }

    #[test]
    fn of_a_vm_cloud_init_has_them() {
        let config = config(json!({
            "ide2": "local:vm-1-cloudinit,media=cdrom",
            "net0": "virtio=BC:24:11:00:00:01,bridge=vmbr0",
            "net1": "virtio=BC:24:11:00:00:02,bridge=vmbr0",
            "ipconfig0": "ip=10.0.0.9/24,gw=10.0.0.1,ip6=auto",
            "ipconfig1": "ip6=fd00::9/64,gw6=fd00::1,ip=10.1.0.9/24,gw=10.1.0.1",
        }));
        assert_eq!(fixed(&config), ["ipconfig1"]);
        let changes = of_template(&config, Kind::Qemu);
        let expected = [("ipconfig0", "ip=dhcp,ip6=auto"), ("ipconfig1", "ip=dhcp")];
        assert_eq!(changes, expected.map(|(name, it)| (name.to_owned(), it.to_owned())));
    }
}
