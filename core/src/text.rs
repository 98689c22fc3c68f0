//! Text formats that others define: JSON, base32, UTF-8, moments (RFC 3339), words of a shell,
//! server-sent events.

pub mod base32;
pub mod json;
pub mod rfc3339;
pub mod shell;
pub mod sse;
pub(crate) mod utf8;
