//! Health: whether sandboxes can be made, and what is wrong if they cannot.

use serde::Serialize;

use super::{
    preset::{ProviderName, SnapshotId},
    vmid::Vmid,
};
use crate::error::Error;

/// What `GET /api/health/sandbox` tells. Members that a provider does not have, or that could not be read, are absent.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "contract", schemars(rename = "Health"))]
pub struct Report {
    /// What was tried. Writes are checked by one that PVE must refuse, on a sandbox; without any sandbox only reads
    /// are.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub checked: Vec<Checked>,
    /// Seconds by which PVE's clock is ahead of the deployment's; null = its answers have no Date.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock_skew_seconds: Option<Option<i64>>,
    /// What is used where a setting is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "contract", schemars(with = "Defaults"))]
    pub detected: Option<Defaults>,
    /// How the exec token gets into a sandbox.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "contract", schemars(with = "ExecToken"))]
    pub exec_token: Option<ExecToken>,
    /// Milliseconds that the provider took to answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "contract", schemars(with = "i64"))]
    pub latency_ms: Option<i64>,
    /// The cluster's nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "contract", schemars(with = "Vec<Node>"))]
    pub nodes: Option<Vec<Node>>,
    /// What each secret of `EDGE_SECRET` behind the first still proves; one that proves nothing may be removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "contract", schemars(with = "Vec<OlderSecret>"))]
    pub older_secrets: Option<Vec<OlderSecret>>,
    /// What PVE or Morph cannot be reached from.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "contract", schemars(with = "String"))]
    pub platform: Option<&'static str>,
    /// What sandboxes are made of.
    #[cfg_attr(feature = "contract", schemars(with = "ProviderName"))]
    pub provider: &'static str,
    /// Whether the provider answers.
    pub reachable: bool,
    /// Why sandboxes cannot be made, and how to fix it.
    pub reasons: Vec<Finding>,
    /// Whether sandboxes can be made.
    pub status: Health,
    /// The cluster's storages.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "contract", schemars(with = "Vec<NodeStorage>"))]
    pub storages: Option<Vec<NodeStorage>>,
    /// Templates that sandboxes are made from.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "contract", schemars(with = "Vec<Offered>"))]
    pub templates: Option<Vec<Offered>>,
    /// Guests in `PVE_VMID_RANGE` that are nobody's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "contract", schemars(with = "usize"))]
    pub unmarked_guests_in_range: Option<usize>,
    /// PVE's version.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "contract", schemars(with = "String"))]
    pub version: Option<String>,
    /// What should be known, though sandboxes can be made.
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

/// Whether sandboxes can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "contract", schemars(rename = "HealthStatus"))]
pub enum Health {
    /// They can.
    Healthy,
    /// They cannot; `reasons` says why.
    Unhealthy,
}

/// A kind of request that health has tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Checked {
    /// Requests that read.
    Reads,
    /// Requests that write.
    Writes,
}

/// How the exec token gets into a sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum ExecToken {
    /// By the container's `env` option, of PVE 9.1 and later.
    Env,
    /// By the guest's notes, which a hookscript reads.
    Notes,
}

/// Something that health has found, and how to fix it.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
pub struct Finding {
    /// Kind of the problem.
    #[cfg_attr(feature = "contract", schemars(with = "crate::error::Code"))]
    pub code: &'static str,
    /// What is wrong, and how to fix it.
    pub detail: String,
}

impl Finding {
    /// The finding that an error is.
    pub(crate) fn of(error: &Error) -> Self {
        Self { code: error.code().row().0, detail: error.detail().to_owned() }
    }
}

/// What is used where a setting is missing.
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
    /// Domain in which the sandboxes' hosts are looked for.
    pub search_domain: Detected,
    /// Storage of the next sandbox's disk.
    pub storage: Detected,
}

/// A value that is used, and where it is from.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
pub struct Detected {
    /// The name of its setting, or what tells it.
    pub from: &'static str,
    /// The value; null: not looked for, or not found.
    pub value: Option<String>,
}

/// A node of the cluster.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Node {
    /// Free memory; null without Sys.Audit.
    pub free_memory_bytes: Option<u64>,
    /// Name of the node.
    pub node: String,
    /// Whether it is online, in PVE's word.
    pub status: String,
}

/// A storage of a node.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct NodeStorage {
    /// Free space.
    pub free_bytes: u64,
    /// Whether it makes linked clones of the provider's guests; null = unknown.
    pub linked_clones: Option<bool>,
    /// Name of the node.
    pub node: String,
    /// Whether all nodes see the same.
    pub shared: Option<bool>,
    /// Name of the storage.
    pub storage: Option<String>,
    /// PVE's type of storage.
    #[serde(rename = "type")]
    pub kind: Option<String>,
}

/// A template that sandboxes are made from.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema), schemars(rename = "OfferedTemplate"))]
#[serde(rename_all = "camelCase")]
pub struct Offered {
    /// PVE's lock, while somebody clones it.
    pub lock: Option<String>,
    /// Node of the template; null: not of PVE.
    pub node: Option<String>,
    /// The version of a preset that it is.
    pub snapshot_id: Option<SnapshotId>,
    /// VMID of the template; null: not of PVE.
    pub vmid: Option<Vmid>,
}

/// What an older secret still proves.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct OlderSecret {
    /// Sandboxes whose ids it proves.
    pub sandboxes: usize,
    /// The secret's name in the notes: 4 hexadecimal digits of its hash.
    pub secret: String,
    /// Snapshots whose ids it proves, with the templates that the API made.
    pub snapshots: usize,
}
