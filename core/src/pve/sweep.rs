//! The sweep: what nobody asks for again is brought to its end.
//!
//! One listing, one read for each unmarked guest of our range, at most two requests in a run for each guest
//! that needs something. A guest is deleted only by a later run than the one that condemned it by
//! compare-and-swap, so nothing that was renewed or committed meanwhile is ever deleted, and two sweeps at
//! once are harmless (rule S4.1).

mod stale;
mod suspended;
mod template;

use std::time::Duration;

use time::OffsetDateTime;

use self::{
    stale::{crashed, locked},
    suspended::{overdue, renew, was_resumed},
    template::tend_template,
};
use super::{
    api::config::Config,
    cluster::Cluster,
    create::carry_on,
    guest::{
        commit,
        condition::{Condition, condition},
        destroy::destroy,
        place::{Place, was_destroyed},
        repair,
    },
    inventory::{Guest, Inventory},
    marks::{
        self, Mark, Phase, Reading, Role, Want,
        lifetime::{self, Time},
        state::{is_coming_up, is_unproved, never_came_up},
    },
    power::halt,
};
use crate::{
    error::{Code, Error},
    io::Io,
    sandbox::{
        FINISH_SECONDS, OnExpiry,
        id::Kind,
        power::Keeps,
        sweep::{Action, Report},
    },
};

/// So long after it was condemned its owner's late requests have been answered.
const CONDEMNED_SECONDS: i64 = 60;
/// How long a guest that the sweep stops may take.
const SHUTDOWN_SECONDS: u32 = 20;

/// What is due for a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Leave,
    /// It is half made: somebody should go on.
    Finish,
    /// Its time is up, and it shall be stopped.
    Stop,
    /// Its time is up, and it shall be paused.
    Pause,
    /// It shall be deleted, by a later run.
    Condemn,
    /// An earlier run condemned it.
    Delete,
}

/// What is due, from nothing but the mark (rule S4.2): the listing's first, the config's before anything is
/// done.
pub fn verdict(mark: &Mark, committed: bool, running: bool, now: OffsetDateTime, kept: u32) -> Verdict {
    // Condemning writes the moment as the expiry.
    let condemned = mark.expires.filter(|_| mark.want == Want::Gone);
    match lifetime::time(mark, now, kept) {
        _ if condemned.is_some_and(|it| now.unix_timestamp().saturating_sub(it) >= CONDEMNED_SECONDS) => {
            Verdict::Delete
        }
        _ if mark.want == Want::Gone => Verdict::Leave,
        _ if !committed && mark.age(now) >= FINISH_SECONDS => Verdict::Condemn,
        Time::Over => Verdict::Condemn,
        // What runs all the same was to be stopped by somebody who died before that.
        Time::Up if committed && (running || (mark.want == Want::On && mark.phase != Phase::Error)) => {
            match (mark.want, mark.on_expiry) {
                (Want::Paused, _) | (Want::On, OnExpiry::Pause) => Verdict::Pause,
                _ => Verdict::Stop,
            }
        }
        _ if is_coming_up(mark, now) => Verdict::Finish,
        // Whether it has come up after all is found out, and then it is ready, or has failed.
        _ if committed && is_unproved(mark, now) && never_came_up(mark) => Verdict::Finish,
        _ => Verdict::Leave,
    }
}

/// One sweep, within its budget.
pub async fn sweep<I: Io>(cluster: &Cluster<'_, I>, dry_run: bool) -> Result<Report, Error> {
    let inventory = Inventory::read(cluster).await?;
    inventory.believe(cluster).await?;
    let spent_before = cluster.left();
    let budget = cluster.settings.limits.sweep_requests.min(cluster.left());
    let mut report = Report { dry_run, actions: Vec::new(), more: false };
    for guest in from_anywhere(cluster, &inventory) {
        if !is_candidate(cluster, guest) {
            continue;
        }
        let late = cluster.now() + Duration::from_secs(10) > cluster.end();
        if spent_before.saturating_sub(cluster.left()) + 4 > budget || late {
            report.more = true;
            break;
        }
        if let Some(action) = tend(cluster, guest, dry_run).await {
            tracing::info!(vmid = u32::from(guest.vmid), action = action.action, reason = %action.reason, "sweep");
            report.actions.push(action);
        }
    }
    Ok(report)
}

