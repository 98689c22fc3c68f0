//! Pause, resume and reboot. A pause keeps the memory; Morph has no stopped state.

use serde_json::Value;

use super::{
    Cloud, MorphError,
    change::{find_changeable, set_ttl},
    exec::{not_running, run_first_command, still_creating},
    instance::{Instance, Status, reread},
};
use crate::{
    access::keys::Caller,
    error::{Code, Error},
    io::{Io, call::Call, deadline::Deadline, pace},
    sandbox::{
        command::ExecRequest,
        id::{MorphId, not_found},
        lifetime::{self, Ttl},
        power::{Did, Keeps, PauseBody, Powered, StartBody},
    },
};

/// Resumes a sandbox, if it is paused, and gives it its time again.
pub async fn resume<I: Io>(
    cloud: &Cloud<'_, I>,
    caller: &Caller,
    id: &MorphId,
    body: &StartBody,
    deadline: Deadline<'_, I>,
) -> Result<Powered, Error> {
    let asked = body.ttl_seconds.map(|it| Ttl::parse(it, &cloud.settings.limits)).transpose()?;
    let instance = find_settled(cloud, caller, id, deadline).await?;
    let paused = match instance.status {
        Status::Paused => true,
        Status::Ready => false,
        Status::Pending => return Err(still_creating(id)),
        Status::Error => return Err(not_running(&instance)),
    };
    let gets_time = asked.is_some() || (instance.timed && (paused || instance.is_expired(cloud.now())));
    // The time comes first, so that Morph knows it before anything runs.
    if gets_time {
        let seconds = renew_time(cloud, &instance, asked, paused).await?;
        set_ttl(cloud, id, seconds, instance.record.on_expiry()).await?;
    }
    if !paused {
        return Ok(cloud.powered(Did::Nothing, true, None, &reread(cloud, &instance).await?));
    }
    let sent = send_order(cloud, cloud.morph.power(id, "resume"), &instance).await;
    if sent.is_err() && gets_time {
        // Morph has refused: the instance stays paused, and gets the time back that it had before.
        let before = seconds_left(cloud, &instance).or(instance.timed.then_some(stopped_max(cloud)));
        let _ = set_ttl(cloud, id, before, instance.on_expiry()).await;
    }
    let (instance, finished) = wait_for_status(cloud, sent?, instance, Status::Ready, deadline).await?;
    Ok(cloud.powered(Did::Resumed, finished, None, &instance))
}

/// Writes the span that a resume gives into the record, and returns the seconds from now that Morph gets: the longer of
/// the span and the time that was left at the pause. Nothing was left if Morph itself has paused the instance.
async fn renew_time<I: Io>(
    cloud: &Cloud<'_, I>,
    instance: &Instance,
    asked: Option<Ttl>,
    paused: bool,
) -> Result<Option<i64>, Error> {
    let mut record = instance.record.clone();
    let span = asked.unwrap_or_else(|| record.span(&cloud.settings.limits));
    let left = match (instance.timed, paused) {
        (false, _) => None,
        (true, true) => Some(record.seconds_left().unwrap_or(0)),
        (true, false) => Some(seconds_left(cloud, instance).unwrap_or(0)),
    };
    record.set_span(span);
    for name in ["left", "paused"] {
        record.set(name, None);
    }
    if record != instance.record {
        cloud.send(cloud.morph.set_metadata(&instance.id, &record)).await?;
    }
    Ok(lifetime::expiry_after_start(span, left, 0, &cloud.settings.limits))
}

/// Pauses a sandbox with its memory. Morph keeps it for `EDGE_STOPPED_MAX_SECONDS`, or until its expiry if that is
/// later; the running time that is left is written into the record before.
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
    let instance = find_settled(cloud, caller, id, deadline).await?;
    let keeps = Some(Keeps::Memory);
    match instance.status {
        Status::Ready => {}
        Status::Paused => return Ok(cloud.powered(Did::Nothing, true, keeps, &instance)),
        Status::Pending => return Err(still_creating(id)),
        Status::Error => return Err(not_running(&instance)),
    }
    let (stopped_max, seconds_left) = (stopped_max(cloud), seconds_left(cloud, &instance));
    let mut record = instance.record.clone();
    // An earlier pause that was not executed may have given Morph more time than is left.
    let left = seconds_left.map(|it| record.seconds_left().map_or(it, |before| it.min(before)));
    record.set("left", left.map(|it| it.to_string()));
    record.set("paused", Some(cloud.now().unix_timestamp().to_string()));
    if record != instance.record {
        cloud.send(cloud.morph.set_metadata(id, &record)).await?;
    }
    let is_prolonged = seconds_left.is_some_and(|it| it < stopped_max);
    if is_prolonged {
        set_ttl(cloud, id, Some(stopped_max), instance.on_expiry()).await?;
    }
    let sent = send_order(cloud, cloud.morph.power(id, "pause"), &instance).await;
    if is_prolonged && sent.is_err() {
        // Morph has refused: the instance runs on, and gets the time back that it had before.
        let _ = set_ttl(cloud, id, seconds_left, instance.on_expiry()).await;
    }
    let (instance, finished) = wait_for_status(cloud, sent?, instance, Status::Paused, deadline).await?;
    Ok(cloud.powered(Did::Paused, finished, keeps, &instance))
}

