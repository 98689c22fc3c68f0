//! The source of a creation: the snapshot that an instance is made from, and the sizes that it gets.

use serde_json::{Value, json};

use super::{
    Cloud,
    snapshot::{MorphSnapshot, list_by_entries, preset_versions},
};
use crate::{
    access::keys::Caller,
    error::{Code, Error},
    io::{Io, call::Call},
    sandbox::{
        Sizes,
        creation::CreateRequest,
        id::{MorphId, SourceId},
        preset::{PresetId, SnapshotId, default_preset},
    },
};

const MIB: u32 = 1024;

/// Snapshot that a sandbox is made from, and the sizes that differ from the snapshot's.
pub(super) struct Source {
    id: MorphId,
    /// Source that the sandbox names.
    pub(super) shown: SourceId,
    /// Sizes that differ from the snapshot's; with any, Morph boots from the snapshot's disk.
    changes: Sizes,
    /// Sizes that the sandbox takes of the team's quotas.
    pub(super) asked: Sizes,
}

impl Source {
    /// The call that makes an instance of the source.
    pub(super) fn call<I: Io>(&self, cloud: &Cloud<'_, I>, mut body: Value) -> Call<Value> {
        let Sizes { cpu, memory, disk } = self.changes;
        if self.changes == Sizes::default() {
            return cloud.morph.start(&self.id, &body);
        }
        let disk = disk.map(|it| it.saturating_mul(MIB));
        for (name, size) in [("vcpus", cpu), ("memory", memory), ("disk_size", disk)] {
            if let (Some(size), Some(body)) = (size, body.as_object_mut()) {
                body.insert(name.to_owned(), json!(size));
            }
        }
        cloud.morph.boot(&self.id, &body)
    }

    /// The source with the sizes that were asked for, else those in the preset's name, else the snapshot's.
    fn with_sizes(request: &CreateRequest, shown: SourceId, saved: MorphSnapshot) -> Self {
        let preset = shown.preset().and_then(|it| it.preset.sizes());
        let cpu = request.cpu.or(preset.map(|it| it.cores));
        let memory = request.memory.or(preset.map(|it| it.memory_mib));
        let disk = request.disk.or(preset.map(|it| it.disk_gib));
        let differs = |it: &u32, has: i64| i64::from(*it) != has;
        let changes = Sizes {
            cpu: cpu.filter(|it| differs(it, saved.vcpus)),
            memory: memory.filter(|it| differs(it, saved.memory)),
            // A disk only grows.
            disk: disk.filter(|it| i64::from(*it) * i64::from(MIB) > saved.disk),
        };
        let asked = Sizes {
            cpu: cpu.or(u32::try_from(saved.vcpus).ok()),
            memory: memory.or(u32::try_from(saved.memory).ok()),
            disk: disk
                .max(u32::try_from(u64::try_from(saved.disk).unwrap_or(0).div_ceil(u64::from(MIB))).ok()),
        };
        Self { id: saved.id, shown, changes, asked }
    }
}

/// Chooses the snapshot that a request starts from.
pub(super) async fn choose_source<I: Io>(
    cloud: &Cloud<'_, I>,
    caller: &Caller,
    request: &CreateRequest,
) -> Result<Source, Error> {
    let (shown, found) = match &request.snapshot_id {
        Some(SourceId::Morph(id)) => (SourceId::Morph(id.clone()), find_snapshot(cloud, caller, id).await?),
        wanted => {
            let offered = preset_versions(list_by_entries(cloud, &[]).await?);
            // A snapshot that is being made is taken if there is no other, or by its id.
            let any_ready = |wanted: Option<&PresetId>| {
                let of =
                    |it: &&(SnapshotId, MorphSnapshot)| wanted.is_none_or(|wanted| it.0.preset == *wanted);
                let ready: Vec<_> = offered.iter().filter(of).filter(|(_, it)| it.is_ready()).collect();
                if ready.is_empty() { offered.iter().filter(of).collect() } else { ready }
            };
            let id = match (wanted, &request.preset) {
                (Some(SourceId::Preset(id)), _) => Some(id.clone()),
                (_, Some(preset)) => {
                    let ids = any_ready(Some(preset)).into_iter().map(|(id, _)| id);
                    ids.max_by_key(|it| it.version).cloned()
                }
                _ => default_preset(any_ready(None).into_iter().map(|(id, _)| id)),
            };
            let found = id.and_then(|id| offered.iter().find(|it| it.0 == id).cloned());
            let (id, found) = found.ok_or_else(|| not_offered(request, &offered))?;
            (SourceId::Preset(id), found)
        }
    };
    if found.is_failed() {
        return Err(Error::new(
            Code::TemplateNotFound,
            format!("Morph could not make {shown}: it has failed"),
        ));
    }
    if !found.is_ready() {
        let text = format!("{shown} is still being made; ask again");
        return Err(Error::new(Code::StillCreating, text).retry_after(3));
    }
    Ok(Source::with_sizes(request, shown, found))
}

/// Finds the snapshot of an id: one of the team's, or a preset; for admins any of the account.
async fn find_snapshot<I: Io>(
    cloud: &Cloud<'_, I>,
    caller: &Caller,
    id: &MorphId,
) -> Result<MorphSnapshot, Error> {
    let absent = || Error::new(Code::TemplateNotFound, format!("there is no snapshot {id}"));
    match cloud.send(cloud.morph.snapshot(id)).await {
        Ok(value) => {
            let saved = MorphSnapshot::read(&value)?;
            let deployment = &cloud.settings.deployment;
            let is_visible = caller.admin
                || saved.record.is_visible_to(caller, deployment)
                || saved.is_offered(deployment);
            if is_visible { Ok(saved) } else { Err(absent()) }
        }
        Err(error) if error.is_unknown_id() => Err(absent()),
        Err(error) => Err(error.into()),
    }
}

/// The error of a source that does not exist, which names those that do.
fn not_offered(request: &CreateRequest, offered: &[(SnapshotId, MorphSnapshot)]) -> Error {
    let what = match (&request.snapshot_id, &request.preset) {
        (Some(id), _) => format!("snapshot {id}"),
        (_, Some(preset)) => format!("preset {preset}"),
        _ => "any preset".to_owned(),
    };
    let known: Vec<String> = offered.iter().map(|(id, _)| id.to_string()).collect();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    let text =
        format!("there is no {what}; offered are: {known}. An admin makes one by a snapshot with promote");
    Error::new(Code::TemplateNotFound, text)
}
