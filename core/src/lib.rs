//! Sandboxes for coding agents on Proxmox VE (PVE): every request, URL,
//! decision and state format, without I/O.
//!
//! Core opens no socket, reads no clock and rolls no dice. An adapter reads
//! settings, implements [`io::Io`], and hands each HTTP request to
//! [`api::handle`].
//!
//! The modules are layers, here from the top down. Nothing names a thing above itself, and
//! [`pve`] and [`morph`] never name each other; a test (`tests/api/layers.rs`) holds that.

// HTTP in and out: the route table, bodies, answers, the contract.
pub mod api;

// The road of visitors to ports of sandboxes.
pub mod gateway;

// The tunnel by which guests are reached from the internet, by Cloudflare's API.
pub mod tunnel;

// The one interface of all that sandboxes can be made by.
pub mod provider;

// Sandboxes that are guests of a PVE cluster.
pub mod pve;

// Sandboxes that are instances of Morph Cloud.
pub mod morph;

// Client of the daemon in a guest.
pub mod daemon;

// What a deployment is set to.
pub mod settings;

// The words that every provider and every surface of the API speaks.
pub mod sandbox;

// Keys, callers, and the deployment's secrets.
pub mod access;

// The world as core sees it: requests, clock, the time that is left.
pub mod io;

// Text formats that others define.
pub mod text;

// Errors: what happened, whose fault it is, what to do.
pub mod error;

#[cfg(doc)]
pub mod docs;
