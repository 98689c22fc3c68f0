//! What is true of core on a simulated PVE, in virtual time.

mod bad_input;
mod budgets;
mod client;
mod concurrency;
mod expiry;
mod interleaving;
mod late;
mod matrix;
mod pve_faults;
mod secrets;
mod stage;
mod tidy;
mod transcripts;
mod truth;
mod visibility;
