//! What is true of core on a simulated PVE, in virtual time.

mod addresses;
mod bad_input;
mod budgets;
mod client;
mod concurrency;
mod contract;
mod doubts;
mod environment;
mod expiry;
mod health;
mod http;
mod ids;
mod interleaving;
mod late;
mod matrix;
mod memory;

mod morph;
mod power;
mod pve_faults;
mod quotas;
mod recommendations;
mod review;
mod rollback;
mod secrets;
mod snapshots;
mod spread;
mod stage;
mod sweep;
mod templates;
mod tidy;
mod transcripts;
mod truth;
mod visibility;
mod vm;
mod vms;
