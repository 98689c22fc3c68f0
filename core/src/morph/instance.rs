//! Instances as Morph shows them, and the look-up of an instance that is the caller's.

use serde_json::Value;
use time::OffsetDateTime;

use super::{Cloud, record::Record, refusal::bad_answer};
use crate::{
    access::keys::Caller,
    error::Error,
    io::Io,
    sandbox::{
        FINISH_SECONDS, OnExpiry, State,
        id::{MorphId, not_found},
    },
};

/// Status of an instance, as Morph tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It is on its way up, or Morph's word for its status is newer than this.
    Pending,
    /// It runs, perhaps while it is being saved.
    Ready,
    /// It is paused with its memory.
    Paused,
    /// It is broken.
    Error,
}

/// Instance, as it was read a moment ago.
#[derive(Clone, Debug)]
pub struct Instance {
    /// Morph's id of the instance.
    pub id: MorphId,
    /// Time of its creation, in Unix seconds by Morph's clock.
    pub created: i64,
    /// Status of the instance.
    pub status: Status,
    /// Whether it is being saved: for a snapshot, or before it is paused.
    pub is_saving: bool,
    /// Number of cores.
    pub vcpus: u64,
    /// Memory in MiB.
    pub memory: u64,
    /// Disk in MiB.
    pub disk: u64,
    /// Time at which Morph ends it, in Unix seconds; `None` when Morph tells none.
    pub expires: Option<i64>,
    /// Whether it has a time to live, be its expiry told or not.
    pub timed: bool,
    /// Morph's action at that time, where it tells one.
    action: Option<OnExpiry>,
    /// Id of the snapshot that it was made from.
    pub snapshot: String,
    /// Port and URL of each exposed service.
    pub services: Vec<(u64, String)>,
    /// Record in its metadata.
    pub record: Record,
}

/// Reads a number as an integer, even where JSON has it with a fraction.
pub(super) fn read_integer(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_f64().map(|it| it as i64))
}

impl Instance {
    /// Reads an instance from Morph's JSON; an error when it lacks what every instance has.
    pub fn read(value: &Value) -> Result<Self, Error> {
        let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str);
        let count = |pointer: &str| value.pointer(pointer).and_then(read_integer);
        let id = text("/id").and_then(MorphId::instance).ok_or_else(|| bad_answer("instance id"))?;
        let created = count("/created").ok_or_else(|| bad_answer("time of creation"))?;
        let services = value.pointer("/networking/http_services").and_then(Value::as_array);
        let service = |it: &Value| {
            let port = it.get("port").and_then(read_integer)?;
            Some((port.unsigned_abs(), it.get("url")?.as_str()?.to_owned()))
        };
        Ok(Self {
            id,
            created,
            status: match text("/status") {
                Some("ready" | "saving") => Status::Ready,
                Some("paused") => Status::Paused,
                Some("error") => Status::Error,
                _ => Status::Pending,
            },
            is_saving: text("/status") == Some("saving"),
            vcpus: count("/spec/vcpus").map_or(1, i64::unsigned_abs),
            memory: count("/spec/memory").map_or(0, i64::unsigned_abs),
            disk: count("/spec/disk_size").map_or(0, i64::unsigned_abs),
            expires: count("/ttl/ttl_expire_at"),
            timed: count("/ttl/ttl_expire_at").or_else(|| count("/ttl/ttl_seconds")).is_some(),
            action: match text("/ttl/ttl_action") {
                Some("pause") => Some(OnExpiry::Pause),
                Some("stop") => Some(OnExpiry::Delete),
                _ => None,
            },
            snapshot: text("/refs/snapshot_id").unwrap_or_default().to_owned(),
            services: services.into_iter().flatten().filter_map(service).collect(),
            record: Record::read(value),
        })
    }

    /// Seconds since the instance was made.
    pub fn age(&self, now: OffsetDateTime) -> i64 {
        now.unix_timestamp() - self.created
    }

    /// Whether the creation of the sandbox was finished.
    pub fn is_committed(&self) -> bool {
        self.record.get("phase") == Some("committed")
    }

    /// Time at which a sweep has condemned the sandbox, in Unix seconds.
    pub fn condemned(&self) -> Option<i64> {
        self.record.get("gone")?.parse().ok()
    }

    /// Whether the sandbox's time is up.
    pub fn is_expired(&self, now: OffsetDateTime) -> bool {
        self.expires.is_some_and(|it| now.unix_timestamp() >= it)
    }

    /// Fate of the sandbox when its time is up: Morph's action, or else the one in the record.
    pub fn on_expiry(&self) -> OnExpiry {
        self.action.filter(|_| self.timed).unwrap_or_else(|| self.record.on_expiry())
    }

    /// Whether the sandbox has expired and is to be deleted: Morph may be about to do it.
    pub fn is_over(&self, now: OffsetDateTime) -> bool {
        self.is_expired(now) && self.on_expiry() == OnExpiry::Delete
    }

    /// Whether the creation is unfinished and somebody still has to carry it on.
    pub fn is_coming_up(&self, now: OffsetDateTime) -> bool {
        !self.is_committed() && self.age(now) < FINISH_SECONDS && self.status != Status::Error
    }

    /// State of the sandbox, as the API tells it.
    pub fn state(&self, now: OffsetDateTime) -> State {
        match self.status {
            Status::Error => State::Error,
            _ if self.is_coming_up(now) => State::Creating,
            _ if !self.is_committed() => State::Error,
            Status::Paused => State::Paused,
            // Morph will pause it within a minute of its expiry.
            _ if self.is_expired(now) => State::Paused,
            Status::Pending => State::Creating,
            Status::Ready => State::Running,
        }
    }

    /// URL of a port, where Morph has given it a name.
    pub fn url(&self, port: u16) -> Option<String> {
        self.services.iter().find(|(known, _)| *known == u64::from(port)).map(|(_, url)| url.clone())
    }
}

