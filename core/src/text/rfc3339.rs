//! Moments as text (RFC 3339), such as `2026-01-31T12:00:00Z`.

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Writes a moment as RFC 3339.
pub(crate) fn stamp(at: OffsetDateTime) -> String {
    at.format(&Rfc3339).unwrap_or_default()
}

/// Reads a moment of RFC 3339.
pub(crate) fn moment(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text, &Rfc3339).ok()
}
