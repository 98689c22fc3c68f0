//! Sandboxes, and the words that every provider and every surface of the API speaks about them. No I/O.

/// Gives a type whose JSON is one value its schema in the contract.
#[cfg(feature = "contract")]
macro_rules! schema {
    ($type:ident $schema:tt) => {
        schema!($type as stringify!($type), $schema);
    };
    ($type:ident as $name:expr, $schema:tt) => {
        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!($schema)
            }
        }
    };
}

pub mod address;
pub mod command;
pub mod creation;
pub mod environment;
pub mod fields;
pub mod health;
pub mod id;
pub mod lifetime;
pub mod listing;
pub mod nonce;
pub mod offer;
pub mod patch;
pub mod power;
pub mod preset;
pub mod quota;
pub mod removal;
pub mod snapshot;
pub mod sweep;
pub mod template;
pub mod vmid;

use std::{collections::BTreeMap, str::FromStr};

use serde::{Deserialize, Serialize};

use self::{address::Viewers, id::SourceId, vmid::Vmid};

/// What a sandbox does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It is coming up.
    Creating,
    /// It runs.
    Running,
    /// It is stopped, and its pause kept what the answer to it said.
    Paused,
    /// It is stopped.
    Stopped,
    /// It cannot be used; `problem` says why.
    Error,
}

impl FromStr for State {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "creating" => Self::Creating,
            "running" => Self::Running,
            "paused" => Self::Paused,
            "stopped" => Self::Stopped,
            "error" => Self::Error,
            _ => return Err("creating, running, paused, stopped or error"),
        })
    }
}

/// One service of a sandbox.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
pub struct Service {
    /// Name of the service: `vscode`, `exec`, …
    pub name: String,
    /// Port in the guest.
    pub port: u16,
    /// URL of the service; null when it is not known: in listings without a domain, and before the guest has an address.
    pub url: Option<String>,
}

/// Where a sandbox is reached.
#[derive(Clone, Debug, Default)]
pub struct Addresses {
    /// By name.
    pub services: Vec<Service>,
    /// What to open of them.
    pub viewers: Option<Viewers>,
}

/// A sandbox: a machine with an expiry.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Sandbox {
    /// Id of the sandbox.
    #[cfg_attr(feature = "contract", schemars(with = "id::SandboxId"))]
    pub id: String,
    /// What the sandbox is made of.
    #[cfg_attr(feature = "contract", schemars(with = "preset::ProviderName"))]
    pub provider: &'static str,
    /// VMID of the guest; null: not of PVE.
    pub vmid: Option<Vmid>,
    /// Node where the guest is now; null: not of PVE.
    pub node: Option<String>,
    /// The owner's name for it.
    pub name: Option<String>,
    /// What it does.
    pub state: State,
    /// Why its state is `error`, or what it is still waiting for while it is `creating`; what a proxy answered in
    /// PVE's place, too.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "contract", schemars(with = "String"))]
    pub problem: Option<String>,
    /// In listings: the state may be 15 seconds old.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[cfg_attr(feature = "contract", schemars(extend("const" = true)))]
    pub state_may_be_stale: bool,
    /// Team that owns the sandbox.
    pub team: String,
    /// The owner's metadata.
    pub metadata: BTreeMap<String, String>,
    /// Name or metadata did not fit a listing, or are not known yet: GET the sandbox.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[cfg_attr(feature = "contract", schemars(extend("const" = true)))]
    pub metadata_incomplete: bool,
    /// When the sandbox was created.
    #[cfg_attr(feature = "contract", schemars(extend("format" = "date-time")))]
    pub created_at: String,
    /// When its time is up; null = never.
    #[cfg_attr(feature = "contract", schemars(extend("format" = "date-time")))]
    pub expires_at: Option<String>,
    /// When its time was up, of a sandbox that is kept past it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "contract", schemars(with = "String", extend("format" = "date-time")))]
    pub expired_at: Option<String>,
    /// Of PVE, of a sandbox that is stopped or paused and would expire: when it is deleted if nobody starts it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "contract", schemars(with = "String", extend("format" = "date-time")))]
    pub kept_until: Option<String>,
    /// What becomes of it when its time is up.
    pub on_expiry: OnExpiry,
    /// Cores; null: not known yet, or all of its node's.
    pub cpu: Option<u32>,
    /// MiB; null: not known yet.
    pub memory: Option<u32>,
    /// GiB; null: not known yet.
    pub disk: Option<u32>,
    /// Snapshot that it was made from.
    pub snapshot_id: Option<SourceId>,
    /// VMID of the template that it was cloned from.
    pub template_vmid: Option<Vmid>,
    /// Services of the guest.
    pub services: Vec<Service>,
    /// URLs to open; absent when no address is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "contract", schemars(with = "Viewers"))]
    pub viewers: Option<Viewers>,
}

/// How long a creation or a start may take before nobody carries it on.
pub const FINISH_SECONDS: i64 = 600;

/// A sandbox, and the ETag of what is shown of it, where it has one yet.
#[derive(Clone, Debug)]
pub struct Shown {
    /// The sandbox.
    pub sandbox: Sandbox,
    /// The ETag, with its quotes.
    pub etag: Option<String>,
}

/// A sandbox that was asked for, as far as it has come.
#[derive(Clone, Debug)]
pub struct Created {
    /// The sandbox.
    pub shown: Shown,
    /// Whether it can be used.
    pub ready: bool,
    /// Whether an earlier request with the same key made it.
    pub replayed: bool,
}

/// How far a deletion has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removed {
    /// It is gone.
    Done,
    /// PVE still works on it.
    Working,
}

impl Removed {
    /// Done when `is_gone`.
    pub fn when(is_gone: bool) -> Self {
        if is_gone { Self::Done } else { Self::Working }
    }
}

/// What becomes of a sandbox when its time is up while it runs; one that is stopped or paused is kept for a while and
/// then deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum OnExpiry {
    /// It is deleted.
    #[default]
    Delete,
    /// It is stopped, and deleted after `EDGE_STOPPED_MAX_SECONDS`.
    Stop,
    /// It is paused, and deleted after `EDGE_STOPPED_MAX_SECONDS`.
    Pause,
}

/// Sizes that were asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sizes {
    /// Cores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<u32>,
    /// MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<u32>,
    /// GiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<u32>,
}

impl Sizes {
    /// Whether none was asked for.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
