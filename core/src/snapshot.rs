//! Snapshots: templates made of a sandbox, which goes on and is outlived by them.
//!
//! A snapshot of PVE, a clone of it, and that clone made a template. As with
//! sandboxes the clone carries the intent, and whoever asks next, or the
//! sweep, does the next missing thing.

mod advance;
pub mod keep;
mod request;
mod take;
pub(crate) mod version;

use std::{collections::BTreeMap, fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

pub(crate) use self::take::{free, no_vmid};
pub use self::{
    advance::{Advanced, advance},
    request::SnapshotRequest,
    take::take,
};
use crate::{
    auth::Caller,
    change::{Patch, etag, unchanged},
    commit::{self, Unwritten},
    edge::Edge,
    error::{Code, Error},
    inventory::{Guest, Inventory},
    io::Io,
    marks::{self, Mark, Phase, Reading, Role, Want, What},
    morph,
    place::may,
    preset::{PresetId, Provider, SnapshotId},
    pve::{PveError, config::Config},
    remove::destroy,
    sandbox::{SandboxId, SpelledId, stamp},
    template::admins_only,
};

/// What a sandbox can be made from: a preset's version, or a snapshot of a sandbox.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum SourceId {
    /// `pvelxc_4vcpu_6gb_32gb_v1`
    Preset(SnapshotId),
    /// `pvelxc-{vmid}-{nonce}-{node}`, as ids of sandboxes.
    Own(SpelledId),
    /// `snapshot_…`
    Morph(morph::Id),
}

impl SourceId {
    /// The preset's version, if it is one.
    pub fn preset(&self) -> Option<&SnapshotId> {
        match self {
            Self::Preset(id) => Some(id),
            _ => None,
        }
    }

    /// Whether it is one of Morph's.
    pub fn is_morph(&self) -> bool {
        match self {
            Self::Preset(id) => id.provider == Provider::Morph,
            Self::Own(_) => false,
            Self::Morph(_) => true,
        }
    }
}

impl fmt::Display for SourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Preset(id) => id.fmt(f),
            Self::Own(id) => id.fmt(f),
            Self::Morph(id) => id.fmt(f),
        }
    }
}

impl FromStr for SourceId {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match (text.parse(), morph::Id::snapshot(text)) {
            (Ok(own), _) => Ok(Self::Own(own)),
            (_, Some(id)) => Ok(Self::Morph(id)),
            _ => text.parse().map(Self::Preset),
        }
    }
}

impl TryFrom<String> for SourceId {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<SourceId> for String {
    fn from(id: SourceId) -> Self {
        id.to_string()
    }
}

/// How far a snapshot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// PVE copies.
    Pending,
    /// Sandboxes can be made from it.
    Ready,
    /// It cannot be finished; `problem` says why.
    Error,
}

/// A snapshot as the API shows it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// For `POST /api/sandboxes`.
    pub snapshot_id: String,
    /// How far it is.
    pub status: Status,
    /// The sandbox that it was taken from; not known of templates that an admin made.
    pub source_id: Option<String>,
    /// Of a preset's version.
    pub preset_id: Option<PresetId>,
    /// Of a preset's version.
    pub version: Option<u32>,
    /// What its owner calls it.
    pub name: Option<String>,
    /// Whose it is; presets are everybody's.
    pub team: Option<String>,
    /// The owner's.
    pub metadata: BTreeMap<String, String>,
    /// RFC 3339; not known of templates that an admin made.
    pub created_at: Option<String>,
    /// The template, of PVE.
    pub template_vmid: Option<crate::vmid::Vmid>,
    /// Why it is in status `error`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

impl Snapshot {
    fn unknown(caller: &Caller, id: &SandboxId) -> Self {
        Self {
            snapshot_id: id.to_string(),
            status: Status::Pending,
            source_id: None,
            preset_id: None,
            version: None,
            name: None,
            team: Some(caller.team.to_string()),
            metadata: BTreeMap::new(),
            created_at: Some(stamp(id.nonce.birth())),
            template_vmid: Some(id.vmid),
            problem: None,
        }
    }

