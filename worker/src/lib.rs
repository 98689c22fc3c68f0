//! The Cloudflare Worker: what hands requests and the schedule to core, and core's
//! [`Io`](pve_edge_core::io::Io) on the platform's `fetch`.

pub mod answer;
mod body;
mod digest;
#[cfg(feature = "events")]
mod events;
mod headers;
pub mod link;
mod log;
pub mod net;
pub mod request;
mod settings;

use std::time::Duration;

use pve_edge_core::io::Platform;
use worker::Env;

/// What one invocation may use on the free plan, with room to spare (rule P4.2): it is cut off at 50
/// requests, and at 6 connections that wait for an answer.
pub fn platform(env: &Env) -> Platform {
    let binding = net::has_binding(env);
    Platform {
        name: "workers",
        max_wait: Duration::from_secs(25),
        requests: 40,
        answer_bytes: 4 << 20,
        request_bytes: None,
        streams: true,
        upgrades: true,
        private_network: binding,
        in_guest_network: false,
        unverified_tls: binding,
    }
}
