//! What surprises in PVE, held by the simulator; and the world around it.

mod agents;
mod clone;
mod config;
mod create;
mod destroy;
mod execd;
mod memory;
mod reads;
mod recorded;
mod schema;
mod server;
mod snapshots;
mod talk;
mod timing;
mod vms;
mod wire;
mod world;
