//! Server-sent events.

use std::fmt::{Display, Write};

use serde::Serialize;

/// Adds an event, whose place is its id; JSON has no raw newline, so one `data:` line is enough.
pub(crate) fn event(text: &mut String, name: &str, id: Option<&dyn Display>, data: &impl Serialize) {
    let _ = writeln!(text, "event: {name}");
    if let Some(id) = id {
        let _ = writeln!(text, "id: {id}");
    }
    let _ = write!(text, "data: {}\n\n", serde_json::to_string(data).unwrap_or_default());
}

/// Adds a comment, which keeps the connection open.
pub(crate) fn comment(text: &mut String, words: &str) {
    let _ = write!(text, ": {words}\n\n");
}
