//! Keys of the API, who presents them, and the deployment's secrets.

pub mod keys;
pub mod secret;
