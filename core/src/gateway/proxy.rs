//! The proxy on the PVE host: what comes out of the tunnel with the gateway's key goes to a guest, and nothing else goes
//! anywhere.

pub use crate::sandbox::address::PROXY_PORT;
