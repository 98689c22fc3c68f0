//! Part `become`: the stage before a command is executed.

use std::{ffi::OsString, process::ExitCode};

/// Plays the part.
pub fn main(_arguments: Vec<OsString>) -> ExitCode {
    ExitCode::FAILURE
}
