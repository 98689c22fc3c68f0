//! Snapshots of Morph: taken of a sandbox that runs on, with its memory. A snapshot belongs to a team; a snapshot that
//! is a version of a preset is offered to everybody.

use std::time::Duration;

use serde_json::{Value, json};
use time::OffsetDateTime;

use super::{
    Cloud,
    change::find_changeable,
    exec::not_running,
    instance::{Status, read_integer},
    record::{Record, refuse_reserved},
    refusal::bad_answer,
};
use crate::{
    access::keys::Caller,
    error::{Code, Error},
    io::{Io, deadline::Deadline, pace},
    sandbox::{
        id::MorphId,
        patch::{Patch, check_etag, hash_etag},
        preset::{PresetId, ProviderName, SnapshotId},
        snapshot::{ShownSnapshot, Snapshot, SnapshotRequest, Status as Stage},
    },
    text::rfc3339::stamp,
};

/// Snapshot of Morph, as it was read a moment ago.
#[derive(Clone, Debug)]
pub struct MorphSnapshot {
    /// Morph's id of the snapshot.
    pub id: MorphId,
    created: i64,
    status: Stage,
    /// Number of cores.
    pub vcpus: i64,
    /// Memory in MiB.
    pub memory: i64,
    /// Disk in MiB.
    pub disk: i64,
    /// Record in its metadata.
    pub record: Record,
}

impl MorphSnapshot {
    /// Reads a snapshot from Morph's JSON; an error when it lacks what every snapshot has.
    pub fn read(value: &Value) -> Result<Self, Error> {
        let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str);
        let count = |pointer: &str| value.pointer(pointer).and_then(read_integer);
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
            record: Record::read(value),
        })
    }

    /// Whether sandboxes can be made from it.
    pub fn is_ready(&self) -> bool {
        self.status == Stage::Ready
    }

    /// Whether Morph could not make the snapshot.
    pub fn is_failed(&self) -> bool {
        self.status == Stage::Error
    }

    /// Whether the snapshot is a version of a preset of this deployment.
    pub fn is_offered(&self, deployment: &str) -> bool {
        self.record.get("deployment") == Some(deployment) && self.record.preset().is_some()
    }

    /// The snapshot as the API shows it under `id`; only its own `team` sees the owner's fields.
    fn show(&self, id: String, team: Option<String>) -> Snapshot {
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

    /// The snapshot as the API shows it to its own team.
    fn show_to_owner(&self) -> Snapshot {
        self.show(self.id.to_string(), self.record.get("team").map(str::to_owned))
    }
}

/// Lists the deployment's snapshots whose metadata has these entries of ours.
pub(super) async fn list_by_entries<I: Io>(
    cloud: &Cloud<'_, I>,
    filters: &[(&str, &str)],
) -> Result<Vec<MorphSnapshot>, Error> {
    let mut all = vec![("deployment", cloud.settings.deployment.as_str())];
    all.extend(filters);
    let value = cloud.send(cloud.morph.snapshots(&all)).await?;
    Record::matching_rows(&value, &all)?.map(MorphSnapshot::read).collect()
}

/// Picks the versions of presets out of all snapshots, sorted. Of two snapshots that were made as the same version at
/// once the older one is it.
pub(super) fn preset_versions(all: Vec<MorphSnapshot>) -> Vec<(SnapshotId, MorphSnapshot)> {
    let offered = all.into_iter().filter(|it| !it.is_failed());
    let mut found: Vec<_> = offered.filter_map(|it| Some((it.record.preset()?, it))).collect();
    found.sort_unstable_by(|(a, one), (b, other)| {
        (a, one.created, &one.id).cmp(&(b, other.created, &other.id))
    });
    found.dedup_by(|(later, _), (earlier, _)| later == earlier);
    found
}

/// Lists the team's snapshots and all presets, from one listing of Morph.
pub async fn list<I: Io>(cloud: &Cloud<'_, I>, caller: &Caller) -> Result<Vec<Snapshot>, Error> {
    let all = list_by_entries(cloud, &[]).await?;
    let mine = |it: &MorphSnapshot| it.record.is_visible_to(caller, &cloud.settings.deployment);
    let mut items: Vec<Snapshot> =
        all.iter().filter(|it| mine(it)).map(MorphSnapshot::show_to_owner).collect();
    let others = preset_versions(all).into_iter().filter(|(_, it)| !mine(it));
    items.extend(others.map(|(id, it)| it.show(id.to_string(), None)));
    Ok(items)
}

/// Reads one of the caller's snapshots; a snapshot that is being made is waited for until `deadline`.
pub async fn get<I: Io>(
    cloud: &Cloud<'_, I>,
    caller: &Caller,
    id: &MorphId,
    deadline: Deadline<'_, I>,
) -> Result<ShownSnapshot, Error> {
    let found = find_snapshot(cloud, caller, id).await?;
    let found = wait_until_made(cloud, found, deadline).await;
    Ok(ShownSnapshot { snapshot: found.show_to_owner(), etag: Some(etag(&found)) })
}

