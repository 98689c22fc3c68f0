//! What the tests stand on, and what `cargo demo` serves.
//!
//! [`sim::Sim`] is one PVE cluster as a pure state machine. [`world::World`]
//! runs core's operations on it, deterministically, with faults. [`guests`] runs
//! commands of simulated guests as processes; [`serve`] is the API on a socket;
//! [`e2e`] is what every platform is put through.

pub mod e2e;
pub mod guests;
pub mod serve;
pub mod sim;
pub mod world;
