//! Sandboxes for coding agents on Proxmox VE (PVE): every request, URL,
//! decision and state format, without I/O.
//!
//! Core opens no socket, reads no clock and rolls no dice. An adapter reads
//! settings, implements [`io::Io`], and hands each HTTP request to
//! [`service::handle`].

pub mod io;
pub mod service;
