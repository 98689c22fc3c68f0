//! The proxy on the PVE host: what comes out of the tunnel with the gateway's key goes to a guest, and nothing else goes
//! anywhere. It is Caddy; here are its configuration and the script that sets it up.

mod caddyfile;
mod expression;
mod script;

use std::{borrow::Cow, net::Ipv4Addr};

pub use self::script::script;
pub use crate::sandbox::address::PROXY_PORT;
use crate::{
    access::secret::Key,
    pve::guest::reach::EXEC_PORT,
    sandbox::{
        address::{GuestNetwork, IpPool},
        vmid::Vmid,
    },
    settings::Settings,
};

/// Header of a request with the deployment's key for its proxy.
pub const KEY: &str = "X-Edge-Key";
/// Header of a request with guest and port, as [`Guests::target`] writes them.
pub const TO: &str = "X-Edge-To";
/// Header of a request with what the guest gets as `Host`.
pub const HOST: &str = "X-Edge-Host";
/// Header of a request with what the guest gets as `X-Forwarded-Host`.
pub const PUBLIC_HOST: &str = "X-Edge-Public-Host";
/// Header of a request with the visitor's address, which the guest gets as `X-Forwarded-For`, or [`OWN`].
pub const CLIENT: &str = "X-Edge-Client";
/// Value of [`CLIENT`] in the deployment's own calls.
pub const OWN: &str = "edge";
/// Header of an answer in which the proxy says that the guest has not answered: [`DIAL`], [`LATE`] or [`REFUSED`].
pub const FAULT: &str = "X-Edge-Fault";
/// Value of [`FAULT`]: the guest never got the request.
pub const DIAL: &str = "dial";
/// Value of [`FAULT`]: the guest may have got the request.
pub const LATE: &str = "late";
/// Value of [`FAULT`]: the proxy takes no such request.
pub const REFUSED: &str = "refused";

/// Ports that nobody reaches through the proxy: SSH, mail, NFS and PVE's own.
pub const CLOSED_PORTS: [u16; 5] = [22, 25, 111, 2049, 8006];
/// Port that only the deployment's own calls reach: that of a guest's daemon.
pub const OWN_PORT: u16 = EXEC_PORT;

/// Number of addresses up to which the proxy looks them up by VMID. It reads its table from the top for each request.
const LARGEST_TABLE: u32 = 4096;

/// Key of the deployment's proxy under one of its secrets, as the header has it.
pub fn key(secret: &Key, deployment: &str) -> String {
    hex::encode(secret.hmac("proxy", &[deployment]))
}

/// Guests that the proxy of a deployment reaches, and how a request names one of them.
#[derive(Debug)]
pub enum Guests<'a> {
    /// By VMID: the proxy has the address of each in a table.
    Table(&'a IpPool),
    /// By address: the proxy holds it against an expression of the network.
    Network(Cow<'a, GuestNetwork>),
}

impl<'a> Guests<'a> {
    /// The guests that the settings tell; `None` where they tell no network.
    pub fn of(settings: &'a Settings) -> Option<Self> {
        match (&settings.ip_pool, &settings.guest_network) {
            (Some(pool), _) if pool.size() <= LARGEST_TABLE => Some(Self::Table(pool)),
            (Some(pool), _) => Some(Self::Network(Cow::Owned(pool.guest_network()))),
            (None, Some(network)) => Some(Self::Network(Cow::Borrowed(network))),
            (None, None) => None,
        }
    }

    /// Value of [`TO`] for a port of a guest that has this address; `None` where the proxy would refuse it.
    pub fn target(&self, vmid: Vmid, address: Option<Ipv4Addr>, port: u16) -> Option<String> {
        match self {
            Self::Table(pool) => pool.serves(vmid).then(|| format!("{vmid}:{port}")),
            Self::Network(network) => address.filter(|it| network.has(*it)).map(|it| format!("{it}:{port}")),
        }
    }

    /// Network that holds all of them, as CIDR.
    fn cidr(&self) -> String {
        let (base, prefix) = match self {
            Self::Table(pool) => pool.guest_network().block(),
            Self::Network(network) => network.block(),
        };
        format!("{}/{prefix}", Ipv4Addr::from(base))
    }
}