    fn of(mark: &Mark, status: Status) -> Self {
        let preset = mark.snapshot.as_ref().and_then(SourceId::preset);
        Self {
            snapshot_id: SandboxId::of(mark).to_string(),
            status: if mark.phase == Phase::Error { Status::Error } else { status },
            source_id: mark.source.as_ref().map(ToString::to_string),
            preset_id: preset.map(|it| it.preset.clone()),
            version: preset.map(|it| it.version),
            name: mark.name.clone(),
            team: Some(mark.team.clone()),
            metadata: mark.metadata.clone(),
            created_at: Some(stamp(mark.birth())),
            template_vmid: Some(mark.vmid),
            problem: mark.problem.clone(),
        }
    }
}

/// The snapshots and presets that the caller can make sandboxes from, from one listing.
pub async fn list<I: Io>(edge: &Edge<'_, I>, caller: &Caller) -> Result<Vec<Snapshot>, Error> {
    let inventory = Inventory::read(edge).await?;
    inventory.believe(edge).await?;
    let mine = |guest: &Guest| {
        let mark = &guest.snapshot.as_ref()?.mark;
        let seen = may(caller, mark, &edge.settings.deployment) && mark.want != Want::Gone;
        // The listing's own flag is late, and may be another guest's of that VMID.
        let ready = !mark.is_doing(What::Template) && !guest.is_unoffered();
        let status = if ready { Status::Ready } else { Status::Pending };
        seen.then(|| Snapshot::of(mark, status))
    };
    let mut all: Vec<Snapshot> = inventory.guests.iter().filter_map(mine).collect();
    let mut presets = inventory.templates(edge.settings);
    // Another team's template is a preset as well.
    presets.retain(|it| it.own.as_ref().is_none_or(|mark| !may(caller, mark, &edge.settings.deployment)));
    all.extend(presets.into_iter().filter_map(|it| {
        let id = it.snapshot?;
        Some(Snapshot {
            snapshot_id: id.to_string(),
            status: Status::Ready,
            source_id: None,
            preset_id: Some(id.preset),
            version: Some(id.version),
            name: None,
            team: None,
            metadata: BTreeMap::new(),
            created_at: None,
            template_vmid: Some(it.vmid),
            problem: None,
        })
    }));
    Ok(all)
}

/// One snapshot; one that is still being made is carried on.
pub async fn get<I: Io>(
    edge: &Edge<'_, I>,
    caller: &Caller,
    id: &SandboxId,
    deadline: OffsetDateTime,
) -> Result<(Snapshot, Option<Mark>), Error> {
    let (node, config, mark) = match find(edge, caller, id).await {
        // PVE copies the first disk: nothing tells its name and metadata yet.
        Err(error) if error.code() == Code::StillCreating => {
            return Ok((Snapshot::unknown(caller, id), None));
        }
        found => found?,
    };
    let Advanced { mark, ready, .. } = advance(edge, &node, config, mark, deadline).await?;
    Ok((Snapshot::of(&mark, if ready { Status::Ready } else { Status::Pending }), Some(mark)))
}

/// Changes name and metadata, if the snapshot is still what `if_match` names.
pub async fn patch<I: Io>(
    edge: &Edge<'_, I>,
    caller: &Caller,
    id: &SandboxId,
    patch: &Patch,
    if_match: Option<&str>,
) -> Result<(Snapshot, Mark), Error> {
    patch.check_timeless(edge.settings)?;
    let mut last = Unwritten::default();
    for _ in 0..5 {
        let (node, config, mark) = find(edge, caller, id).await?;
        if mark.phase == Phase::Claimed {
            return Err(Error::new(Code::StillCreating, format!("{id} is still being made; ask again"))
                .retry_after(3));
        }
        let ready = config.template == Some(true);
        let apply = |mark: &mut Mark| patch.named(mark, if_match);
        match commit::write(edge, &node, &config, &mark, &apply).await? {
            Ok(mark) => {
                return Ok((Snapshot::of(&mark, if ready { Status::Ready } else { Status::Pending }), mark));
            }
            Err(unwritten) => last = unwritten,
        }
    }
    Err(last.told(id))
}

