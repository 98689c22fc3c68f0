//! Snapshots of Morph: of a sandbox that runs on, with its memory. They belong
//! to a team, and those that are versions of a preset are offered to everybody.

use std::time::Duration;

use serde_json::{Value, json};
use time::OffsetDateTime;

use super::{
    Cloud,
    change::changeable,
    exec::not_running,
    instance::{Status, number},
    record::{Record, refuse_reserved},
    refusal::bad_answer,
};
use crate::{
    access::keys::Caller,
    error::{Code, Error},
    io::{Io, deadline::Deadline},
    sandbox::{
        id::MorphId,
        patch::{Patch, hashed, unchanged},
        preset::{PresetId, ProviderName, SnapshotId},
        snapshot::{ShownSnapshot, Snapshot, SnapshotRequest, Status as Stage},
    },
    text::rfc3339::stamp,
};

/// A snapshot, read a moment ago.
#[derive(Clone, Debug)]
pub struct Saved {
    /// Its id.
    pub id: MorphId,
    created: i64,
    status: Stage,
    /// Cores.
    pub vcpus: i64,
    /// MiB.
    pub memory: i64,
    /// MiB.
    pub disk: i64,
    /// What is kept in its metadata.
    pub record: Record,
}

impl Saved {
    /// Reads one; an error when it lacks what every snapshot has.
    pub fn read(value: &Value) -> Result<Self, Error> {
        let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str);
        let count = |pointer: &str| value.pointer(pointer).and_then(number);
        Ok(Self {
            id: text("/id").and_then(MorphId::snapshot).ok_or_else(|| bad_answer("snapshot id"))?,
            created: count("/created").ok_or_else(|| bad_answer("time of creation"))?,
            status: match text("/status") {
                Some("ready") => Stage::Ready,
                Some("failed" | "deleting" | "deleted") => Stage::Error,
                _ => Stage::Pending,
            },
            vcpus: count("/spec/vcpus").unwrap_or(1),
            memory: count("/spec/memory").unwrap_or(0),
            disk: count("/spec/disk_size").unwrap_or(0),
            record: Record::of(value),
        })
    }

    /// Whether sandboxes can be made from it.
    pub fn is_ready(&self) -> bool {
        self.status == Stage::Ready
    }

    /// Whether it never will be.
    pub fn is_failed(&self) -> bool {
        self.status == Stage::Error
    }

    /// Whether it is a version of a preset of this deployment.
    pub fn is_offered(&self, deployment: &str) -> bool {
        self.record.get("deployment") == Some(deployment) && self.record.preset().is_some()
    }

    fn shown(&self, id: String, team: Option<String>) -> Snapshot {
        let preset = self.record.preset();
        let created = OffsetDateTime::from_unix_timestamp(self.created).ok();
        Snapshot {
            snapshot_id: id,
            status: self.status,
            source_id: self.record.get("of").filter(|_| team.is_some()).map(str::to_owned),
            preset_id: preset.as_ref().map(|it| it.preset.clone()),
            version: preset.map(|it| it.version),
            name: self.record.get("name").filter(|_| team.is_some()).map(str::to_owned),
            metadata: if team.is_some() { self.record.metadata() } else { Default::default() },
            team,
            created_at: created.map(stamp),
            template_vmid: None,
            problem: self.is_failed().then(|| "Morph could not make it".to_owned()),
        }
    }

    fn own(&self) -> Snapshot {
        self.shown(self.id.to_string(), self.record.get("team").map(str::to_owned))
    }
}

/// All snapshots of this deployment whose metadata has these of ours too.
pub(super) async fn saved<I: Io>(
    cloud: &Cloud<'_, I>,
    filters: &[(&str, &str)],
) -> Result<Vec<Saved>, Error> {
    let mut all = vec![("deployment", cloud.settings.deployment.as_str())];
    all.extend(filters);
    let value = cloud.send(cloud.morph.snapshots(&all)).await?;
    let rows = value.get("data").and_then(Value::as_array).ok_or_else(|| bad_answer("list"))?;
    let mut found = Vec::new();
    for row in rows {
        // As of instances.
        let record = Record::of(row);
        if all.iter().all(|(name, value)| record.get(name) == Some(value)) {
            found.push(Saved::read(row)?);
        }
    }
    Ok(found)
}

