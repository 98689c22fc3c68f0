//! Sandboxes that are guests of a Proxmox VE (PVE) cluster, with all that is kept about them in their
//! tags and descriptions.
//!
//! The modules stand here from the top down: an operation names what is below it.

mod operations;
mod visit;

pub mod health;
pub mod sweep;

pub mod change;
pub mod power;
pub mod remove;
pub mod rollback;
pub mod snapshot;
pub mod template;

pub mod exec;
pub mod file;
pub mod process;
pub mod read;

pub mod ready;
mod within;

pub mod create;

pub mod guest;

mod console;

pub mod quota;

pub mod inventory;

pub mod cluster;
pub mod reserve;

pub mod marks;

pub mod privileges;

pub mod api;