/// Not always from the first one: a sweep that cannot get through shall not starve the last (rule S4.3).
fn from_anywhere<'a, I: Io>(
    cluster: &Cluster<'_, I>,
    inventory: &'a Inventory,
) -> impl Iterator<Item = &'a Guest> {
    let count = inventory.guests.len();
    let [a, b, ..] = cluster.seed;
    let start = usize::from(u16::from_be_bytes([a, b])) % count.max(1);
    inventory.guests.iter().cycle().skip(start).take(count)
}

/// Whether the listing gives a reason to look closer.
fn is_candidate<I: Io>(cluster: &Cluster<'_, I>, guest: &Guest) -> bool {
    // A template that is being made; those that are made need nothing.
    if guest.snapshot.is_some() || cluster.settings.template_range.contains(guest.vmid) {
        let condemned = guest.snapshot.as_ref().is_some_and(|it| it.mark.want == Want::Gone);
        return condemned || guest.row.template != Some(true) || guest.is_unoffered();
    }
    match &guest.ours {
        Some(listed) => {
            let running = guest.row.status != "stopped";
            if guest.kind == Kind::Qemu && listed.mark.want == Want::Paused && running {
                return true;
            }
            // What its tags say may be old: the description decides.
            if listed.mark.doing.is_some() {
                return true;
            }
            let kept = cluster.settings.limits.stopped_max_seconds;
            verdict(&listed.mark, true, running, cluster.now(), kept) != Verdict::Leave
        }
        // Ours alone, so a guest there that nobody marked may be one of ours half made (rule S4.4).
        None => cluster.settings.vmid_range.contains(guest.vmid),
    }
}

/// Reads one guest and does what is due.
async fn tend<I: Io>(cluster: &Cluster<'_, I>, guest: &Guest, dry_run: bool) -> Option<Action> {
    let (node, vmid) = (guest.row.node.as_str(), Some(guest.vmid));
    let config = match cluster.send(cluster.pve.guest(node, guest.kind, guest.vmid).config()).await {
        Ok(config) => config,
        Err(error) if error.is_missing() || error.is_final() => return None,
        Err(error) => return Some(Action { vmid, id: None, action: "report", reason: error.to_string() }),
    };
    let reading = Reading::of(guest.vmid, &config);
    let committed = matches!(reading, Reading::Committed(_));
    let mark = match reading {
        Reading::Intent(mark) | Reading::Committed(mark) => mark,
        Reading::Contradiction if guest.ours.is_some() => {
            let reason = "its tags and its notes name different owners: left alone".to_owned();
            return Some(Action { vmid, id: None, action: "report", reason });
        }
        // The last that a destruction leaves of a guest, whosoever it was.
        Reading::Foreign if config.lock.as_deref() == Some("destroyed") => {
            let reason = crashed(cluster, node, (guest.kind, guest.vmid), guest.vmid, "destroyed").await?;
            return Some(Action { vmid, id: None, action: "report", reason });
        }
        _ => return None,
    };
    if mark.deployment != *cluster.settings.deployment {
        return None;
    }
    if mark.role == Role::Template {
        return tend_template(cluster, node, config, mark, dry_run).await;
    }
    let running = guest.row.status != "stopped";
    let mut due =
        verdict(&mark, committed, running, cluster.now(), cluster.settings.limits.stopped_max_seconds);
    // One whose time is over for good was woken by a sweep, to be condemned.
    let is_awake = mark.is_suspension() && running && config.lock.is_none() && due != Verdict::Condemn;
    if is_awake && was_resumed(cluster, node, &mark).await {
        return Some(renew(cluster, node, &config, &mark, dry_run).await);
    }
    // What runs is up to 15 s old in a listing: one that was just started is not started again.
    let seen = match due {
        Verdict::Finish if committed => condition(cluster, node, mark.kind, mark.vmid).await,
        _ => Ok(Condition::Stopped),
    };
    let seen = match seen {
        Ok(seen) => seen,
        Err(error) => return Some(Action { vmid, id: None, action: "report", reason: error.to_string() }),
    };
    let place = Place { node: node.to_owned(), config, mark, committed };
    if due == Verdict::Leave && (repair::is_due(&place, cluster.now()) || is_mistagged(&place)) {
        due = Verdict::Finish;
    }
    let Place { config, mark, .. } = place;
    let action = match due {
        Verdict::Leave => return None,
        Verdict::Finish => "finish",
        Verdict::Stop => "stop",
        Verdict::Pause => "pause",
        Verdict::Condemn => "condemn",
        Verdict::Delete => "delete",
    };
    let id = Some(mark.id().to_string());
    if config.is_suspended() {
        return overdue(cluster, node, &config, &mark, due, dry_run).await;
    }
    if let Some(lock) = &config.lock {
        let reason = locked(cluster, node, &mark, lock).await?;
        return Some(Action { vmid, id, action: "report", reason });
    }
    let why = why(&mark, committed, due);
    let reason = match dry_run {
        true => why,
        false => {
            match act(cluster, Place { node: node.to_owned(), config, mark, committed }, seen, due).await {
                Ok(()) => why,
                Err(error) => format!("{why}; failed: {error}"),
            }
        }
    };
    Some(Action { vmid, id, action, reason })
}