/// Changes a snapshot's name and metadata. Of two changes at once the later one wins.
pub async fn patch<I: Io>(
    cloud: &Cloud<'_, I>,
    caller: &Caller,
    id: &MorphId,
    patch: &Patch,
    if_match: Option<&str>,
) -> Result<ShownSnapshot, Error> {
    patch.check_timeless()?;
    refuse_reserved(patch.keys())?;
    let mut found = find_snapshot(cloud, caller, id).await?;
    check_etag(if_match, &etag(&found))?;
    let (mut name, mut metadata) = (found.record.get("name").map(str::to_owned), found.record.metadata());
    patch.apply(&mut name, &mut metadata)?;
    found.record.set("name", name);
    found.record.set_metadata(metadata);
    cloud.send(cloud.morph.set_snapshot_metadata(id, &found.record)).await?;
    Ok(ShownSnapshot { snapshot: found.show_to_owner(), etag: Some(etag(&found)) })
}

/// Deletes one of the caller's snapshots.
pub async fn remove<I: Io>(
    cloud: &Cloud<'_, I>,
    caller: &Caller,
    id: &MorphId,
    if_match: Option<&str>,
) -> Result<(), Error> {
    let found = find_snapshot(cloud, caller, id).await?;
    check_etag(if_match, &etag(&found))?;
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

/// Takes a snapshot of a sandbox, which runs on. Morph's call takes another one each time: it is sent once, and a
/// snapshot of an unanswered call is looked for by its nonce.
pub async fn take<I: Io>(
    cloud: &Cloud<'_, I>,
    caller: &Caller,
    id: &MorphId,
    request: &SnapshotRequest,
    deadline: Deadline<'_, I>,
) -> Result<Snapshot, Error> {
    request.check()?;
    refuse_reserved(request.metadata.keys())?;
    request.check_promotion(caller)?;
    if request.keep {
        let text =
            "Morph keeps no snapshots on a sandbox: take one without keep, and make another sandbox from it";
        return Err(Error::new(Code::Unsupported, text));
    }
    let instance = find_changeable(cloud, caller, id).await?;
    super::read::ensure_alive(&instance, cloud.now())?;
    if instance.status != Status::Ready {
        return Err(not_running(&instance));
    }
    let preset = match &request.promote {
        None => None,
        Some(promote) => {
            Some(next_version(&preset_versions(list_by_entries(cloud, &[]).await?), &promote.preset))
        }
    };
    let record = new_record(cloud, caller, id, request, preset);
    let lost = match cloud.send(cloud.morph.take_snapshot(id, &record)).await {
        Ok(value) => match MorphSnapshot::read(&value) {
            Ok(made) if made.record.get("nonce") == record.get("nonce") => {
                return Ok(wait_until_made(cloud, made, deadline).await.show_to_owner());
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
        let found =
            list_by_entries(cloud, &[("nonce", nonce)]).await.ok().and_then(|it| it.into_iter().next());
        if let Some(made) = found {
            return Ok(wait_until_made(cloud, made, deadline).await.show_to_owner());
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

fn next_version(known: &[(SnapshotId, MorphSnapshot)], preset: &PresetId) -> SnapshotId {
    let versions = known.iter().filter(|(id, _)| id.preset == *preset).map(|(id, _)| id.version);
    let version = versions.max().unwrap_or(0).saturating_add(1);
    SnapshotId { provider: ProviderName::Morph, preset: preset.clone(), version }
}

/// The record of a snapshot that is to be taken.
fn new_record<I: Io>(
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

/// Waits until the snapshot is made or has failed, or `deadline` has passed.
async fn wait_until_made<I: Io>(
    cloud: &Cloud<'_, I>,
    mut found: MorphSnapshot,
    deadline: Deadline<'_, I>,
) -> MorphSnapshot {
    let mut wait = deadline.keeping(1).paced(pace::MORPH);
    while found.status == Stage::Pending && wait.pause().await {
        // A read that fails says nothing of the snapshot, which is being made all the same.
        let looked = cloud.send(cloud.morph.snapshot(&found.id)).await;
        if let Some(now) = looked.ok().and_then(|it| MorphSnapshot::read(&it).ok()) {
            found = now;
        }
    }
    found
}

/// Finds the snapshot of an id, if it is the caller's; anything else is 404.
async fn find_snapshot<I: Io>(
    cloud: &Cloud<'_, I>,
    caller: &Caller,
    id: &MorphId,
) -> Result<MorphSnapshot, Error> {
    let absent = || Error::new(Code::NotFound, format!("there is no snapshot {id}"));
    match cloud.send(cloud.morph.snapshot(id)).await {
        Ok(value) => {
            let found = MorphSnapshot::read(&value)?;
            let mine = found.id == *id && found.record.is_visible_to(caller, &cloud.settings.deployment);
            if mine { Ok(found) } else { Err(absent()) }
        }
        Err(error) if error.is_unknown_id() => Err(absent()),
        Err(error) => Err(error.into()),
    }
}

fn etag(found: &MorphSnapshot) -> String {
    hash_etag(&json!(found.record.json()).to_string())
}
