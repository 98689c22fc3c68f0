//! Changes of a sandbox's name, metadata and time. Name and metadata are replaced whole: of two changes the last one
//! stays. The expiry is Morph's own, and is written last.

use super::{
    Cloud,
    create::on_expiry,
    exec::still_creating,
    instance::{Instance, Status, find_instance, reread, ttl_action},
    read::etag,
    record::{Record, refuse_reserved},
};
use crate::{
    access::keys::Caller,
    error::{Code, Error},
    io::Io,
    sandbox::{
        OnExpiry,
        id::{MorphId, not_found},
        lifetime::{self, Ttl},
        patch::{Patch, check_etag},
    },
};

/// Applies a patch, if the sandbox is still the version that `if_match` names.
pub async fn patch<I: Io>(
    cloud: &Cloud<'_, I>,
    caller: &Caller,
    id: &MorphId,
    patch: &Patch,
    if_match: Option<&str>,
) -> Result<Instance, Error> {
    let ttl = patch.ttl_seconds.map(|it| Ttl::parse(it, &cloud.settings.limits)).transpose()?;
    patch.check()?;
    refuse_reserved(patch.keys())?;
    let new_fate = patch.on_expiry.map(|it| on_expiry(Some(it))).transpose()?;
    let instance = find_changeable(cloud, caller, id).await?;
    check_etag(if_match, &etag(&instance))?;
    let now = cloud.now();
    let mut record = instance.record.clone();
    let (mut name, mut metadata) = (record.get("name").map(str::to_owned), record.metadata());
    patch.apply(&mut name, &mut metadata)?;
    record.set("name", name);
    record.set_metadata(metadata);
    let fate = new_fate.unwrap_or_else(|| instance.on_expiry());
    // A sweep may have given Morph another action for a paused instance, so the record has the owner's last choice.
    if new_fate.is_some() {
        record.set("onExpiry", Some(ttl_action(fate).to_owned()));
    }
    if let Some(ttl) = ttl {
        set_span(&mut record, ttl, instance.status);
    }
    // A sandbox that has expired and gets no new time is gone for its owner too.
    if ttl.is_none() && instance.is_expired(now) && fate == OnExpiry::Delete {
        return Err(not_found(id));
    }
    if record != instance.record {
        cloud.send(cloud.morph.set_metadata(id, &record)).await?;
    }
    let seconds_left = || instance.expires.map(|it| (it - now.unix_timestamp()).max(1));
    match (ttl, instance.timed) {
        (Some(ttl), _) => set_ttl(cloud, id, seconds_to_keep(cloud, &instance, ttl.after(0)), fate).await?,
        (None, true) if fate != instance.on_expiry() && instance.expires.is_some() => {
            set_ttl(cloud, id, seconds_left(), fate).await?;
        }
        _ => {}
    }
    reread(cloud, &instance).await
}

/// Extends a sandbox's time, if the sandbox is still the version that `if_match` names: by `asked` from now, or by the
/// span that it was given last, which never shortens its time. Possible until a sweep condemns the sandbox, even after
/// its expiry, as long as Morph still has it.
pub async fn extend<I: Io>(
    cloud: &Cloud<'_, I>,
    caller: &Caller,
    id: &MorphId,
    asked: Option<Ttl>,
    if_match: Option<&str>,
) -> Result<Instance, Error> {
    let instance = find_changeable(cloud, caller, id).await?;
    check_etag(if_match, &etag(&instance))?;
    let now = cloud.now().unix_timestamp();
    let mut record = instance.record.clone();
    let seconds = match asked {
        Some(ttl) => {
            set_span(&mut record, ttl, instance.status);
            ttl.after(0)
        }
        // A sandbox that never expires goes on so.
        None if !instance.timed => return Ok(instance),
        None => {
            let (span, expires) = (record.span(&cloud.settings.limits), instance.expires.unwrap_or(now));
            let paused = (instance.status == Status::Paused).then(|| record.seconds_left().unwrap_or(0));
            let left =
                paused.and_then(|it| lifetime::expiry_after_start(span, Some(it), 0, &cloud.settings.limits));
            record.set("left", left.map(|it| it.to_string()));
            lifetime::expiry_after_extension(span, Some(expires), now, &cloud.settings.limits)
                .map(|it| it - now)
        }
    };
    if record != instance.record {
        cloud.send(cloud.morph.set_metadata(id, &record)).await?;
    }
    set_ttl(cloud, id, seconds_to_keep(cloud, &instance, seconds), instance.record.on_expiry()).await?;
    reread(cloud, &instance).await
}

/// Seconds from now that Morph has to keep the sandbox: a paused one until the later of its expiry and the pause +
/// `EDGE_STOPPED_MAX_SECONDS`.
fn seconds_to_keep<I: Io>(cloud: &Cloud<'_, I>, instance: &Instance, seconds: Option<i64>) -> Option<i64> {
    if instance.status != Status::Paused {
        return seconds;
    }
    let now = cloud.now().unix_timestamp();
    let since = instance.record.get("paused").and_then(|it| it.parse().ok()).unwrap_or(now);
    let until = i64::from(cloud.settings.limits.stopped_max_seconds).saturating_add(since);
    seconds.map(|it| it.max(until.saturating_sub(now)))
}

/// Sets the time to live in the record. For a paused sandbox it is running time, which is left until the resume.
fn set_span(record: &mut Record, ttl: Ttl, status: Status) {
    record.set_span(ttl);
    let left = ttl.seconds().filter(|_| status == Status::Paused);
    record.set("left", left.map(|it| it.to_string()));
}

/// Sets the seconds after which Morph ends an instance, and how.
pub(super) async fn set_ttl<I: Io>(
    cloud: &Cloud<'_, I>,
    id: &MorphId,
    seconds: Option<i64>,
    fate: OnExpiry,
) -> Result<(), Error> {
    match cloud.send(cloud.morph.set_ttl(id, seconds, ttl_action(fate))).await {
        Ok(_) => Ok(()),
        Err(error) if error.is_missing() => Err(not_found(id)),
        Err(error) => Err(error.into()),
    }
}

/// Finds a sandbox that may be changed: the caller's, finished, and not condemned.
pub(super) async fn find_changeable<I: Io>(
    cloud: &Cloud<'_, I>,
    caller: &Caller,
    id: &MorphId,
) -> Result<Instance, Error> {
    let instance = find_instance(cloud, caller, id).await?;
    if instance.condemned().is_some() {
        let text = "this sandbox is condemned and will be deleted; nothing can renew it";
        return Err(Error::new(Code::Condemned, text));
    }
    if !instance.is_committed() {
        return Err(still_creating(id));
    }
    Ok(instance)
}
