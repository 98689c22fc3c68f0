//! Text formats that others define: JSON, base32, HTML, UTF-8, moments (RFC 3339), words of a shell,
//! server-sent events.

pub mod base32;
pub(crate) mod html;
pub mod json;
pub mod rfc3339;
pub mod shell;
pub mod sse;
pub(crate) mod utf8;
