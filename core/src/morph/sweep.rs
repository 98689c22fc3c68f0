//! The sweep: it ends expired sandboxes and given-up creations that nobody asks for again.
//!
//! Morph has no compare-and-swap, so one run deletes nothing that it has found:
//!
//! 1. A run condemns the sandbox in its record. From now on requests refuse it.
//! 2. Within a minute each request has ended that had read the sandbox before.
//! 3. A run at least a minute later reads the sandbox again, and deletes it if it is still due.

use std::time::Duration;

use time::OffsetDateTime;

use super::{
    Cloud,
    change::set_ttl,
    instance::{Instance, Status, list_instances, reread},
    read::is_duplicate,
};
use crate::{
    error::Error,
    io::Io,
    sandbox::{
        FINISH_SECONDS, OnExpiry,
        sweep::{Action, Report},
    },
};

/// Seconds from the condemnation until every request has ended that had read the sandbox before.
const CONDEMNED_SECONDS: i64 = 60;
/// Seconds from the expiry within which Morph itself pauses an instance.
const PAUSE_SECONDS: i64 = 60;
/// Seconds from the creation after which no request finishes the sandbox any more.
const GIVEN_UP_SECONDS: i64 = FINISH_SECONDS + 60;
/// Seconds from the creation within which the request that has made a duplicate of a key's sandbox deletes it.
const DUPLICATE_SECONDS: i64 = 60;

/// Action that is due for an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Leave,
    /// It has expired, and Morph has not paused it.
    Pause,
    /// It is paused, and Morph tells no expiry for it any more.
    SetTime,
    Condemn(&'static str),
    /// An earlier run has condemned it, and it is still due.
    Delete,
    /// An earlier run has condemned it while its owner has renewed it.
    Spare,
}

/// Says why an instance is to be deleted; `None` when it stays.
fn reason_to_delete(
    instance: &Instance,
    second: bool,
    now: OffsetDateTime,
    kept: u32,
) -> Option<&'static str> {
    let over = instance.expires.map(|it| now.unix_timestamp() - it).filter(|it| *it >= 0);
    match over {
        _ if second && instance.age(now) >= DUPLICATE_SECONDS => {
            Some("another was made with its Idempotency-Key")
        }
        _ if !instance.is_committed() && instance.age(now) >= GIVEN_UP_SECONDS => {
            Some("its creation was given up")
        }
        Some(_) if instance.on_expiry() == OnExpiry::Delete => Some("expired"),
        Some(since) if since >= i64::from(kept) => Some("expired, and kept for as long as is set"),
        _ => None,
    }
}

/// Decides on an instance. `second` says that it is a duplicate of its key's sandbox; `kept` is
/// `EDGE_STOPPED_MAX_SECONDS`.
fn verdict(instance: &Instance, second: bool, now: OffsetDateTime, kept: u32) -> Verdict {
    let seconds = now.unix_timestamp();
    let due = reason_to_delete(instance, second, now, kept);
    match (instance.condemned(), due) {
        (Some(since), Some(_)) if seconds - since >= CONDEMNED_SECONDS => Verdict::Delete,
        (Some(_), Some(_)) => Verdict::Leave,
        (Some(_), None) => Verdict::Spare,
        (None, Some(why)) => Verdict::Condemn(why),
        (None, None) => match instance.status {
            Status::Ready if instance.expires.is_some_and(|it| seconds - it >= PAUSE_SECONDS) => {
                Verdict::Pause
            }
            Status::Paused if instance.timed && instance.expires.is_none() => Verdict::SetTime,
            _ => Verdict::Leave,
        },
    }
}

/// Sweeps once, within its budget of requests.
pub async fn sweep<I: Io>(cloud: &Cloud<'_, I>, dry_run: bool) -> Result<Report, Error> {
    let before = cloud.left();
    let budget = cloud.settings.limits.sweep_requests.min(before);
    let all = list_instances(cloud, &[]).await?;
    let mut report = Report { dry_run, actions: Vec::new(), more: false };
    // Start at a random instance, so that a small budget starves none.
    let [a, b, ..] = cloud.seed;
    let start = usize::from(u16::from_be_bytes([a, b])) % all.len().max(1);
    for instance in all.iter().cycle().skip(start).take(all.len()) {
        let second = is_duplicate(&all, instance);
        let kept = cloud.settings.limits.stopped_max_seconds;
        if verdict(instance, second, cloud.now(), kept) == Verdict::Leave {
            continue;
        }
        let late = cloud.now() + Duration::from_secs(10) > cloud.end();
        if before.saturating_sub(cloud.left()) + 4 > budget || late {
            report.more = true;
            break;
        }
        if let Some(action) = handle_instance(cloud, instance, second, dry_run).await {
            tracing::info!(id = %instance.id, action = action.action, reason = %action.reason, "sweep");
            report.actions.push(action);
        }
    }
    Ok(report)
}

/// Reads an instance again and does the action that is due for it then.
async fn handle_instance<I: Io>(
    cloud: &Cloud<'_, I>,
    listed: &Instance,
    second: bool,
    dry_run: bool,
) -> Option<Action> {
    let id = Some(listed.id.to_string());
    let instance = match reread(cloud, listed).await {
        Ok(instance) => instance,
        Err(error) if error.code() == crate::error::Code::NotFound => return None,
        Err(error) => return Some(Action { vmid: None, id, action: "report", reason: error.to_string() }),
    };
    let kept = cloud.settings.limits.stopped_max_seconds;
    let due = verdict(&instance, second && !instance.is_committed(), cloud.now(), kept);
    let (action, why) = match due {
        Verdict::Leave => return None,
        Verdict::Pause => ("pause", "expired"),
        Verdict::SetTime => ("finish", "paused, and its time is not known: it is given the longest"),
        Verdict::Condemn(why) => ("condemn", why),
        Verdict::Delete => ("delete", "condemned by an earlier sweep"),
        Verdict::Spare => ("finish", "condemned, and renewed at that moment: it stays"),
    };
    let done = if dry_run { Ok(()) } else { carry_out(cloud, &instance, due).await };
    let reason = match done {
        Ok(()) => why.to_owned(),
        Err(error) => format!("{why}; failed: {error}"),
    };
    Some(Action { vmid: None, id, action, reason })
}

/// Carries out the action on an instance.
async fn carry_out<I: Io>(cloud: &Cloud<'_, I>, instance: &Instance, due: Verdict) -> Result<(), Error> {
    let id = &instance.id;
    let mut record = instance.record.clone();
    let call = match due {
        Verdict::Leave => return Ok(()),
        Verdict::Pause => cloud.morph.power(id, "pause"),
        Verdict::SetTime => {
            let kept = i64::from(cloud.settings.limits.stopped_max_seconds);
            return set_ttl(cloud, id, Some(kept), OnExpiry::Delete).await;
        }
        Verdict::Condemn(_) => {
            record.set("gone", Some(cloud.now().unix_timestamp().to_string()));
            cloud.morph.set_metadata(id, &record)
        }
        Verdict::Spare => {
            record.set("gone", None);
            cloud.morph.set_metadata(id, &record)
        }
        Verdict::Delete => cloud.morph.stop(id),
    };
    Ok(cloud.send(call).await.map(|_| ())?)
}
