//! Access to the API: its keys, the callers who present them, and the deployment's secrets.

pub mod keys;
pub mod link;
pub mod pass;
pub mod secret;
