//! Reads of sandboxes: one, which is carried on if it is coming up, or all from one listing.

use serde_json::json;
use time::OffsetDateTime;

use super::{
    Cloud,
    create::oldest_of_key,
    finish::finish,
    instance::{Instance, Status, find_instance, list_instances},
};
use crate::{
    access::keys::Caller,
    error::Error,
    io::{Io, deadline::Deadline},
    sandbox::{
        OnExpiry, Sandbox, Service, State,
        address::{SERVICES, Viewers},
        channel::Channel,
        id::{MorphId, not_found},
        listing::{Filter, Page, bad_cursor},
        patch::hash_etag,
    },
    text::rfc3339::stamp,
};

/// Reads one sandbox. A sandbox that is still coming up is carried on until `deadline`.
pub async fn get<I: Io>(
    cloud: &Cloud<'_, I>,
    caller: &Caller,
    id: &MorphId,
    deadline: Deadline<'_, I>,
) -> Result<Instance, Error> {
    let instance = find_instance(cloud, caller, id).await?;
    ensure_alive(&instance, cloud.now())?;
    Ok(finish(cloud, instance, false, deadline).await?.0)
}

/// Refuses a sandbox that has expired and is to be deleted, or is condemned.
pub fn ensure_alive(instance: &Instance, now: OffsetDateTime) -> Result<(), Error> {
    let over = instance.is_over(now) || instance.condemned().is_some();
    if over { Err(not_found(&instance.id)) } else { Ok(()) }
}

/// Lists the caller's sandboxes, from one listing of Morph.
pub async fn list<I: Io>(cloud: &Cloud<'_, I>, caller: &Caller, filter: &Filter) -> Result<Page, Error> {
    let after = match &filter.after {
        Some(after) => Some(MorphId::instance(after).ok_or_else(bad_cursor)?),
        None => None,
    };
    let mut all = list_instances(cloud, &[]).await?;
    all.sort_unstable_by(|a, b| a.id.cmp(&b.id));
    let now = cloud.now();
    let mut items: Vec<Sandbox> = Vec::new();
    // Morph's listing has all metadata, so every sandbox can be judged.
    let unindexed = (!filter.metadata.is_empty()).then_some(0);
    for instance in &all {
        let record = &instance.record;
        let metadata = record.metadata();
        let is_wanted = record.is_visible_to(caller, &cloud.settings.deployment)
            && after.as_ref().is_none_or(|after| instance.id > *after)
            && ensure_alive(instance, now).is_ok()
            && filter.state.is_none_or(|it| it == instance.state(now))
            && filter.metadata.iter().all(|(key, value)| metadata.get(key) == Some(value))
            && !is_duplicate(&all, instance);
        if !is_wanted {
            continue;
        }
        if items.len() == filter.limit {
            let next_cursor = items.last().map(|it| it.id.clone());
            return Ok(Page { items, next_cursor, unindexed });
        }
        items.push(show_sandbox(cloud, instance));
    }
    Ok(Page { items, next_cursor: None, unindexed })
}

/// Whether another instance is the sandbox of this instance's key; this one was never finished then.
pub(super) fn is_duplicate(all: &[Instance], instance: &Instance) -> bool {
    let (team, key) = (instance.record.get("team"), instance.record.get("key"));
    let (Some(team), Some(key), false) = (team, key, instance.is_committed()) else { return false };
    oldest_of_key(all, team, key).is_some_and(|it| it.id != instance.id)
}

/// The sandbox that an instance is, as the API shows it.
pub fn show_sandbox<I: Io>(cloud: &Cloud<'_, I>, instance: &Instance) -> Sandbox {
    let (record, now) = (&instance.record, cloud.now());
    let entry = |name| record.get(name).map(str::to_owned);
    let state = instance.state(now);
    let expires = instance.expires.and_then(|it| OffsetDateTime::from_unix_timestamp(it).ok()).map(stamp);
    let created = OffsetDateTime::from_unix_timestamp(instance.created).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let problem = match instance.status {
        Status::Error => "Morph says that it is broken",
        _ => "its creation was given up before it was finished; the sweep removes it",
    };
    let services = SERVICES
        .iter()
        .filter(|(name, _)| *name != "exec")
        .map(|(name, port)| Service::new(*name, *port, instance.url(*port)));
    Sandbox {
        id: instance.id.to_string(),
        provider: cloud.settings.provider.name(),
        vmid: None,
        node: None,
        name: entry("name"),
        state,
        problem: (state == State::Error).then(|| problem.to_owned()),
        state_may_be_stale: false,
        team: entry("team").unwrap_or_default(),
        metadata: record.metadata(),
        metadata_incomplete: false,
        created_at: stamp(created),
        expired_at: expires.clone().filter(|_| instance.is_expired(now)),
        expires_at: expires,
        kept_until: None,
        on_expiry: instance.on_expiry(),
        commands: Some(Channel::Morph),
        capabilities: Channel::Morph.capabilities(),
        cpu: u32::try_from(instance.vcpus).ok(),
        memory: u32::try_from(instance.memory).ok(),
        disk: u32::try_from(instance.disk.div_ceil(1024)).ok().filter(|it| *it > 0),
        snapshot_id: entry("source").unwrap_or_else(|| instance.snapshot.clone()).parse().ok(),
        template_vmid: None,
        services: services.collect(),
        viewers: Viewers::new(|port| instance.url(port)),
    }
}

/// ETag of all that the owner can change. Morph has no compare-and-swap: between the comparison and the write another
/// request may write.
pub fn etag(instance: &Instance) -> String {
    let pauses = instance.on_expiry() == OnExpiry::Pause;
    hash_etag(&json!([instance.record.json(), instance.expires, pauses]).to_string())
}
