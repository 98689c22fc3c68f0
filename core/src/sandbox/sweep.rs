//! Sweeps: what one did, or would do.

use serde::Serialize;

use super::vmid::Vmid;

/// One thing that a sweep did, or would do.
#[derive(Clone, Debug, Serialize)]
pub struct Action {
    /// Which guest, of PVE.
    pub vmid: Option<Vmid>,
    /// Which sandbox, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// `condemn`, `delete`, `stop`, `start`, `pause`, `finish`, `report`.
    pub action: &'static str,
    /// Why, and what came of it.
    pub reason: String,
}

/// What a sweep did.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Whether it only looked.
    pub dry_run: bool,
    /// What it did.
    pub actions: Vec<Action>,
    /// Whether it had to stop before it was through; the next one goes on.
    pub more: bool,
}
