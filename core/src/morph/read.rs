//! Reading sandboxes: one, which is carried on, or all of them from one listing.

use serde_json::json;
use time::OffsetDateTime;

use super::{
    Cloud,
    create::oldest,
    finish::finish,
    instance::{Instance, Status, find, listed},
};
use crate::{
    access::keys::Caller,
    error::Error,
    io::{Io, deadline::Deadline},
    sandbox::{
        OnExpiry, Sandbox, Service, State,
        address::{SERVICES, Viewers},
        id::{MorphId, not_found},
        listing::{Filter, Page, bad_cursor},
        patch::hashed,
    },
    text::rfc3339::stamp,
};

/// One sandbox. One that is still coming up is carried on until `deadline`.
pub async fn get<I: Io>(
    cloud: &Cloud<'_, I>,
    caller: &Caller,
    id: &MorphId,
    deadline: Deadline<'_, I>,
) -> Result<Instance, Error> {
    let instance = find(cloud, caller, id).await?;
    gone(&instance, cloud.now())?;
    Ok(finish(cloud, instance, false, deadline).await?.0)
}

/// Refuses a sandbox that is over: expired and to be deleted, or condemned.
pub fn gone(instance: &Instance, now: OffsetDateTime) -> Result<(), Error> {
    let over = instance.is_over(now) || instance.condemned().is_some();
    if over { Err(not_found(&instance.id)) } else { Ok(()) }
}

/// The caller's sandboxes, from one listing.
pub async fn list<I: Io>(cloud: &Cloud<'_, I>, caller: &Caller, filter: &Filter) -> Result<Page, Error> {
    let after = match &filter.after {
        Some(after) => Some(MorphId::instance(after).ok_or_else(bad_cursor)?),
        None => None,
    };
    let mut all = listed(cloud, &[]).await?;
    all.sort_unstable_by(|a, b| a.id.cmp(&b.id));
    let now = cloud.now();
    let mut items: Vec<Sandbox> = Vec::new();
    // Morph tells all of it.
    let unindexed = (!filter.metadata.is_empty()).then_some(0);
    for instance in &all {
        let record = &instance.record;
        let metadata = record.metadata();
        let seen = record.may(caller, &cloud.settings.deployment)
            && after.as_ref().is_none_or(|after| instance.id > *after)
            && gone(instance, now).is_ok()
            && filter.state.is_none_or(|it| it == instance.state(now))
            && filter.metadata.iter().all(|(key, value)| metadata.get(key) == Some(value))
            && !is_second(&all, instance);
        if !seen {
            continue;
        }
        if items.len() == filter.limit {
            let next_cursor = items.last().map(|it| it.id.clone());
            return Ok(Page { items, next_cursor, unindexed });
        }
        items.push(sandbox(cloud, instance));
    }
    Ok(Page { items, next_cursor: None, unindexed })
}

/// Another is the sandbox of its key, and this one was never finished.
pub(super) fn is_second(all: &[Instance], instance: &Instance) -> bool {
    let (team, key) = (instance.record.get("team"), instance.record.get("key"));
    let (Some(team), Some(key), false) = (team, key, instance.is_committed()) else { return false };
    oldest(all, team, key).is_some_and(|it| it.id != instance.id)
}

/// As the API shows it.
pub fn sandbox<I: Io>(cloud: &Cloud<'_, I>, instance: &Instance) -> Sandbox {
    let (record, now) = (&instance.record, cloud.now());
    let of = |name| record.get(name).map(str::to_owned);
    let state = instance.state(now);
    let expires = instance.expires.and_then(|it| OffsetDateTime::from_unix_timestamp(it).ok()).map(stamp);
    let created = OffsetDateTime::from_unix_timestamp(instance.created).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let problem = match instance.status {
        Status::Error => "Morph says that it is broken",
        _ => "its creation was given up before it was finished; the sweep removes it",
    };
    let services = SERVICES.iter().filter(|(name, _)| *name != "exec").map(|(name, port)| Service {
        name: (*name).to_owned(),
        port: *port,
        url: instance.url(*port),
    });
    Sandbox {
        id: instance.id.to_string(),
        provider: cloud.settings.provider.name(),
        vmid: None,
        node: None,
        name: of("name"),
        state,
        problem: (state == State::Error).then(|| problem.to_owned()),
        state_may_be_stale: false,
        team: of("team").unwrap_or_default(),
        metadata: record.metadata(),
        metadata_incomplete: false,
        created_at: stamp(created),
        expired_at: expires.clone().filter(|_| instance.is_expired(now)),
        expires_at: expires,
        kept_until: None,
        on_expiry: instance.on_expiry(),
        cpu: u32::try_from(instance.vcpus).ok(),
        memory: u32::try_from(instance.memory).ok(),
        disk: u32::try_from(instance.disk.div_ceil(1024)).ok().filter(|it| *it > 0),
        snapshot_id: of("source").unwrap_or_else(|| instance.snapshot.clone()).parse().ok(),
        template_vmid: None,
        services: services.collect(),
        viewers: Viewers::new(|port| instance.url(port)),
    }
}

/// Of what its owner can change. There is no compare-and-swap behind it: between
/// a look and a write others may write.
pub fn etag(instance: &Instance) -> String {
    let pauses = instance.on_expiry() == OnExpiry::Pause;
    hashed(&json!([instance.record.json(), instance.expires, pauses]).to_string())
}
