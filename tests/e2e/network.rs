//! The network that the sandboxes are in: 254 addresses of loopback, with an
//! execd at each.

use std::{
    future::pending,
    io,
    net::{IpAddr, Ipv4Addr},
};

use tokio::{net::TcpListener, task::JoinSet};

use pve_edge_bed::{guests::Guests, serve::serve};

/// Where sandboxes listen for commands; the API knows no other.
const EXECD: u16 = 39375;

/// A /24 of 127.0.0.0/8 whose execd ports are ours.
#[derive(Debug)]
pub struct Network {
    first: [u8; 3],
    prefix: u8,
    listeners: Vec<TcpListener>,
    servers: JoinSet<()>,
}

impl Network {
    /// One that nobody else has: runs may be side by side.
    /// The pool of addresses may be larger, up to a /16: of it only these are anybody's.
    pub async fn reserve(prefix: u8) -> io::Result<Self> {
        let mut last = io::Error::other("no /24 of 127.0.0.0/8 is free");
        for _ in 0..20 {
            let mut random = [0; 2];
            getrandom::fill(&mut random).map_err(io::Error::other)?;
            let third = u16::from(random[1]) & (0xff00 >> prefix.saturating_sub(16)) & 0xff;
            let first = [127, 64 + random[0] % 63, third as u8];
            match listen(first).await {
                Ok(listeners) => return Ok(Self { first, prefix, listeners, servers: JoinSet::new() }),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// As `PVE_IP_POOL_CIDR` has it.
    pub fn cidr(&self) -> String {
        let [a, b, c] = self.first;
        format!("{a}.{b}.{c}.0/{}", self.prefix)
    }

    /// Answers for the execd of every guest, until this is dropped.
    pub fn serve(&mut self, guests: &Guests) {
        for listener in self.listeners.drain(..) {
            let guests = guests.clone();
            let handler = move |request| {
                let guests = guests.clone();
                async move { guests.execd(request).await }
            };
            self.servers.spawn(serve(listener, handler, pending()));
        }
    }
}

async fn listen([a, b, c]: [u8; 3]) -> io::Result<Vec<TcpListener>> {
    let mut listeners = Vec::new();
    for d in 1..255 {
        let address = IpAddr::from(Ipv4Addr::new(a, b, c, d));
        listeners.push(TcpListener::bind((address, EXECD)).await?);
    }
    Ok(listeners)
}