/// Morph's `ttl_action` for what happens at the expiry.
pub(super) fn ttl_action(on_expiry: OnExpiry) -> &'static str {
    if on_expiry == OnExpiry::Pause { "pause" } else { "stop" }
}

/// Finds the instance of an id, if it is the caller's; anything else is 404.
pub async fn find_instance<I: Io>(
    cloud: &Cloud<'_, I>,
    caller: &Caller,
    id: &MorphId,
) -> Result<Instance, Error> {
    match cloud.send(cloud.morph.instance(id)).await {
        Ok(value) => {
            let instance = Instance::read(&value)?;
            let ours =
                instance.id == *id && instance.record.is_visible_to(caller, &cloud.settings.deployment);
            if ours { Ok(instance) } else { Err(not_found(id)) }
        }
        Err(error) if error.is_unknown_id() => Err(not_found(id)),
        Err(error) => Err(error.into()),
    }
}

/// Reads an instance again, and proves that it is still the same sandbox.
pub(super) async fn reread<I: Io>(cloud: &Cloud<'_, I>, instance: &Instance) -> Result<Instance, Error> {
    let now = match cloud.send(cloud.morph.instance(&instance.id)).await {
        Ok(value) => Instance::read(&value)?,
        Err(error) if error.is_unknown_id() => return Err(not_found(&instance.id)),
        Err(error) => return Err(error.into()),
    };
    if is_same(cloud, &now, instance) { Ok(now) } else { Err(not_found(&instance.id)) }
}

fn is_same<I>(cloud: &Cloud<'_, I>, now: &Instance, before: &Instance) -> bool {
    let deployment = Some(cloud.settings.deployment.as_str());
    now.record.get("deployment") == deployment && now.record.get("nonce") == before.record.get("nonce")
}

/// Lists the deployment's instances whose metadata has these entries of ours.
pub async fn list_instances<I: Io>(
    cloud: &Cloud<'_, I>,
    filters: &[(&str, &str)],
) -> Result<Vec<Instance>, Error> {
    let deployment = cloud.settings.deployment.as_str();
    let mut all = vec![("deployment", deployment)];
    all.extend(filters);
    let value = cloud.send(cloud.morph.instances(&all)).await?;
    Record::matching_rows(&value, &all)?.map(Instance::read).collect()
}
