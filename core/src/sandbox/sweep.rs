//! Sweeps: what one did, or would do.

use serde::Serialize;

use super::vmid::Vmid;

/// One thing that a sweep did, or would do.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "contract", schemars(rename = "SweepAction"))]
pub struct Action {
    /// VMID of the guest; null: not of PVE.
    pub vmid: Option<Vmid>,
    /// Id of the sandbox, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "contract", schemars(with = "super::id::SandboxId"))]
    pub id: Option<String>,
    /// What was done, or would be.
    #[cfg_attr(feature = "contract", schemars(extend("enum" = ["condemn", "delete", "stop", "start", "pause", "finish", "report"])))]
    pub action: &'static str,
    /// Why, and what came of it.
    pub reason: String,
}

/// What a sweep did, or would do.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "contract", schemars(rename = "SweepReport"))]
pub struct Report {
    /// Whether it only looked.
    pub dry_run: bool,
    /// What it did.
    pub actions: Vec<Action>,
    /// Whether it stopped before it was through; the next one goes on.
    pub more: bool,
}
