//! What is true of core on a simulated PVE, in virtual time.

mod bad_input;
mod budgets;
mod client;
mod concurrency;
mod contract;
mod environment;
mod expiry;
mod interleaving;
mod late;
mod matrix;
mod morph;
mod power;
mod pve_faults;
mod quotas;
mod review;
mod rollback;
mod secrets;
mod snapshots;
mod stage;
mod sweep;
mod tidy;
mod transcripts;
mod truth;
mod visibility;
mod vm;
mod vms;
