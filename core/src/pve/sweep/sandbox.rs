//! Sandboxes in a sweep.

use super::{
    Verdict, action, report,
    suspended::{overdue, renew, was_resumed},
    swap, verdict,
};
use crate::{
    error::{Code, Error},
    io::Io,
    pve::{
        cluster::Cluster,
        create::carry_on,
        guest::{
            Located,
            condition::{Condition, condition},
            destroy::destroy_or_stop,
            located::was_destroyed,
            repair,
            stale::refuse_locked,
        },
        marks::{self, Mark, Phase, Want, lifetime},
        power::halt,
    },
    sandbox::{OnExpiry, id::Kind, power::Keeps, sweep::Action},
};

/// How long a guest that the sweep stops may take.
const SHUTDOWN_SECONDS: u32 = 20;

/// Does what is due for a sandbox; `running` is what the listing says of it.
pub(super) async fn tend_sandbox<I: Io>(
    cluster: &Cluster<'_, I>,
    found: Located,
    running: bool,
    dry_run: bool,
) -> Option<Action> {
    let (now, kept) = (cluster.now(), cluster.settings.limits.stopped_max_seconds);
    let mut due = verdict(&found.mark, found.committed, running, now, kept);
    // One whose time is over for good was woken by a sweep, to be condemned.
    let is_awake =
        found.mark.is_suspension() && running && found.config.lock.is_none() && due != Verdict::Condemn;
    if is_awake && was_resumed(cluster, &found).await {
        return Some(renew(cluster, &found, dry_run).await);
    }
    // What runs is up to 15 s old in a listing: one that was just started is not started again.
    let seen = match due {
        Verdict::Finish if found.committed => condition(cluster, &found).await,
        _ => Ok(Condition::Stopped),
    };
    let seen = match seen {
        Ok(seen) => seen,
        Err(error) => return Some(report(found.mark.vmid, error.to_string())),
    };
    if due == Verdict::Leave && (repair::is_due(&found, cluster.now()) || is_mistagged(&found)) {
        due = Verdict::Finish;
    }
    if due == Verdict::Leave {
        return None;
    }
    if found.config.is_suspended() {
        return overdue(cluster, &found, due, dry_run).await;
    }
    if let Some(lock) = &found.config.lock {
        let reason = refuse_locked(cluster, &found, lock).await?;
        return Some(action(&found, "report", reason));
    }
    let why = reason_for(&found.mark, found.committed, due);
    let mut done = action(&found, due.name(), why);
    if !dry_run && let Err(error) = act(cluster, found, seen, due).await {
        done.reason = format!("{}; failed: {error}", done.reason);
    }
    Some(done)
}

fn reason_for(mark: &Mark, committed: bool, due: Verdict) -> String {
    match due {
        Verdict::Delete => "condemned by an earlier sweep".into(),
        Verdict::Finish if mark.phase == Phase::Claimed => "its creation was interrupted".into(),
        Verdict::Finish if mark.phase == Phase::Committed => "it is coming up, or was to".into(),
        Verdict::Finish => "its tags, or its state, are not what its notes say".into(),
        _ if !committed => "its creation was given up".into(),
        Verdict::Condemn if mark.on_expiry != OnExpiry::Delete || lifetime::stopped_at(mark).is_some() => {
            "expired, and kept for as long as is set".into()
        }
        _ => "expired".into(),
    }
}

async fn act<I: Io>(
    cluster: &Cluster<'_, I>,
    found: Located,
    seen: Condition,
    due: Verdict,
) -> Result<(), Error> {
    let now = cluster.now();
    match due {
        Verdict::Leave => Ok(()),
        Verdict::Finish => go_on(cluster, found, seen).await,
        Verdict::Delete => Ok(destroy_or_stop(cluster, &found).await.map(|_| ())?),
        Verdict::Condemn => {
            swap(cluster, &found, &|mark| {
                mark.want = Want::Gone;
                mark.env = None;
                mark.doing = None;
                mark.expires = Some(now.unix_timestamp());
            })
            .await
        }
        Verdict::Stop => {
            swap(cluster, &found, &|mark| mark.want = Want::Off).await?;
            halt(cluster, &found, Some(SHUTDOWN_SECONDS), cluster.at_once()).await.map(|_| ())
        }
        // What could not be suspended by an earlier run is stopped.
        Verdict::Pause if found.mark.kind == Kind::Qemu && !was_to_be_suspended(&found.mark) => {
            swap(cluster, &found, &|mark| {
                mark.want = Want::Paused;
                mark.keeps = Some(Keeps::Memory);
                mark.changed = Some(now.unix_timestamp());
            })
            .await?;
            cluster.send(found.api(cluster).suspend()).await?;
            Ok(())
        }
        Verdict::Pause => {
            swap(cluster, &found, &|mark| {
                mark.want = Want::Paused;
                mark.keeps = Some(Keeps::Disk);
            })
            .await?;
            halt(cluster, &found, Some(SHUTDOWN_SECONDS), cluster.at_once()).await.map(|_| ())
        }
    }
}

/// Whether a sweep has meant to suspend it already. A pause of its owner's that was never begun was
/// written before its expiry.
fn was_to_be_suspended(mark: &Mark) -> bool {
    mark.is_suspension() && lifetime::stopped_at(mark) >= mark.expires
}

/// Does the next missing thing.
async fn go_on<I: Io>(cluster: &Cluster<'_, I>, found: Located, seen: Condition) -> Result<(), Error> {
    if !found.committed && was_destroyed(cluster, &found.node, &found.mark).await? {
        let text = "its owner has deleted it, and a late clone brought it back; it is removed when it is old";
        return Err(Error::new(Code::Condemned, text));
    }
    if is_mistagged(&found) && !repair::is_due(&found, cluster.now()) {
        return swap(cluster, &found, &|_| {}).await;
    }
    let found = repair::settle(cluster, found).await?;
    carry_on(cluster, found, seen, false, cluster.at_once()).await.map(|_| ())
}

/// Whether somebody else's hand has changed the tags alone, so that listings do not show the guest as it is
/// (rule S4.7).
fn is_mistagged(found: &Located) -> bool {
    found.committed && found.mark.doing.is_none() && !marks::agree(&found.mark, found.tags())
}
