//! Log of the daemon: lines on standard error, which never hold a command, a variable, or a content.

use std::{
    fmt::Display,
    io::{Write, stderr},
};

/// Writes a line. A log that is closed stops nothing.
pub(crate) fn log(line: impl Display) {
    let _ = stderr().write_all(format!("pve-edge-guest: {line}\n").as_bytes());
}
