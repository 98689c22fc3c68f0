//! What surprises in PVE, held by the simulator; and the world around it.

mod clone;
mod config;
mod destroy;
mod execd;
mod reads;
mod schema;
mod server;
mod snapshots;
mod talk;
mod wire;
mod world;
