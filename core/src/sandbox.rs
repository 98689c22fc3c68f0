//! Sandboxes, and the words that every provider and every surface of the API speaks about them. No I/O.

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
pub mod snapshot;
pub mod sweep;
pub mod template;
pub mod vmid;

use std::{collections::BTreeMap, str::FromStr};

use serde::{Deserialize, Serialize};

use self::{address::Viewers, id::SourceId, vmid::Vmid};

/// What a sandbox does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
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
pub struct Service {
    /// `vscode`, `exec`, …
    pub name: String,
    /// In the guest.
    pub port: u16,
    /// `null` when the address is not known without asking PVE.
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

/// A sandbox as the API shows it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Sandbox {
    /// See [`SandboxId`].
    pub id: String,
    /// `pve-lxc`
    pub provider: &'static str,
    /// The guest's VMID, of PVE.
    pub vmid: Option<Vmid>,
    /// Where it is now, of PVE.
    pub node: Option<String>,
    /// What its owner calls it.
    pub name: Option<String>,
    /// What it does.
    pub state: State,
    /// Why it is in state `error`, or has not come up yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Listings: the state may be 15 seconds old.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub state_may_be_stale: bool,
    /// Whose it is.
    pub team: String,
    /// The owner's.
    pub metadata: BTreeMap<String, String>,
    /// Listings: name or metadata did not fit the tags; `GET` shows them.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub metadata_incomplete: bool,
    /// RFC 3339.
    pub created_at: String,
    /// RFC 3339; `null` = never.
    pub expires_at: Option<String>,
    /// When its time was up, for one that is kept past it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expired_at: Option<String>,
    /// Until when it is kept while it is stopped or paused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept_until: Option<String>,
    /// What becomes of it then.
    pub on_expiry: OnExpiry,
    /// Cores; `null`: not known, or all of its node's.
    pub cpu: Option<u32>,
    /// MiB.
    pub memory: Option<u32>,
    /// GiB.
    pub disk: Option<u32>,
    /// The snapshot id that it was made from.
    pub snapshot_id: Option<SourceId>,
    /// The template that it was cloned from.
    pub template_vmid: Option<Vmid>,
    /// Where its services are.
    pub services: Vec<Service>,
    /// What to open of them; absent when no address is known.
    #[serde(skip_serializing_if = "Option::is_none")]
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

/// What becomes of a sandbox whose time is up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