/// The versions of presets, sorted. Of two that were made at once the older one is the version.
pub(super) fn presets(all: Vec<Saved>) -> Vec<(SnapshotId, Saved)> {
    let offered = all.into_iter().filter(|it| !it.is_failed());
    let mut found: Vec<_> = offered.filter_map(|it| Some((it.record.preset()?, it))).collect();
    found.sort_unstable_by(|(a, one), (b, other)| {
        (a, one.created, &one.id).cmp(&(b, other.created, &other.id))
    });
    found.dedup_by(|(later, _), (earlier, _)| later == earlier);
    found
}

/// The team's snapshots and all presets, from one listing.
pub async fn list<I: Io>(cloud: &Cloud<'_, I>, caller: &Caller) -> Result<Vec<Snapshot>, Error> {
    let all = saved(cloud, &[]).await?;
    let mine = |it: &Saved| it.record.may(caller, &cloud.settings.deployment);
    let mut items: Vec<Snapshot> = all.iter().filter(|it| mine(it)).map(Saved::own).collect();
    let others = presets(all).into_iter().filter(|(_, it)| !mine(it));
    items.extend(others.map(|(id, it)| it.shown(id.to_string(), None)));
    Ok(items)
}

/// One of the caller's, and its ETag; one that is being made is waited for.
pub async fn get<I: Io>(
    cloud: &Cloud<'_, I>,
    caller: &Caller,
    id: &MorphId,
    deadline: Deadline<'_, I>,
) -> Result<ShownSnapshot, Error> {
    let found = find(cloud, caller, id).await?;
    let found = waited(cloud, found, deadline).await;
    Ok(ShownSnapshot { snapshot: found.own(), etag: Some(etag(&found)) })
}

/// Changes name and metadata. Of two changes at once the later one wins.
pub async fn patch<I: Io>(
    cloud: &Cloud<'_, I>,
    caller: &Caller,
    id: &MorphId,
    patch: &Patch,
    if_match: Option<&str>,
) -> Result<ShownSnapshot, Error> {
    patch.check_timeless()?;
    refuse_reserved(patch.keys())?;
    let mut found = find(cloud, caller, id).await?;
    unchanged(if_match, &etag(&found))?;
    let (mut name, mut metadata) = (found.record.get("name").map(str::to_owned), found.record.metadata());
    patch.apply(&mut name, &mut metadata)?;
    found.record.set("name", name);
    found.record.set_metadata(metadata);
    cloud.send(cloud.morph.set_snapshot_metadata(id, &found.record)).await?;
    Ok(ShownSnapshot { snapshot: found.own(), etag: Some(etag(&found)) })
}

/// Deletes one of the caller's.
pub async fn remove<I: Io>(
    cloud: &Cloud<'_, I>,
    caller: &Caller,
    id: &MorphId,
    if_match: Option<&str>,
) -> Result<(), Error> {
    let found = find(cloud, caller, id).await?;
    unchanged(if_match, &etag(&found))?;
    match cloud.send(cloud.morph.remove_snapshot(id)).await {
        Err(error) if error.is_missing() => Ok(()),
        Err(error) if error.is_conflict() => {
            let text = format!("{error}: delete what was made from it first; nothing was deleted");
            Err(Error::new(Code::SnapshotInUse, text))
        }
        Err(error) => Err(error.into()),
        Ok(_) => Ok(()),
    }
}

