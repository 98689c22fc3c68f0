//! Visits: what a visitor of a sandbox's port asks for, and what has to be known of the sandbox before it is let in.

use std::net::Ipv4Addr;

use time::OffsetDateTime;

use super::{State, id::SandboxId, nonce::Nonce, place::Target, service::Services, vmid::Vmid};

/// Guest that a visitor asks for.
#[derive(Clone, Debug)]
pub struct Asked {
    /// VMID that the host names.
    pub vmid: Vmid,
    /// Nonce that the host names.
    pub nonce: Option<Nonce>,
    /// Id that a pass names, which this deployment has given out.
    pub id: Option<String>,
    /// Node on which it was at the last visit.
    pub node: Option<String>,
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

/// What a sandbox does, in which nothing has taken a visitor's request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rest {
    /// It is up.
    Up,
    /// It is up since a moment ago: what shall listen in it may still be starting.
    JustUp,
    /// Somebody brings it up.
    ComingUp,
    /// Somebody began to bring it up, some time ago, and has not come to an end.
    Left,
    /// It is paused or stopped.
    Asleep(State),
    /// It failed to come up, for this cause.
    Failed(String),
}

/// Whether of the `span`, in seconds, that a sandbox was given last less than half is left: then a visit gives it that
/// again.
pub fn wants_renewal(expires: Option<i64>, span: Option<u32>, now: OffsetDateTime) -> bool {
    let left = expires.map(|it| it - now.unix_timestamp());
    left.zip(span).is_some_and(|(left, span)| left * 2 < i64::from(span))
}
