//! Part `keep`: the process beside each command.

use std::{ffi::OsString, process::ExitCode};

/// Plays the part.
pub fn main(_arguments: Vec<OsString>) -> ExitCode {
    ExitCode::FAILURE
}
