//! What is true of core on a simulated PVE, in virtual time.

mod client;
mod contract;
mod matrix;
mod power;
mod quotas;
mod stage;
mod sweep;
mod transcripts;
mod truth;
