//! The daemon as it is run: the real program on loopback.

#[allow(dead_code, reason = "each subject uses some of it")]
mod daemon;
mod trust;
