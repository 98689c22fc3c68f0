//! The road from the internet to a guest's port.

pub mod proxy;
