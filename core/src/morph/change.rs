//! Changing what is kept about a sandbox. Name and metadata are replaced whole,
//! and by whoever writes last; the expiry is Morph's own, and written last.

use super::{
    Cloud,
    create::on_expiry,
    exec::coming_up,
    instance::{Instance, Status, action, again, find},
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
        patch::{Patch, unchanged},
    },
};

/// Applies a patch, if the sandbox is still what `if_match` names.
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
    let then = patch.on_expiry.map(|it| on_expiry(Some(it))).transpose()?;
    let instance = changeable(cloud, caller, id).await?;
    unchanged(if_match, &etag(&instance))?;
    let now = cloud.now();
    let mut record = instance.record.clone();
    let (mut name, mut metadata) = (record.get("name").map(str::to_owned), record.metadata());
    patch.apply(&mut name, &mut metadata)?;
    record.set("name", name);
    record.set_metadata(metadata);
    let kept = then.unwrap_or_else(|| instance.on_expiry());
    // Morph's word may be a sweep's, of what is paused: its owner's stays what was said last.
    if then.is_some() {
        record.set("onExpiry", Some(action(kept).to_owned()));
    }
    if let Some(ttl) = ttl {
        given(&mut record, ttl, instance.status);
    }
    // What is over and stays over is gone for its owner too.
    if ttl.is_none() && instance.is_expired(now) && kept == OnExpiry::Delete {
        return Err(not_found(id));
    }
    if record != instance.record {
        cloud.send(cloud.morph.set_metadata(id, &record)).await?;
    }
    let rest = || instance.expires.map(|it| (it - now.unix_timestamp()).max(1));
    match (ttl, instance.timed) {
        (Some(ttl), _) => set_ttl(cloud, id, kept_for(cloud, &instance, ttl.after(0)), kept).await?,
        (None, true) if kept != instance.on_expiry() && instance.expires.is_some() => {
            set_ttl(cloud, id, rest(), kept).await?;
        }
        _ => {}
    }
    again(cloud, &instance).await
}

/// Gives it its span again, which never shortens its time, or what `said` sets, counted from now,
/// if the sandbox is still what `if_match` names. Accepted until a sweep condemns it, even after its
/// expiry, as long as Morph still has it.
pub async fn extend<I: Io>(
    cloud: &Cloud<'_, I>,
    caller: &Caller,
    id: &MorphId,
    said: Option<Ttl>,
    if_match: Option<&str>,
) -> Result<Instance, Error> {
    let instance = changeable(cloud, caller, id).await?;
    unchanged(if_match, &etag(&instance))?;
    let now = cloud.now().unix_timestamp();
    let mut record = instance.record.clone();
    let seconds = match said {
        Some(ttl) => {
            given(&mut record, ttl, instance.status);
            ttl.after(0)
        }
        // One without a time of its own goes on without.
        None if !instance.timed => return Ok(instance),
        None => {
            let (span, expires) = (record.span(&cloud.settings.limits), instance.expires.unwrap_or(now));
            let paused = (instance.status == Status::Paused).then(|| record.left().unwrap_or(0));
            let left = paused.and_then(|it| lifetime::resumed(span, Some(it), 0, &cloud.settings.limits));
            record.set("left", left.map(|it| it.to_string()));
            lifetime::extended(span, Some(expires), now, &cloud.settings.limits).map(|it| it - now)
        }
    };
    if record != instance.record {
        cloud.send(cloud.morph.set_metadata(id, &record)).await?;
    }
    set_ttl(cloud, id, kept_for(cloud, &instance, seconds), instance.record.on_expiry()).await?;
    again(cloud, &instance).await
}

/// What is paused is kept until the later of its expiry and the pause + `EDGE_STOPPED_MAX_SECONDS`.
fn kept_for<I: Io>(cloud: &Cloud<'_, I>, instance: &Instance, seconds: Option<i64>) -> Option<i64> {
    if instance.status != Status::Paused {
        return seconds;
    }
    let now = cloud.now().unix_timestamp();
    let since = instance.record.get("paused").and_then(|it| it.parse().ok()).unwrap_or(now);
    let until = i64::from(cloud.settings.limits.stopped_max_seconds).saturating_add(since);
    seconds.map(|it| it.max(until.saturating_sub(now)))
}

/// What is given while it is paused is running time.
fn given(record: &mut Record, ttl: Ttl, status: Status) {
    record.set_span(ttl);
    let left = ttl.seconds().filter(|_| status == Status::Paused);
    record.set("left", left.map(|it| it.to_string()));
}

pub(super) async fn set_ttl<I: Io>(
    cloud: &Cloud<'_, I>,
    id: &MorphId,
    seconds: Option<i64>,
    then: OnExpiry,
) -> Result<(), Error> {
    match cloud.send(cloud.morph.set_ttl(id, seconds, action(then))).await {
        Ok(_) => Ok(()),
        Err(error) if error.is_missing() => Err(not_found(id)),
        Err(error) => Err(error.into()),
    }
}

/// A sandbox that is the caller's, finished, and not condemned.
pub(super) async fn changeable<I: Io>(
    cloud: &Cloud<'_, I>,
    caller: &Caller,
    id: &MorphId,
) -> Result<Instance, Error> {
    let instance = find(cloud, caller, id).await?;
    if instance.condemned().is_some() {
        let text = "this sandbox is condemned and will be deleted; nothing can renew it";
        return Err(Error::new(Code::Condemned, text));
    }
    if !instance.is_committed() {
        return Err(coming_up(id));
    }
    Ok(instance)
}
