//! Sandboxes for coding agents on Proxmox VE (PVE): every request, URL,
//! decision and state format, without I/O.
//!
//! Core opens no socket, reads no clock and rolls no dice. An adapter reads
//! settings, implements [`io::Io`], and hands each HTTP request to
//! [`service::handle`].

pub mod address;
pub mod agent;
pub mod auth;
pub mod call;
pub mod change;
pub mod commit;
pub mod condition;
pub mod config;
pub mod create;
pub mod date;
#[cfg(doc)]
pub mod docs;
pub mod edge;
pub mod environment;
pub mod error;
pub mod exec;
pub mod execd;
pub mod headers;
pub mod health;
pub mod inventory;
pub mod io;
pub mod json;
pub mod lifetime;
pub mod marks;
pub mod morph;
pub mod network;
pub mod nonce;
pub mod pace;
pub mod place;
pub mod power;
pub mod preset;
pub mod pve;
pub mod quota;
pub mod reach;
pub mod read;
pub mod remove;
pub mod request;
pub mod rollback;
pub mod sandbox;
pub mod secret;
pub mod service;
pub mod settings;
pub mod snapshot;
mod spread;
pub mod sweep;
pub mod template;
mod usable;
pub mod vmid;
pub mod wait;
