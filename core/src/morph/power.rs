//! Pausing, resuming and rebooting. Memory is kept; Morph has no stopped state.

use std::time::Duration;

use serde_json::Value;

use super::{
    Cloud, MorphError,
    change::{changeable, set_ttl},
    exec::{coming_up, first, not_running},
    instance::{Instance, Status, again},
};
use crate::{
    access::keys::Caller,
    error::{Code, Error},
    io::{Io, call::Call, deadline::Deadline},
    sandbox::{
        command::ExecRequest,
        id::{MorphId, not_found},
        lifetime::{self, Ttl},
        power::{Did, Keeps, PauseBody, Powered, StartBody},
    },
};

/// Resumes it, where it is paused, and gives it its time again.
pub async fn resume<I: Io>(
    cloud: &Cloud<'_, I>,
    caller: &Caller,
    id: &MorphId,
    body: &StartBody,
    deadline: Deadline<'_, I>,
) -> Result<Powered, Error> {
    let said = body.ttl_seconds.map(|it| Ttl::parse(it, &cloud.settings.limits)).transpose()?;
    let instance = settled(cloud, usable(cloud, caller, id).await?, deadline).await?;
    let paused = match instance.status {
        Status::Paused => true,
        Status::Ready => false,
        Status::Pending => return Err(coming_up(id)),
        Status::Error => return Err(not_running(&instance)),
    };
    let given = said.is_some() || (instance.timed && (paused || instance.is_expired(cloud.now())));
    // Before anything runs: what it runs for is then known to Morph.
    if given {
        let seconds = again_given(cloud, &instance, said, paused).await?;
        set_ttl(cloud, id, seconds, instance.record.on_expiry()).await?;
    }
    if !paused {
        return Ok(cloud.powered(Did::Nothing, true, None, &again(cloud, &instance).await?));
    }
    let taken = give(cloud, cloud.morph.power(id, "resume"), &instance).await;
    if taken.is_err() && given {
        // Morph said no: it stays paused, for as long as it was to.
        let before = rest(cloud, &instance).or(instance.timed.then_some(kept(cloud)));
        let _ = set_ttl(cloud, id, before, instance.on_expiry()).await;
    }
    let (instance, finished) = reached(cloud, taken?, instance, Status::Ready, deadline).await?;
    Ok(cloud.powered(Did::Resumed, finished, None, &instance))
}

/// The seconds that a resume gives, and what it keeps of them: the later of the span and what was
/// left, where a pause of ours has written that. Morph's own pause comes when nothing is left.
async fn again_given<I: Io>(
    cloud: &Cloud<'_, I>,
    instance: &Instance,
    said: Option<Ttl>,
    paused: bool,
) -> Result<Option<i64>, Error> {
    let mut record = instance.record.clone();
    let span = said.unwrap_or_else(|| record.span(&cloud.settings.limits));
    let left = match (instance.timed, paused) {
        (false, _) => None,
        (true, true) => Some(record.left().unwrap_or(0)),
        (true, false) => Some(rest(cloud, instance).unwrap_or(0)),
    };
    record.set_span(span);
    for ours in ["left", "paused"] {
        record.set(ours, None);
    }
    if record != instance.record {
        cloud.send(cloud.morph.set_metadata(&instance.id, &record)).await?;
    }
    Ok(lifetime::resumed(span, left, 0, &cloud.settings.limits))
}

/// Pauses it, with its memory. It is kept for as long as is set, or its time is longer; what was
/// left of that is written before.
pub async fn pause<I: Io>(
    cloud: &Cloud<'_, I>,
    caller: &Caller,
    id: &MorphId,
    body: &PauseBody,
    deadline: Deadline<'_, I>,
) -> Result<Powered, Error> {
    if body.keeps == Some(Keeps::Disk) {
        let text = "Morph keeps the memory of what it pauses: leave keeps out, or say memory";
        return Err(Error::new(Code::Unsupported, text));
    }
    let instance = settled(cloud, usable(cloud, caller, id).await?, deadline).await?;
    let keeps = Some(Keeps::Memory);
    match instance.status {
        Status::Ready => {}
        Status::Paused => return Ok(cloud.powered(Did::Nothing, true, keeps, &instance)),
        Status::Pending => return Err(coming_up(id)),
        Status::Error => return Err(not_running(&instance)),
    }
    let (kept, rest) = (kept(cloud), rest(cloud, &instance));
    let mut record = instance.record.clone();
    // A pause that was begun before, and not done, has given it more time than it has left.
    let left = rest.map(|it| record.left().map_or(it, |before| it.min(before)));
    record.set("left", left.map(|it| it.to_string()));
    record.set("paused", Some(cloud.now().unix_timestamp().to_string()));
    if record != instance.record {
        cloud.send(cloud.morph.set_metadata(id, &record)).await?;
    }
    let longer = rest.is_some_and(|it| it < kept);
    if longer {
        set_ttl(cloud, id, Some(kept), instance.on_expiry()).await?;
    }
    let given = give(cloud, cloud.morph.power(id, "pause"), &instance).await;
    if longer && given.is_err() {
        // Morph said no: it runs on, for as long as it was to.
        let _ = set_ttl(cloud, id, rest, instance.on_expiry()).await;
    }
    let (instance, finished) = reached(cloud, given?, instance, Status::Paused, deadline).await?;
    Ok(cloud.powered(Did::Paused, finished, keeps, &instance))
}

