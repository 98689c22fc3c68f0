//! What is true of core on a simulated PVE, in virtual time.

mod client;
mod matrix;
mod stage;
mod transcripts;
mod truth;
