//! Names of headers that `http` has no name for.

use http::header::HeaderName;

/// Of an answer, for its log lines.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Names a request, so that it can be sent again.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// How long a request may wait (RFC 7240).
pub const PREFER: HeaderName = HeaderName::from_static("prefer");
/// Which of its preferences a request was given (RFC 7240).
pub const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
/// A key of this API, where `Authorization` is another's.
pub const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
/// For a PVE API behind Cloudflare Access.
pub const ACCESS_CLIENT_ID: HeaderName = HeaderName::from_static("cf-access-client-id");
/// Sent with it.
pub const ACCESS_CLIENT_SECRET: HeaderName = HeaderName::from_static("cf-access-client-secret");
