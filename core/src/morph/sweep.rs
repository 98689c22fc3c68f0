//! The sweep: what nobody asks for again is brought to its end.
//!
//! Morph has no compare-and-swap, so nothing is deleted on one look: a run
//! condemns, and one at least a minute later reads again and deletes only what
//! is still due. By then every request has ended that did not see it condemned.

use std::time::Duration;

use time::OffsetDateTime;

use super::{
    Cloud,
    change::set_ttl,
    instance::{Instance, Status, again, listed},
    read::is_second,
};
use crate::{
    error::Error,
    io::Io,
    sandbox::{
        FINISH_SECONDS, OnExpiry,
        sweep::{Action, Report},
    },
};

/// So long after it was condemned its owner's late requests have been answered.
const CONDEMNED_SECONDS: i64 = 60;
/// Morph pauses within a minute of the expiry.
const PAUSE_SECONDS: i64 = 60;
/// By then every request has ended that may still finish it.
const GIVEN_UP_SECONDS: i64 = FINISH_SECONDS + 60;
/// Whoever made a second instance of a key has removed it by then.
const SECOND_SECONDS: i64 = 60;

/// What is due for an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Leave,
    /// Morph has not.
    Pause,
    /// It is paused, and Morph tells no time for it any more.
    Time,
    Condemn(&'static str),
    /// An earlier run condemned it, and it is still due.
    Delete,
    /// An earlier run condemned it, and it was renewed at that moment.
    Spare,
}

/// Why it shall be deleted, if it shall.
fn due(instance: &Instance, second: bool, now: OffsetDateTime, kept: u32) -> Option<&'static str> {
    let over = instance.expires.map(|it| now.unix_timestamp() - it).filter(|it| *it >= 0);
    match over {
        _ if second && instance.age(now) >= SECOND_SECONDS => {
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

fn verdict(instance: &Instance, second: bool, now: OffsetDateTime, kept: u32) -> Verdict {
    let seconds = now.unix_timestamp();
    let due = due(instance, second, now, kept);
    match (instance.condemned(), due) {
        (Some(since), Some(_)) if seconds - since >= CONDEMNED_SECONDS => Verdict::Delete,
        (Some(_), Some(_)) => Verdict::Leave,
        (Some(_), None) => Verdict::Spare,
        (None, Some(why)) => Verdict::Condemn(why),
        (None, None) => match instance.status {
            Status::Ready if instance.expires.is_some_and(|it| seconds - it >= PAUSE_SECONDS) => {
                Verdict::Pause
            }
            Status::Paused if instance.timed && instance.expires.is_none() => Verdict::Time,
            _ => Verdict::Leave,
        },
    }
}

/// One sweep, within its budget.
pub async fn sweep<I: Io>(cloud: &Cloud<'_, I>, dry_run: bool) -> Result<Report, Error> {
    let before = cloud.left();
    let budget = cloud.settings.limits.sweep_requests.min(before);
    let all = listed(cloud, &[]).await?;
    let mut report = Report { dry_run, actions: Vec::new(), more: false };
    // Not always from the first one: a sweep that cannot get through shall not starve the last.
    let [a, b, ..] = cloud.seed;
    let start = usize::from(u16::from_be_bytes([a, b])) % all.len().max(1);
    for instance in all.iter().cycle().skip(start).take(all.len()) {
        let second = is_second(&all, instance);
        let kept = cloud.settings.limits.stopped_max_seconds;
        if verdict(instance, second, cloud.now(), kept) == Verdict::Leave {
            continue;
        }
        let late = cloud.now() + Duration::from_secs(10) > cloud.end();
        if before.saturating_sub(cloud.left()) + 4 > budget || late {
            report.more = true;
            break;
        }
        if let Some(action) = tend(cloud, instance, second, dry_run).await {
            tracing::info!(id = %instance.id, action = action.action, reason = %action.reason, "sweep");
            report.actions.push(action);
        }
    }
    Ok(report)
}

/// Reads one again and does what is due then.
async fn tend<I: Io>(cloud: &Cloud<'_, I>, listed: &Instance, second: bool, dry_run: bool) -> Option<Action> {
    let id = Some(listed.id.to_string());
    let instance = match again(cloud, listed).await {
        Ok(instance) => instance,
        Err(error) if error.code() == crate::error::Code::NotFound => return None,
        Err(error) => return Some(Action { vmid: None, id, action: "report", reason: error.to_string() }),
    };
    let kept = cloud.settings.limits.stopped_max_seconds;
    let due = verdict(&instance, second && !instance.is_committed(), cloud.now(), kept);
    let (action, why) = match due {
        Verdict::Leave => return None,
        Verdict::Pause => ("pause", "expired"),
        Verdict::Time => ("finish", "paused, and its time is not known: it is given the longest"),
        Verdict::Condemn(why) => ("condemn", why),
        Verdict::Delete => ("delete", "condemned by an earlier sweep"),
        Verdict::Spare => ("finish", "condemned, and renewed at that moment: it stays"),
    };
    let done = if dry_run { Ok(()) } else { act(cloud, &instance, due).await };
    let reason = match done {
        Ok(()) => why.to_owned(),
        Err(error) => format!("{why}; failed: {error}"),
    };
    Some(Action { vmid: None, id, action, reason })
}

async fn act<I: Io>(cloud: &Cloud<'_, I>, instance: &Instance, due: Verdict) -> Result<(), Error> {
    let id = &instance.id;
    let mut record = instance.record.clone();
    let call = match due {
        Verdict::Leave => return Ok(()),
        Verdict::Pause => cloud.morph.power(id, "pause"),
        Verdict::Time => {
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
