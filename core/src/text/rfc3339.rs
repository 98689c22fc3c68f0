//! Moments as text (RFC 3339).

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

pub(crate) fn stamp(at: OffsetDateTime) -> String {
    at.format(&Rfc3339).unwrap_or_default()
}
