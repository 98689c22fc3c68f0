//! The daemon in a sandbox: it obeys signed calls of the edge, and holds no secret.
//!
//! One program plays all parts. `run` holds the listening socket, starts `serve`, and reaps; `serve` answers HTTP; each
//! command has a `keep` beside it, which outlives `serve`, and is started by a `become`; `file` touches files as a user.

pub mod answer;
pub mod arguments;
pub mod r#become;
pub mod boot;
pub mod file;
pub mod keep;
pub mod layout;
mod log;
pub mod metrics;
pub mod process;
pub mod run;
pub mod serve;
pub mod trust;
pub mod users;

use std::{ffi::OsString, process::ExitCode};

use self::arguments::{Part, Wrong};

/// Plays the part that the first argument names.
pub fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    match arguments::parse(arguments) {
        Ok(Part::Run(options)) => run::main(options),
        Ok(Part::Serve(options)) => serve::main(options),
        Ok(Part::Keep(arguments)) => keep::main(arguments),
        Ok(Part::Become(arguments)) => r#become::main(arguments),
        Ok(Part::File(arguments)) => file::main(arguments),
        Ok(Part::Version) => {
            println!("pve-edge-guest {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        Err(Wrong(why)) => {
            log::log(why);
            ExitCode::from(2)
        }
    }
}
