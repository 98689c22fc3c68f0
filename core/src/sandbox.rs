//! Sandboxes, and the types that every provider and every surface of the API shares: requests, answers, ids. No I/O.

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
pub mod channel;
pub mod command;
pub mod creation;
pub mod defaults;
pub mod environment;
pub mod fields;
pub mod file;
pub mod health;
pub mod id;
pub mod lifetime;
pub mod listing;
pub mod nonce;
pub mod offer;
pub mod patch;
pub mod place;
pub mod power;
pub mod preset;
pub mod process;
pub mod quota;
pub mod removal;
pub mod service;
pub mod snapshot;
pub mod sweep;
pub mod template;
pub mod terminal;
pub mod visit;
pub mod vmid;

use std::{collections::BTreeMap, str::FromStr};

use serde::{Deserialize, Serialize};

use self::{
    address::Viewers,
    channel::{Capability, Channel},
    id::SourceId,
    service::{HostHeader, Origin, Terms, Visibility},
    vmid::Vmid,
};

/// State of a sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// The sandbox is coming up.
    Creating,
    /// The sandbox runs.
    Running,
    /// The sandbox is paused: `keeps` in the answer to the pause said what is kept.
    Paused,
    /// The sandbox is stopped.
    Stopped,
    /// The sandbox cannot be used; `problem` says why.
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

/// Service of a sandbox.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Service {
    /// Name of the service: `vscode`, `exec`, …
    pub name: String,
    /// Port in the guest.
    pub port: u16,
    /// URL of the service; null when it is not known: in listings without a domain, and before the guest has an address.
    pub url: Option<String>,
    /// Whom the gateway lets in; absent in listings, and of Morph.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "contract", schemars(with = "Visibility"))]
    pub visibility: Option<Visibility>,
    /// Who may wake the stopped or paused sandbox by visiting it; absent: private.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "contract", schemars(with = "Visibility"))]
    pub wake: Option<Visibility>,
    /// The `Host` that the service is told; absent: public.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "contract", schemars(with = "HostHeader"))]
    pub host_header: Option<HostHeader>,
    /// Origins whose pages may use the service, beside those of the same sandbox.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow_origins: Vec<Origin>,
}

impl Service {
    /// A service of which only this is known.
    pub fn new(name: impl Into<String>, port: u16, url: Option<String>) -> Self {
        let (name, allow_origins) = (name.into(), Vec::new());
        Self { name, port, url, visibility: None, wake: None, host_header: None, allow_origins }
    }

    /// A service that is visited on these terms.
    pub fn on(terms: Terms, name: impl Into<String>, url: Option<String>) -> Self {
        let Terms { port, visibility, wake, host_header, allow_origins, .. } = terms;
        Self {
            visibility: Some(visibility),
            wake: Some(wake).filter(|it| *it != Visibility::default()),
            host_header: Some(host_header).filter(|it| *it != HostHeader::default()),
            allow_origins,
            ..Self::new(name, port, url)
        }
    }
}

