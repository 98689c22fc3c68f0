//! `pve-edge-guest`.

fn main() {}
