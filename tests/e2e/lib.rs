//! End to end: the same scenarios against the API at a URL, whatever serves it
//! and whatever PVE is behind it.

pub mod client;
pub mod cluster;
mod distance;
mod events;
mod inventory;
mod log;
pub mod morph;
mod network;
pub mod pipe;
mod process;
mod rig;
mod run;
mod scenarios;
mod simulated;
mod target;
mod world;

pub use self::{
    cluster::{Cluster, Speed},
    inventory::Remote,
    log::Log,
    network::Network,
    rig::{DEPLOYMENT, Keys, Pve, Rig, settings},
    run::{Combination, Tally, run},
    simulated::Simulated,
    target::Target,
};
