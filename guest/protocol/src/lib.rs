//! The protocol between the edge and the daemon in a guest, without I/O: both sides are built on it.
//!
//! A call is `POST /v1/{op}` with the headers [`CALL`] and [`SIGNATURE`]. The signed bytes of [`CALL`] say all that is
//! asked; nothing else of the HTTP request counts, because proxies rewrite it. `GET /healthz` is the one request
//! without a signature.

pub mod answer;
pub mod call;
pub mod file;
pub mod identity;
pub mod keys;
pub mod process;
mod unique;

pub use self::unique::Unique;

/// Port on which the daemon listens.
pub const PORT: u16 = 39375;

/// Path of the one request that needs no signature.
pub const HEALTH_PATH: &str = "/healthz";

/// Header that holds a call: base64url of its JSON, at most [`call::LARGEST_CALL`] bytes of it. An answer has it too: the
/// name of the call that it answers, in 32 hexadecimal digits.
pub const CALL: &str = "edge-call";

/// Header that holds a call's signature: `{key id}:{base64url of the 64 bytes}`.
pub const SIGNATURE: &str = "edge-signature";

/// Header of an answer whose body is a file's content: base64url of the JSON of its [`file::Entry`].
pub const ENTRY: &str = "edge-entry";
