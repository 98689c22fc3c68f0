//! The daemon as it is run: the real program on loopback.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails"
)]

mod cmux;
mod connections;
#[allow(dead_code, reason = "each subject uses some of it")]
mod daemon;
mod files;
mod processes;
mod run;
mod terminal;
mod trust;