/// Reboots it; what is paused is not resumed by it.
pub async fn reboot<I: Io>(
    cloud: &Cloud<'_, I>,
    caller: &Caller,
    id: &MorphId,
    deadline: Deadline<'_, I>,
) -> Result<Powered, Error> {
    let instance = usable(cloud, caller, id).await?;
    match instance.status {
        Status::Ready => {}
        Status::Pending => return Err(coming_up(id)),
        _ => return Err(not_running(&instance)),
    }
    let call = cloud.morph.power(id, "reboot");
    match cloud.send(call).await {
        Ok(_) => {}
        Err(error) if error.is_missing() => return Err(not_found(id)),
        Err(error) => return Err(error.into()),
    }
    let mut pause = Duration::from_millis(500);
    loop {
        deadline.pause(pause).await;
        pause = (pause * 3 / 2).min(Duration::from_secs(3));
        let now = again(cloud, &instance).await?;
        let up = now.status == Status::Ready && first(cloud, id, &ExecRequest::nothing()).await == Some(0);
        if up || deadline.keeping(2).is_over() {
            return Ok(cloud.powered(Did::Rebooted, up, None, &now));
        }
    }
}

/// A sandbox that can be given an order.
async fn usable<I: Io>(cloud: &Cloud<'_, I>, caller: &Caller, id: &MorphId) -> Result<Instance, Error> {
    let instance = changeable(cloud, caller, id).await?;
    if instance.is_over(cloud.now()) { Err(not_found(id)) } else { Ok(instance) }
}

/// How long what is paused is kept at least.
fn kept<I: Io>(cloud: &Cloud<'_, I>) -> i64 {
    i64::from(cloud.settings.limits.stopped_max_seconds)
}

/// Seconds until its time is up, where Morph tells when that is.
fn rest<I: Io>(cloud: &Cloud<'_, I>, instance: &Instance) -> Option<i64> {
    instance.expires.map(|it| (it - cloud.now().unix_timestamp()).max(1))
}

/// Waits while Morph saves it, for a snapshot or because it is being paused: only then
/// it is known what an order would do.
async fn settled<I: Io>(
    cloud: &Cloud<'_, I>,
    mut instance: Instance,
    deadline: Deadline<'_, I>,
) -> Result<Instance, Error> {
    let mut pause = Duration::from_millis(500);
    while instance.is_saving {
        if deadline.keeping(5).is_over() {
            let text = format!("Morph is saving {}; ask again", instance.id);
            return Err(Error::new(Code::Conflict, text).retry_after(2));
        }
        deadline.pause(pause).await;
        pause = (pause * 3 / 2).min(Duration::from_secs(3));
        instance = again(cloud, &instance).await?;
    }
    Ok(instance)
}

/// Gives an order, once. An error is a refusal; what is given back is why
/// nobody knows whether it was taken: no answer, or another order was faster.
async fn give<I: Io>(
    cloud: &Cloud<'_, I>,
    call: Call<Value>,
    instance: &Instance,
) -> Result<Option<MorphError>, Error> {
    match cloud.send(call).await {
        Ok(_) => Ok(None),
        Err(error) if error.is_missing() => Err(not_found(&instance.id)),
        Err(error) if error.may_be_executed() || error.is_conflict() => Ok(Some(error)),
        Err(error) => Err(error.into()),
    }
}

/// Waits until the state is what was ordered.
async fn reached<I: Io>(
    cloud: &Cloud<'_, I>,
    doubt: Option<MorphError>,
    mut instance: Instance,
    wanted: Status,
    deadline: Deadline<'_, I>,
) -> Result<(Instance, bool), Error> {
    let mut pause = Duration::from_millis(500);
    loop {
        instance = again(cloud, &instance).await?;
        if instance.status == wanted {
            return Ok((instance, true));
        }
        if deadline.keeping(2).is_over() {
            return doubt.map_or(Ok((instance, false)), |error| Err(error.into()));
        }
        deadline.pause(pause).await;
        pause = (pause * 3 / 2).min(Duration::from_secs(3));
    }
}
