//! What the tests stand on, and what `cargo demo` serves.
//!
//! [`sim::Sim`] is one PVE cluster as a pure state machine. [`world::World`]
//! runs core's operations on it in virtual time, with faults. [`serve`] and
//! [`guests`] are the same over sockets and ordinary processes, [`console`] their terminals. [`floor`]
//! measures it beside a client that knows the end of each task.

pub mod cloudflare;
pub mod console;
pub mod floor;
pub mod guests;
pub mod morph;
pub mod serve;
pub mod sim;
pub mod world;
