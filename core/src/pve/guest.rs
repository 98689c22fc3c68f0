//! One guest.

pub mod commit;
pub mod condition;
pub mod network;
pub mod place;
pub mod reach;
pub mod usable;
pub mod wait;
