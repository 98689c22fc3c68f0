//! Health: why sandboxes cannot be made.

use serde_json::{Value, json};

use crate::error::Error;

/// A reason, by its problem code.
pub(crate) fn reason(error: &Error) -> Value {
    json!({"code": error.code().row().0, "detail": error.detail()})
}
