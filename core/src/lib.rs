//! Sandboxes for coding agents on Proxmox VE (PVE): every request, URL,
//! decision and state format, without I/O.
//!
//! Core opens no socket, reads no clock and rolls no dice. An adapter reads
//! settings, implements [`io::Io`], and hands each HTTP request to
//! [`api::handle`].

pub mod access;
pub mod api;
#[cfg(doc)]
pub mod docs;
pub mod error;
pub mod io;
pub mod morph;
pub mod provider;
pub mod pve;
pub mod sandbox;
pub mod settings;
pub mod text;
