//! A sandbox as the API shows it, and its id.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::Serialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    address::Viewers,
    marks::{Mark, OnExpiry, Phase, Want, What},
    nonce::Nonce,
    preset::Provider,
    pve::guest::Kind,
    settings::Settings,
    snapshot::SourceId,
    vmid::Vmid,
};

/// The id of a guest that this deployment made: `pvelxc-{vmid}-{nonce}-{node}`.
///
/// The nonce is there so that a reused VMID never answers to an old id, and proves that this
/// deployment gave the id out; the node of birth, so that most reads know where to look. A value
/// of this type comes from a guest's mark, or from [`SpelledId::prove`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SandboxId {
    /// Which kind of guest.
    pub provider: Provider,
    /// Which guest.
    pub vmid: Vmid,
    /// And no other of that VMID.
    pub nonce: Nonce,
    /// Where it was born; a hint, which the nonce does not prove.
    pub node: String,
}

impl SandboxId {
    /// The id of the sandbox that `mark` is about.
    pub fn of(mark: &Mark) -> Self {
        Self { provider: mark.kind.provider(), vmid: mark.vmid, nonce: mark.nonce, node: hint(&mark.node) }
    }

    /// What its guest is to PVE.
    pub fn kind(&self) -> Kind {
        if self.provider == Provider::PveVm { Kind::Qemu } else { Kind::Lxc }
    }
}

/// An id in the form of a [`SandboxId`], as somebody spelled it: it may be made up.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SpelledId(SandboxId);

impl SpelledId {
    /// The id, if this deployment gave it out under one of the secrets that `EDGE_SECRET` lists.
    /// A VMID outside today's ranges is still ours: it was given out before they were changed.
    pub fn prove(&self, settings: &Settings) -> Option<SandboxId> {
        let Self(id) = self;
        let key = id.nonce.proved_by(&settings.secrets, &settings.deployment, id.kind(), id.vmid);
        key.map(|_| id.clone())
    }
}

impl From<SandboxId> for SpelledId {
    fn from(id: SandboxId) -> Self {
        Self(id)
    }
}

/// As tags keep it: lower-case, and nothing when it is too long for them.
fn hint(node: &str) -> String {
    if node.len() > 24 { String::new() } else { node.to_ascii_lowercase() }
}

impl fmt::Display for SandboxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.provider.prefix(), self.vmid, self.nonce)?;
        if self.node.is_empty() { Ok(()) } else { write!(f, "-{}", self.node) }
    }
}

impl fmt::Display for SpelledId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for SpelledId {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const BAD: &str = "not a sandbox id";
        let mut parts = text.splitn(4, '-');
        let mut next = || parts.next().ok_or(BAD);
        let provider = Provider::from_prefix(next()?).filter(|it| *it != Provider::Morph).ok_or(BAD)?;
        let vmid = next()?.parse().map_err(|_| BAD)?;
        let nonce = next()?.parse().map_err(|_| BAD)?;
        let node = parts.next().unwrap_or_default();
        let is_name = node.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'-') && hint(node) == node;
        let id = SandboxId { provider, vmid, nonce, node: node.to_owned() };
        // One id, one spelling.
        if is_name && id.to_string() == text { Ok(Self(id)) } else { Err(BAD) }
    }
}

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

impl Sandbox {
    /// A sandbox from its mark; state and services as the caller knows them.
    pub fn new(mark: &Mark, node: &str, state: State, at: Addresses, now: OffsetDateTime) -> Self {
        let over = mark.is_expired(now);
        let expires = mark.expires_at().map(stamp);
        Self {
            id: SandboxId::of(mark).to_string(),
            provider: mark.kind.provider().name(),
            vmid: Some(mark.vmid),
            node: Some(node.to_owned()),
            name: mark.name.clone(),
            state,
            problem: mark.problem.clone(),
            state_may_be_stale: false,
            team: mark.team.clone(),
            metadata: mark.metadata.clone(),
            metadata_incomplete: false,
            created_at: stamp(mark.birth()),
            expired_at: expires.clone().filter(|_| over),
            expires_at: expires,
            kept_until: None,
            on_expiry: mark.on_expiry,
            cpu: None,
            memory: None,
            disk: None,
            snapshot_id: mark.snapshot.clone(),
            template_vmid: mark.template,
            services: served(mark.kind, at.services),
            viewers: at.viewers,
        }
    }
}

/// No exec daemon listens in a VM.
pub fn served(kind: Kind, mut services: Vec<Service>) -> Vec<Service> {
    services.retain(|it| kind == Kind::Lxc || it.name != "exec");
    services
}

/// What a committed guest's state is, from its mark and what PVE says of it.
pub fn state(mark: &Mark, running: bool, now: OffsetDateTime) -> State {
    if mark.phase == Phase::Error {
        return State::Error;
    }
    match (mark.want, running) {
        (Want::On, _) if mark.is_doing(What::Rollback) && !mark.is_expired(now) => State::Creating,
        (Want::Paused, false) => State::Paused,
        (Want::Off, false) => State::Stopped,
        (Want::On, false) if is_coming_up(mark, now) => State::Creating,
        // Past its expiry it is what the expiry shall make of it.
        (Want::Paused, _) if mark.is_expired(now) => State::Paused,
        (_, _) if mark.is_expired(now) && mark.on_expiry == OnExpiry::Pause => State::Paused,
        (_, _) if mark.is_expired(now) => State::Stopped,
        (Want::On, true) if is_coming_up(mark, now) => State::Creating,
        (Want::On, _) if never_came_up(mark) => State::Error,
        (_, true) => State::Running,
        (_, false) => State::Stopped,
    }
}

/// Whether it has never answered as a sandbox does that came up.
pub fn never_came_up(mark: &Mark) -> bool {
    matches!(mark.phase, Phase::Claimed | Phase::Committed) && !mark.was_ready
}

/// Whether nobody has seen it answer since it was to come up.
pub fn is_unproved(mark: &Mark, now: OffsetDateTime) -> bool {
    // What a rollback kills does not come up.
    mark.want == Want::On
        && matches!(mark.phase, Phase::Claimed | Phase::Committed)
        && !mark.is_doing(What::Rollback)
        && !mark.is_expired(now)
}

/// Whether somebody still has to bring it up: ten minutes after its creation
/// or its start, stopped is a state and not work to do.
pub fn is_coming_up(mark: &Mark, now: OffsetDateTime) -> bool {
    is_unproved(mark, now) && mark.settled_for(now) < FINISH_SECONDS
}

/// How long a creation or a start may take before nobody carries it on.
pub const FINISH_SECONDS: i64 = 600;

pub(crate) fn stamp(at: OffsetDateTime) -> String {
    at.format(&Rfc3339).unwrap_or_default()
}
