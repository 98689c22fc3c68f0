//! What the tests stand on, and what `cargo demo` serves.

pub mod e2e;
pub mod guests;
pub mod serve;