/// Addresses by which a sandbox is reached.
#[derive(Clone, Debug, Default)]
pub struct Addresses {
    /// Services, by name.
    pub services: Vec<Service>,
    /// URLs to open; `None` when no address is known.
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
    /// Provider of the sandbox: `pve-lxc`, `pve-vm` or `morph`.
    #[cfg_attr(feature = "contract", schemars(with = "preset::ProviderName"))]
    pub provider: &'static str,
    /// VMID of the guest; null: not of PVE.
    pub vmid: Option<Vmid>,
    /// Node where the guest is now; null: not of PVE.
    pub node: Option<String>,
    /// Name that the owner has given to the sandbox; null: none.
    pub name: Option<String>,
    /// State of the sandbox.
    pub state: State,
    /// Reason of the state `error`, or the thing that a sandbox which is `creating` still waits for; also the answer of a
    /// proxy in PVE's place.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "contract", schemars(with = "String"))]
    pub problem: Option<String>,
    /// In listings: the state may be 15 seconds old.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[cfg_attr(feature = "contract", schemars(extend("const" = true)))]
    pub state_may_be_stale: bool,
    /// Team that owns the sandbox.
    pub team: String,
    /// Metadata that the owner has set.
    pub metadata: BTreeMap<String, String>,
    /// Name or metadata did not fit a listing, or are not known yet: GET the sandbox.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[cfg_attr(feature = "contract", schemars(extend("const" = true)))]
    pub metadata_incomplete: bool,
    /// Time when the sandbox was created.
    #[cfg_attr(feature = "contract", schemars(extend("format" = "date-time")))]
    pub created_at: String,
    /// Time when the sandbox expires; null: never.
    #[cfg_attr(feature = "contract", schemars(extend("format" = "date-time")))]
    pub expires_at: Option<String>,
    /// Time when the sandbox expired, if it is kept past that.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "contract", schemars(with = "String", extend("format" = "date-time")))]
    pub expired_at: Option<String>,
    /// Time when a stopped or paused sandbox of PVE is deleted, if nobody starts it; absent when it never expires.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "contract", schemars(with = "String", extend("format" = "date-time")))]
    pub kept_until: Option<String>,
    /// What happens to the sandbox when it expires.
    pub on_expiry: OnExpiry,
    /// Channel by which commands and files reach the sandbox; null: not known yet.
    pub commands: Option<Channel>,
    /// What can be had through that channel, beyond running a command and telling its output.
    pub capabilities: &'static [Capability],
    /// Number of cores; null: not known yet, or all of its node's.
    pub cpu: Option<u32>,
    /// Memory in MiB; null: not known yet.
    pub memory: Option<u32>,
    /// Disk in GiB; null: not known yet.
    pub disk: Option<u32>,
    /// Id of the snapshot or preset that the sandbox was made from; null: not known.
    pub snapshot_id: Option<SourceId>,
    /// VMID of the template that the sandbox was cloned from; null: not known, or not of PVE.
    pub template_vmid: Option<Vmid>,
    /// Services of the guest.
    pub services: Vec<Service>,
    /// URLs to open; absent when no address is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "contract", schemars(with = "Viewers"))]
    pub viewers: Option<Viewers>,
}

/// Seconds after which nobody carries a creation or a start on.
pub const FINISH_SECONDS: i64 = 600;

/// Sandbox with the ETag of what an answer shows of it.
#[derive(Clone, Debug)]
pub struct Shown {
    /// The sandbox.
    pub sandbox: Sandbox,
    /// ETag with its quotes; `None` while the sandbox has none yet.
    pub etag: Option<String>,
}

/// Outcome of a creation, as far as it has come.
#[derive(Clone, Debug)]
pub struct Created {
    /// Sandbox that was created.
    pub shown: Shown,
    /// Whether the sandbox can be used.
    pub ready: bool,
    /// Whether an earlier request with the same key has made the sandbox.
    pub replayed: bool,
}

/// Progress of a deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removed {
    /// The thing is deleted.
    Done,
    /// PVE still works on the deletion.
    Working,
}

impl Removed {
    /// The progress of a deletion whose thing is gone or not.
    pub fn when(is_gone: bool) -> Self {
        if is_gone { Self::Done } else { Self::Working }
    }
}

/// What happens to a running sandbox when it expires. A stopped or paused one is kept for a while, and then deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum OnExpiry {
    /// The sandbox is deleted.
    #[default]
    Delete,
    /// The sandbox is stopped, and deleted after `EDGE_STOPPED_MAX_SECONDS`.
    Stop,
    /// The sandbox is paused, and deleted after `EDGE_STOPPED_MAX_SECONDS`.
    Pause,
}

/// Sizes of a sandbox that were asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sizes {
    /// Number of cores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<u32>,
    /// Memory in MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<u32>,
    /// Disk in GiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<u32>,
}

impl Sizes {
    /// Whether no size was asked for.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
