//! A guest: locating it, the needs of operations, and each thing that is done to it.

pub mod agent;
pub mod claimed;
pub mod commit;
pub mod condition;
pub(crate) mod copied;
pub mod destroy;
pub mod execd;
pub mod hello;
pub mod located;
pub mod needs;
pub mod network;
pub mod probe;
pub mod reach;
pub mod repair;
pub(crate) mod stale;
pub mod wait;
pub mod write;

pub use self::located::Located;
