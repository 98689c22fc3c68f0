//! Reports of sweeps.

use serde::Serialize;

use super::vmid::Vmid;

/// Action of a sweep, which it did or would do.
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
    /// Name of the action.
    #[cfg_attr(feature = "contract", schemars(extend("enum" = ["condemn", "delete", "stop", "start", "pause", "finish", "report"])))]
    pub action: &'static str,
    /// Reason of the action, and its outcome.
    pub reason: String,
}

/// Report of a sweep.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "contract", schemars(rename = "SweepReport"))]
pub struct Report {
    /// Whether the sweep only looked, and did nothing.
    pub dry_run: bool,
    /// Actions that the sweep did, or would do.
    pub actions: Vec<Action>,
    /// Whether the sweep stopped before it was through; the next one goes on.
    pub more: bool,
}