/// Deletes a snapshot; one that sandboxes are linked to is refused whole by PVE.
pub async fn remove<I: Io>(
    edge: &Edge<'_, I>,
    caller: &Caller,
    id: &SandboxId,
    if_match: Option<&str>,
    deadline: OffsetDateTime,
) -> Result<bool, Error> {
    let (node, config, mark) = find(edge, caller, id).await?;
    unchanged(if_match, &etag(&mark))?;
    if mark.base.is_some() || mark.snapshot.as_ref().is_some_and(|it| it.preset().is_some()) {
        admins_only(caller)?;
    }
    if let Some(lock) = &config.lock {
        return Err(crate::commit::locked(lock, &mark));
    }
    let task = match destroy(edge, &node, &config, &mark).await {
        Ok(task) => task,
        Err(error) if error.is_digest_mismatch() || error.is_protected() => {
            return Err(
                Error::new(Code::Conflict, format!("{id} is being changed; ask again")).retry_after(1)
            );
        }
        Err(error) if error.is_in_use() => {
            protect(edge, &node, &mark).await;
            return Err(in_use(&error));
        }
        Err(error) => return Err(error.into()),
    };
    // However short the caller waits: one that is in use is protected again.
    match crate::wait::wait(edge, &task, deadline.max(edge.deadline(REFUSED))).await {
        None => Ok(false),
        Some(Ok(())) => Ok(true),
        Some(Err(why)) if why.is_in_use() => {
            protect(edge, &node, &mark).await;
            Err(in_use(&why))
        }
        Some(Err(why)) => Err(why.problem(Code::TaskFailed, "PVE could not delete it")),
    }
}

/// Its protection was taken off to delete it, and it stays: a change of nothing puts it back.
async fn protect<I: Io>(edge: &Edge<'_, I>, node: &str, mark: &Mark) {
    let _ = commit::change(edge, node, mark.clone(), &|_| Ok(())).await;
}

/// For so long a VM's first disk may be copied.
const COPY_SECONDS: i64 = 3600;

/// By then PVE has said that a template is in use.
const REFUSED: Duration = Duration::from_secs(5);

fn in_use(why: &PveError) -> Error {
    let text = format!("{why}: delete the sandboxes that were made from it first; nothing was deleted");
    Error::new(Code::SnapshotInUse, text)
}

/// Finds a snapshot and proves that it is the caller's.
pub(crate) async fn find<I: Io>(
    edge: &Edge<'_, I>,
    caller: &Caller,
    id: &SandboxId,
) -> Result<(String, Config, Mark), Error> {
    let absent = || Error::new(Code::NotFound, format!("there is no snapshot {id}"));
    let mut node = id.node.clone();
    let mut config = None;
    if !node.is_empty() {
        config = edge.send(edge.pve.guest(&node, id.kind(), id.vmid).config()).await.ok();
    }
    if config.is_none() {
        let inventory = Inventory::read(edge).await?;
        // A guest of another kind of that number is a stranger.
        let guest = inventory.guest(id.vmid).filter(|it| it.kind == id.kind());
        let Some(guest) = guest else {
            inventory.believe(edge).await?;
            return Err(absent());
        };
        guest.row.node.clone_into(&mut node);
        config = Some(edge.send(edge.pve.guest(&node, id.kind(), id.vmid).config()).await?);
    }
    let config = config.ok_or_else(absent)?;
    let age = (edge.now() - id.nonce.birth()).whole_seconds();
    if config.is_unknown_yet() && (0..COPY_SECONDS).contains(&age) {
        let text = format!("PVE copies the disk of {id} and tells nothing else yet; ask again");
        return Err(Error::new(Code::StillCreating, text).retry_after(5));
    }
    match marks::read(id.vmid, config.tags.as_deref(), config.description.as_deref()) {
        Reading::Intent(mark) | Reading::Committed(mark)
            if mark.nonce == id.nonce
                && mark.role == Role::Template
                && mark.want != Want::Gone
                && may(caller, &mark, &edge.settings.deployment) =>
        {
            Ok((node, config, mark))
        }
        _ => Err(absent()),
    }
}
