//! Text formats that others define: JSON, base32, the shell's words.

pub mod base32;
pub mod json;
pub mod rfc3339;
pub mod shell;