/// Reboots a running sandbox; a paused one is refused, not resumed.
pub async fn reboot<I: Io>(
    cloud: &Cloud<'_, I>,
    caller: &Caller,
    id: &MorphId,
    deadline: Deadline<'_, I>,
) -> Result<Powered, Error> {
    let instance = find_usable(cloud, caller, id).await?;
    match instance.status {
        Status::Ready => {}
        Status::Pending => return Err(still_creating(id)),
        _ => return Err(not_running(&instance)),
    }
    let call = cloud.morph.power(id, "reboot");
    match cloud.send(call).await {
        Ok(_) => {}
        Err(error) if error.is_missing() => return Err(not_found(id)),
        Err(error) => return Err(error.into()),
    }
    let mut wait = deadline.keeping(2).paced(pace::MORPH);
    loop {
        wait.pause().await;
        let now = reread(cloud, &instance).await?;
        let up = now.status == Status::Ready
            && run_first_command(cloud, id, &ExecRequest::nothing()).await == Some(0);
        if up || wait.is_over() {
            return Ok(cloud.powered(Did::Rebooted, up, None, &now));
        }
    }
}

/// Finds a sandbox that a power action may change.
async fn find_usable<I: Io>(cloud: &Cloud<'_, I>, caller: &Caller, id: &MorphId) -> Result<Instance, Error> {
    let instance = find_changeable(cloud, caller, id).await?;
    if instance.is_over(cloud.now()) { Err(not_found(id)) } else { Ok(instance) }
}

/// Seconds that a paused sandbox is kept at least.
fn stopped_max<I: Io>(cloud: &Cloud<'_, I>) -> i64 {
    i64::from(cloud.settings.limits.stopped_max_seconds)
}

/// Seconds until the expiry, where Morph tells that.
fn seconds_left<I: Io>(cloud: &Cloud<'_, I>, instance: &Instance) -> Option<i64> {
    instance.expires.map(|it| (it - cloud.now().unix_timestamp()).max(1))
}

/// Finds a sandbox that a power action may change, and waits while Morph saves it for a snapshot or a pause: only after
/// that it is known what the action would do.
async fn find_settled<I: Io>(
    cloud: &Cloud<'_, I>,
    caller: &Caller,
    id: &MorphId,
    deadline: Deadline<'_, I>,
) -> Result<Instance, Error> {
    let mut instance = find_usable(cloud, caller, id).await?;
    let mut wait = deadline.keeping(5).paced(pace::MORPH);
    while instance.is_saving {
        if !wait.pause().await {
            let text = format!("Morph is saving {}; ask again", instance.id);
            return Err(Error::new(Code::Conflict, text).retry_after(2));
        }
        instance = reread(cloud, &instance).await?;
    }
    Ok(instance)
}

/// Sends a power action once. `Err` is a refusal. `Ok(Some(_))` says why it is not known whether Morph executes the
/// action: no answer came, or another action was faster.
async fn send_order<I: Io>(
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

/// Waits until the instance has the status that the action leads to, and tells whether it has. At the end of the wait a
/// `doubt` about the action is the error.
async fn wait_for_status<I: Io>(
    cloud: &Cloud<'_, I>,
    doubt: Option<MorphError>,
    mut instance: Instance,
    wanted: Status,
    deadline: Deadline<'_, I>,
) -> Result<(Instance, bool), Error> {
    let mut wait = deadline.keeping(2).paced(pace::MORPH);
    loop {
        instance = reread(cloud, &instance).await?;
        if instance.status == wanted {
            return Ok((instance, true));
        }
        if !wait.pause().await {
            return doubt.map_or(Ok((instance, false)), |error| Err(error.into()));
        }
    }
}
