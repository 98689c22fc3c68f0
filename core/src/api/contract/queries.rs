//! Parameters of queries that operations have to themselves.

use serde_json::{Value, json};

use super::schemas::Schemas;
use crate::sandbox::State;

/// Of an installation.
pub(super) fn arch_to_install() -> Value {
    json!({
        "name": "arch",
        "in": "query",
        "description": "A script with the program for this processor in it, for a guest that does not reach this API",
        "schema": arch(),
    })
}

/// Of a tunnel.
pub(super) fn vpc() -> Value {
    json!({
        "name": "vpc",
        "in": "query",
        "description": "Whether the way in is a VPC service; where it is not given, the record says so",
        "schema": {"type": "boolean"},
    })
}

/// Of a tunnel's deletion.
pub(super) fn force() -> Value {
    json!({
        "name": "force",
        "in": "query",
        "description": "End the connections of a cloudflared first",
        "schema": {"type": "boolean", "default": false},
    })
}

/// The processors for which there are programs.
pub(super) fn arch() -> Value {
    json!({"type": "string", "enum": ["x86_64", "aarch64"]})
}

/// Of a list of sandboxes.
pub(super) fn of_lists(schemas: &mut Schemas) -> Vec<Value> {
    vec![
        json!({
            "name": "state",
            "in": "query",
            "description": "Only those in this state",
            "schema": schemas.written::<State>(),
        }),
        json!({
            "name": "limit",
            "in": "query",
            "description": "Length of a page",
            "schema": {"type": "integer", "minimum": 1, "maximum": 5000, "default": 100},
        }),
        json!({
            "name": "cursor",
            "in": "query",
            "description": "`nextCursor` of the page before",
            "schema": {"type": "string", "pattern": "^([1-9][0-9]{2,8}|morphvm_[0-9A-Za-z_-]{1,64})$"},
            "example": "200017",
        }),
        json!({
            "name": "metadata",
            "in": "query",
            "description": "Entries, each as `KEY=VALUE`: only those whose metadata has all of them. \
                `metadata.KEY=VALUE` is the same, and the spelling for a KEY with `=` in it",
            "schema": {"type": "array", "uniqueItems": true, "items": {"type": "string", "pattern": "="}},
            "example": ["task=1234", "step=2"],
        }),
    ]
}
