//! The proxy on the PVE host: what comes out of the tunnel with the gateway's key goes to a guest, and nothing else goes
//! anywhere. It is Caddy; here are its configuration and the script that sets it up.

mod caddyfile;
mod expression;
mod script;

use std::{borrow::Cow, net::Ipv4Addr};

pub use self::script::script;
pub use crate::{
    io::proxy::{OURSELVES as OWN, REFUSED},
    sandbox::address::PROXY_PORT,
};
use crate::{
    pve::guest::reach::EXEC_PORT,
    sandbox::address::{GuestNetwork, IpPool},
    settings::Settings,
};

/// Ports that nobody reaches through the proxy: SSH, mail, NFS and PVE's own.
pub const CLOSED_PORTS: [u16; 5] = [22, 25, 111, 2049, 8006];
/// Port that only the deployment's own calls reach: that of a guest's daemon.
pub const OWN_PORT: u16 = EXEC_PORT;

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
            (Some(pool), _) if pool.is_tabled() => Some(Self::Table(pool)),
            (Some(pool), _) => Some(Self::Network(Cow::Owned(pool.guest_network()))),
            (None, Some(network)) => Some(Self::Network(Cow::Borrowed(network))),
            (None, None) => None,
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
