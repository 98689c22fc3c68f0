//! An instance as Morph shows it, and finding one that is the caller's.

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

/// What Morph says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// On its way up, or a word that is newer than this.
    Pending,
    /// It runs; while it is being saved too.
    Ready,
    /// Paused with its memory.
    Paused,
    /// Broken.
    Error,
}

/// An instance, read a moment ago.
#[derive(Clone, Debug)]
pub struct Instance {
    /// Its id.
    pub id: MorphId,
    /// Unix seconds, Morph's clock.
    pub created: i64,
    /// What it does.
    pub status: Status,
    /// Whether it is being saved: for a snapshot, or before it is paused.
    pub is_saving: bool,
    /// Cores.
    pub vcpus: u64,
    /// MiB.
    pub memory: u64,
    /// MiB.
    pub disk: u64,
    /// When Morph ends it, in Unix seconds; `None` = never.
    pub expires: Option<i64>,
    /// Whether it has a time to live, told or not.
    pub timed: bool,
    /// What Morph does then, where it says so.
    action: Option<OnExpiry>,
    /// The snapshot that it was made from.
    pub snapshot: String,
    /// Port and URL of each exposed service.
    pub services: Vec<(u64, String)>,
    /// What is kept in its metadata.
    pub record: Record,
}

/// A number, whole or not.
pub(super) fn number(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_f64().map(|it| it as i64))
}

impl Instance {
    /// Reads one; an error when it lacks what every instance has.
    pub fn read(value: &Value) -> Result<Self, Error> {
        let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str);
        let count = |pointer: &str| value.pointer(pointer).and_then(number);
        let id = text("/id").and_then(MorphId::instance).ok_or_else(|| bad_answer("instance id"))?;
        let created = count("/created").ok_or_else(|| bad_answer("time of creation"))?;
        let services = value.pointer("/networking/http_services").and_then(Value::as_array);
        let service = |it: &Value| {
            let port = it.get("port").and_then(number)?;
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
            record: Record::of(value),
        })
    }

    /// Seconds since it was made.
    pub fn age(&self, now: OffsetDateTime) -> i64 {
        now.unix_timestamp() - self.created
    }

    /// Whether its creation was finished.
    pub fn is_committed(&self) -> bool {
        self.record.get("phase") == Some("committed")
    }

    /// When a sweep condemned it.
    pub fn condemned(&self) -> Option<i64> {
        self.record.get("gone")?.parse().ok()
    }

    /// Whether its time is up.
    pub fn is_expired(&self, now: OffsetDateTime) -> bool {
        self.expires.is_some_and(|it| now.unix_timestamp() >= it)
    }

    /// What becomes of it then: what Morph will do, else what is kept.
    pub fn on_expiry(&self) -> OnExpiry {
        self.action.filter(|_| self.timed).unwrap_or_else(|| self.record.on_expiry())
    }

    /// Expired and to be deleted: Morph may be about to do it.
    pub fn is_over(&self, now: OffsetDateTime) -> bool {
        self.is_expired(now) && self.on_expiry() == OnExpiry::Delete
    }

    /// Whether somebody still has to bring it up.
    pub fn is_coming_up(&self, now: OffsetDateTime) -> bool {
        !self.is_committed() && self.age(now) < FINISH_SECONDS && self.status != Status::Error
    }

    /// As the API calls it.
    pub fn state(&self, now: OffsetDateTime) -> State {
        match self.status {
            Status::Error => State::Error,
            _ if self.is_coming_up(now) => State::Creating,
            _ if !self.is_committed() => State::Error,
            Status::Paused => State::Paused,
            // Past its time it is what Morph will make of it.
            _ if self.is_expired(now) => State::Paused,
            Status::Pending => State::Creating,
            Status::Ready => State::Running,
        }
    }

    /// URL of a port, where Morph has given it one.
    pub fn url(&self, port: u16) -> Option<String> {
        self.services.iter().find(|(known, _)| *known == u64::from(port)).map(|(_, url)| url.clone())
    }
}

/// Morph's `ttl_action`.
pub(super) fn action(on_expiry: OnExpiry) -> &'static str {
    if on_expiry == OnExpiry::Pause { "pause" } else { "stop" }
}

/// The instance of that id, if it is the caller's; anything else is 404.
pub async fn find<I: Io>(cloud: &Cloud<'_, I>, caller: &Caller, id: &MorphId) -> Result<Instance, Error> {
    match cloud.send(cloud.morph.instance(id)).await {
        Ok(value) => {
            let instance = Instance::read(&value)?;
            let ours = instance.id == *id && instance.record.may(caller, &cloud.settings.deployment);
            if ours { Ok(instance) } else { Err(not_found(id)) }
        }
        Err(error) if error.is_nobodys() => Err(not_found(id)),
        Err(error) => Err(error.into()),
    }
}

/// The same one again, as it is now.
pub(super) async fn again<I: Io>(cloud: &Cloud<'_, I>, instance: &Instance) -> Result<Instance, Error> {
    let now = match cloud.send(cloud.morph.instance(&instance.id)).await {
        Ok(value) => Instance::read(&value)?,
        Err(error) if error.is_nobodys() => return Err(not_found(&instance.id)),
        Err(error) => return Err(error.into()),
    };
    if is_same(cloud, &now, instance) { Ok(now) } else { Err(not_found(&instance.id)) }
}

fn is_same<I>(cloud: &Cloud<'_, I>, now: &Instance, before: &Instance) -> bool {
    let deployment = Some(cloud.settings.deployment.as_str());
    now.record.get("deployment") == deployment && now.record.get("nonce") == before.record.get("nonce")
}

/// All of this deployment whose metadata has these of ours too.
pub async fn listed<I: Io>(cloud: &Cloud<'_, I>, filters: &[(&str, &str)]) -> Result<Vec<Instance>, Error> {
    let deployment = cloud.settings.deployment.as_str();
    let mut all = vec![("deployment", deployment)];
    all.extend(filters);
    let value = cloud.send(cloud.morph.instances(&all)).await?;
    let rows = value.get("data").and_then(Value::as_array).ok_or_else(|| bad_answer("list"))?;
    let mut instances = Vec::new();
    for row in rows {
        // Whatever became of the filter, and whatever others' look like.
        let record = Record::of(row);
        if all.iter().all(|(name, value)| record.get(name) == Some(value)) {
            instances.push(Instance::read(row)?);
        }
    }
    Ok(instances)
}
