//! Which calls are obeyed.

mod calls;
mod keys;
mod model;
