//! Visits: what a visitor of a sandbox's port asks for, and what has to be known of the sandbox before it is let in.

use std::net::Ipv4Addr;

use time::OffsetDateTime;

use super::{id::SandboxId, nonce::Nonce, place::Target, service::Services, vmid::Vmid};

/// Guest that a visitor asks for.
#[derive(Clone, Debug)]
pub struct Asked {
    /// VMID that the host names.
    pub vmid: Vmid,
    /// Nonce that the host names.
    pub nonce: Option<Nonce>,
    /// Id that a pass names, which this deployment has given out.
    pub id: Option<String>,
}

/// What is known of a sandbox that visitors ask for.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its id, with the node where it is now.
    pub id: SandboxId,
    /// Team that owns it.
    pub team: String,
    /// Its services.
    pub services: Services,
    /// When it expires, in Unix seconds; `None` = never.
    pub expires: Option<i64>,
    /// The time to live that was given last, in seconds.
    pub span: Option<u32>,
    /// Where it is reached; `None` where that is not known.
    pub at: Option<Visited>,
}

/// Where visitors come to a sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Visited {
    /// Address in the guests' network.
    pub ip: Ipv4Addr,
    /// What the proxy beside PVE takes for it.
    pub target: Target,
}

impl Identity {
    /// Whether less than half of its time is left: then a visit gives it its time again.
    pub fn wants_renewal(&self, now: OffsetDateTime) -> bool {
        let left = self.expires.map(|it| it - now.unix_timestamp());
        left.zip(self.span).is_some_and(|(left, span)| left * 2 < i64::from(span))
    }
}