/// Takes one; the sandbox runs on. Morph's call makes another one each time: it
/// is sent once, and looked for by its nonce where it was not answered.
pub async fn take<I: Io>(
    cloud: &Cloud<'_, I>,
    caller: &Caller,
    id: &MorphId,
    request: &SnapshotRequest,
    deadline: Deadline<'_, I>,
) -> Result<Snapshot, Error> {
    request.check()?;
    refuse_reserved(request.metadata.keys())?;
    request.may_promote(caller)?;
    if request.keep {
        let text =
            "Morph keeps no snapshots on a sandbox: take one without keep, and make another sandbox from it";
        return Err(Error::new(Code::Unsupported, text));
    }
    let instance = changeable(cloud, caller, id).await?;
    super::read::gone(&instance, cloud.now())?;
    if instance.status != Status::Ready {
        return Err(not_running(&instance));
    }
    let preset = match &request.promote {
        None => None,
        Some(promote) => Some(next_version(&presets(saved(cloud, &[]).await?), &promote.preset)),
    };
    let record = record(cloud, caller, id, request, preset);
    let lost = match cloud.send(cloud.morph.take_snapshot(id, &record)).await {
        Ok(value) => match Saved::read(&value) {
            Ok(made) if made.record.get("nonce") == record.get("nonce") => {
                return Ok(waited(cloud, made, deadline).await.own());
            }
            Ok(_) => bad_answer("metadata of ours"),
            Err(error) => error,
        },
        Err(error) if error.is_missing() => return Err(crate::sandbox::id::not_found(id)),
        Err(error) if error.may_be_executed() => error.into(),
        Err(error) => return Err(error.into()),
    };
    loop {
        let nonce = record.get("nonce").unwrap_or_default();
        let found = saved(cloud, &[("nonce", nonce)]).await.ok().and_then(|it| it.into_iter().next());
        if let Some(made) = found {
            return Ok(waited(cloud, made, deadline).await.own());
        }
        if deadline.keeping(4).is_over() {
            let text = format!(
                "{}; it may be taken all the same: look for it before you take another",
                lost.detail()
            );
            return Err(Error::new(lost.code(), text));
        }
        deadline.pause(Duration::from_secs(2)).await;
    }
}

fn next_version(known: &[(SnapshotId, Saved)], preset: &PresetId) -> SnapshotId {
    let versions = known.iter().filter(|(id, _)| id.preset == *preset).map(|(id, _)| id.version);
    let version = versions.max().unwrap_or(0).saturating_add(1);
    SnapshotId { provider: ProviderName::Morph, preset: preset.clone(), version }
}

fn record<I: Io>(
    cloud: &Cloud<'_, I>,
    caller: &Caller,
    id: &MorphId,
    request: &SnapshotRequest,
    preset: Option<SnapshotId>,
) -> Record {
    let mut record = Record::new(cloud, caller, request.metadata.clone());
    record.set("name", request.name.clone());
    record.set("of", Some(id.to_string()));
    record.set("preset", preset.map(|it| it.to_string()));
    record
}

/// Until it is made or `deadline` has passed.
async fn waited<I: Io>(cloud: &Cloud<'_, I>, mut found: Saved, deadline: Deadline<'_, I>) -> Saved {
    let mut pause = Duration::from_millis(500);
    while found.status == Stage::Pending && !deadline.keeping(1).is_over() {
        deadline.pause(pause).await;
        pause = (pause * 3 / 2).min(Duration::from_secs(3));
        // It is made, however often a look at it fails.
        let looked = cloud.send(cloud.morph.snapshot(&found.id)).await;
        if let Some(now) = looked.ok().and_then(|it| Saved::read(&it).ok()) {
            found = now;
        }
    }
    found
}

async fn find<I: Io>(cloud: &Cloud<'_, I>, caller: &Caller, id: &MorphId) -> Result<Saved, Error> {
    let absent = || Error::new(Code::NotFound, format!("there is no snapshot {id}"));
    match cloud.send(cloud.morph.snapshot(id)).await {
        Ok(value) => {
            let found = Saved::read(&value)?;
            let mine = found.id == *id && found.record.may(caller, &cloud.settings.deployment);
            if mine { Ok(found) } else { Err(absent()) }
        }
        Err(error) if error.is_nobodys() => Err(absent()),
        Err(error) => Err(error.into()),
    }
}

fn etag(found: &Saved) -> String {
    hashed(&json!(found.record.json()).to_string())
}
