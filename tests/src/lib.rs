//! A simulated Proxmox VE and a world in virtual time for core to run in.
//!
//! [`sim::Sim`] is one PVE cluster as a pure state machine. [`world::World`]
//! runs core's operations on it, deterministically, with faults.

pub mod sim;
pub mod world;
