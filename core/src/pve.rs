//! PVE.

pub mod api;
pub mod change;
pub mod cluster;
pub mod create;
pub mod exec;
pub mod guest;
pub mod health;
pub mod inventory;
pub mod marks;
mod operations;
pub mod power;
pub mod quota;
pub mod read;
pub mod remove;
pub mod rollback;
pub mod snapshot;
pub mod sweep;
pub mod template;
