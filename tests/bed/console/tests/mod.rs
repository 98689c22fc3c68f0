//! Consoles as their clients see them: over HTTP and a websocket, with real shells.

mod faults;
mod refused;
mod shared;
mod stage;
