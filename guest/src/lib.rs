//! The daemon in a sandbox: it obeys signed calls of the edge, and holds no secret.

pub mod answer;
pub mod layout;
pub mod users;
