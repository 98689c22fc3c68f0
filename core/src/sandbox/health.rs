//! Health reports: whether sandboxes can be made, and what is wrong if they cannot.

use serde::Serialize;

use super::{
    preset::{ProviderName, SnapshotId},
    vmid::Vmid,
};
use crate::error::Error;

/// Report of a deployment's health. A member is absent where the provider has no such thing, or it could not be read.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "contract", schemars(rename = "Health"))]
pub struct Report {
    /// Kinds of requests that were tried. Writes are tried on a sandbox, by a request that PVE must refuse; without any
    /// sandbox they are not tried.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub checked: Vec<Checked>,
    /// Seconds that PVE's clock is ahead of the deployment's; null: PVE's answers have no `Date`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock_skew_seconds: Option<Option<i64>>,
    /// Values that are used where a setting is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "contract", schemars(with = "Defaults"))]
    pub detected: Option<Defaults>,
    /// Way by which the exec token gets into a sandbox.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "contract", schemars(with = "ExecToken"))]
    pub exec_token: Option<ExecToken>,
    /// Milliseconds that the provider took to answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "contract", schemars(with = "i64"))]
    pub latency_ms: Option<i64>,
    /// Nodes of the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "contract", schemars(with = "Vec<Node>"))]
    pub nodes: Option<Vec<Node>>,
    /// Secrets of `EDGE_SECRET` after the first, with the number of ids that each still proves; a secret that proves none
    /// may be removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "contract", schemars(with = "Vec<OlderSecret>"))]
    pub older_secrets: Option<Vec<OlderSecret>>,
    /// Platform of the deployment, from which the provider cannot be reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "contract", schemars(with = "String"))]
    pub platform: Option<&'static str>,
    /// Provider of the sandboxes: `pve-lxc`, `pve-vm` or `morph`.
    #[cfg_attr(feature = "contract", schemars(with = "ProviderName"))]
    pub provider: &'static str,
    /// Whether the provider answers.
    pub reachable: bool,
    /// Findings because of which sandboxes cannot be made.
    pub reasons: Vec<Finding>,
    /// Whether sandboxes can be made.
    pub status: Health,
    /// Storages of the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "contract", schemars(with = "Vec<NodeStorage>"))]
    pub storages: Option<Vec<NodeStorage>>,
    /// Templates that sandboxes are made from.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "contract", schemars(with = "Vec<Offered>"))]
    pub templates: Option<Vec<Offered>>,
    /// Number of guests in `PVE_VMID_RANGE` that pve-edge has not made.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "contract", schemars(with = "usize"))]
    pub unmarked_guests_in_range: Option<usize>,
    /// Version of PVE.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "contract", schemars(with = "String"))]
    pub version: Option<String>,
    /// Findings that an admin should know, although sandboxes can be made.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "contract", schemars(with = "Vec<Finding>"))]
    pub warnings: Option<Vec<Finding>>,
}

impl Report {
    /// A report that says no more than these reasons why sandboxes cannot be made.
    pub(crate) fn new(provider: ProviderName, reachable: bool, reasons: Vec<Finding>) -> Self {
        Self {
            checked: Vec::new(),
            clock_skew_seconds: None,
            detected: None,
            exec_token: None,
            latency_ms: None,
            nodes: None,
            older_secrets: None,
            platform: None,
            provider: provider.name(),
            reachable,
            status: if reasons.is_empty() { Health::Healthy } else { Health::Unhealthy },
            reasons,
            storages: None,
            templates: None,
            unmarked_guests_in_range: None,
            version: None,
            warnings: None,
        }
    }

    /// A report after an error of the provider, which `platform` may not reach.
    pub(crate) fn failed(
        provider: ProviderName,
        reachable: bool,
        platform: &'static str,
        error: &Error,
    ) -> Self {
        Self { platform: Some(platform), ..Self::new(provider, reachable, vec![Finding::of(error)]) }
    }

    /// Whether sandboxes can be made.
    pub fn is_healthy(&self) -> bool {
        self.status == Health::Healthy
    }
}

/// Status of a deployment's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "contract", schemars(rename = "HealthStatus"))]
pub enum Health {
    /// Sandboxes can be made.
    Healthy,
    /// Sandboxes cannot be made; `reasons` says why.
    Unhealthy,
}

/// Kind of requests that the report has tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Checked {
    /// Requests that read.
    Reads,
    /// Requests that write.
    Writes,
}

/// Way by which the exec token gets into a sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum ExecToken {
    /// By the container's `env` option, of PVE 9.1 and later.
    Env,
    /// By the guest's notes, which a hookscript reads.
    Notes,
}

/// Finding of a health report, and how to fix it.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
pub struct Finding {
    /// Kind of the problem.
    #[cfg_attr(feature = "contract", schemars(with = "crate::error::Code"))]
    pub code: &'static str,
    /// Sentence that says what is wrong and how to fix it.
    pub detail: String,
}

impl Finding {
    /// The finding that an error is.
    pub(crate) fn of(error: &Error) -> Self {
        Self { code: error.code().row().0, detail: error.detail().to_owned() }
    }
}

/// Values that are used where a setting is missing.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Defaults {
    /// Bridge of network cards.
    pub bridge: Detected,
    /// Gateway of the pool's network.
    pub gateway: Detected,
    /// Node of the next sandbox.
    pub node: Detected,
    /// Domain in which the network's DNS knows the sandboxes.
    pub search_domain: Detected,
    /// Storage of the next sandbox's disk.
    pub storage: Detected,
}

/// Value that is used, and its origin.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
pub struct Detected {
    /// Name of the setting that gives the value, or the thing of PVE that tells it.
    pub from: &'static str,
    /// Value; null: not looked for, or not found.
    pub value: Option<String>,
}

/// Node of the cluster.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Node {
    /// Free memory in bytes; null: the token lacks Sys.Audit.
    pub free_memory_bytes: Option<u64>,
    /// Name of the node.
    pub node: String,
    /// Status of the node in PVE's word: `online`, `offline` or `unknown`.
    pub status: String,
}

/// Storage of a node.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct NodeStorage {
    /// Free space in bytes.
    pub free_bytes: u64,
    /// Whether the storage makes linked clones of the provider's guests; null: unknown.
    pub linked_clones: Option<bool>,
    /// Name of the node.
    pub node: String,
    /// Whether the nodes share the storage.
    pub shared: Option<bool>,
    /// Name of the storage.
    pub storage: Option<String>,
    /// Type of the storage in PVE's word, such as `zfspool`.
    #[serde(rename = "type")]
    pub kind: Option<String>,
}

/// Template that sandboxes are made from.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema), schemars(rename = "OfferedTemplate"))]
#[serde(rename_all = "camelCase")]
pub struct Offered {
    /// PVE's lock of the template; null: not locked.
    pub lock: Option<String>,
    /// Node of the template; null: not of PVE.
    pub node: Option<String>,
    /// Id of the preset's version that the template is; null: of none.
    pub snapshot_id: Option<SnapshotId>,
    /// VMID of the template; null: not of PVE.
    pub vmid: Option<Vmid>,
}

/// Secret of `EDGE_SECRET` after the first, and the ids that it still proves.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct OlderSecret {
    /// Number of sandboxes whose ids the secret proves.
    pub sandboxes: usize,
    /// Name of the secret in the guests' notes: 4 hexadecimal digits of its hash.
    pub secret: String,
    /// Number of snapshots and templates whose ids the secret proves.
    pub snapshots: usize,
}