fn why(mark: &Mark, committed: bool, due: Verdict) -> String {
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
    place: Place,
    seen: Condition,
    due: Verdict,
) -> Result<(), Error> {
    let now = cluster.now();
    if due == Verdict::Finish {
        return go_on(cluster, place, seen).await;
    }
    let Place { node, config, mark, .. } = place;
    let node = node.as_str();
    match due {
        Verdict::Leave | Verdict::Finish => Ok(()),
        Verdict::Delete => match destroy(cluster, node, &config, &mark).await {
            // A later run destroys it.
            Err(error) if error.is_running() => {
                cluster.send(cluster.pve.guest(node, mark.kind, mark.vmid).stop()).await?;
                Ok(())
            }
            result => Ok(result.map(|_| ())?),
        },
        Verdict::Condemn => {
            swap(cluster, node, &config, &mark, &|mark| {
                mark.want = Want::Gone;
                mark.env = None;
                mark.doing = None;
                mark.expires = Some(now.unix_timestamp());
            })
            .await
        }
        Verdict::Stop => {
            swap(cluster, node, &config, &mark, &|mark| mark.want = Want::Off).await?;
            halt(cluster, node, &mark, Some(SHUTDOWN_SECONDS), now).await.map(|_| ())
        }
        // What could not be suspended by an earlier run is stopped.
        Verdict::Pause if mark.kind == Kind::Qemu && !was_to_be_suspended(&mark) => {
            swap(cluster, node, &config, &mark, &|mark| {
                mark.want = Want::Paused;
                mark.keeps = Some(Keeps::Memory);
                mark.changed = Some(now.unix_timestamp());
            })
            .await?;
            cluster.send(cluster.pve.guest(node, mark.kind, mark.vmid).suspend()).await?;
            Ok(())
        }
        Verdict::Pause => {
            swap(cluster, node, &config, &mark, &|mark| {
                mark.want = Want::Paused;
                mark.keeps = Some(Keeps::Disk);
            })
            .await?;
            halt(cluster, node, &mark, Some(SHUTDOWN_SECONDS), now).await.map(|_| ())
        }
    }
}

/// Whether a sweep has meant to suspend it already. A pause of its owner's that was never begun was
/// written before its expiry.
fn was_to_be_suspended(mark: &Mark) -> bool {
    mark.is_suspension() && lifetime::stopped_at(mark) >= mark.expires
}

/// Does the next missing thing.
async fn go_on<I: Io>(cluster: &Cluster<'_, I>, place: Place, seen: Condition) -> Result<(), Error> {
    if !place.committed && was_destroyed(cluster, &place.node, &place.mark).await? {
        let text = "its owner has deleted it, and a late clone brought it back; it is removed when it is old";
        return Err(Error::new(Code::Condemned, text));
    }
    if is_mistagged(&place) && !repair::is_due(&place, cluster.now()) {
        return swap(cluster, &place.node, &place.config, &place.mark, &|_| {}).await;
    }
    let place = repair::settle(cluster, place).await?;
    carry_on(cluster, place, seen, false, cluster.now()).await.map(|_| ())
}

/// Whether somebody else's hand has changed the tags alone (rule S4.7): listings do not show the guest as it
/// is.
fn is_mistagged(place: &Place) -> bool {
    let tags = place.config.tags.as_deref().unwrap_or_default();
    place.committed && place.mark.doing.is_none() && !marks::agree(&place.mark, tags)
}

/// One compare-and-swap: whoever was faster wins, and the next sweep looks again.
async fn swap<I: Io>(
    cluster: &Cluster<'_, I>,
    node: &str,
    config: &Config,
    mark: &Mark,
    apply: &(dyn Fn(&mut Mark) + Sync),
) -> Result<(), Error> {
    let written = commit::write(cluster, node, config, mark, &|mark| {
        apply(mark);
        Ok(())
    })
    .await?;
    written.map(|_| ()).map_err(|it| it.told("it"))
}
