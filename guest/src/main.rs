//! `pve-edge-guest`: the daemon in a sandbox. Its first argument is the part that the process plays.

use std::process::ExitCode;

fn main() -> ExitCode {
    pve_edge_guest::main(std::env::args_os().skip(1))
}
