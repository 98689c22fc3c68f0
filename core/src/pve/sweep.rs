//! The sweep: what nobody asks for again is brought to its end.
//!
//! One listing, one read for each unmarked guest of our range, at most two
//! requests in a run for each guest that needs something. A guest is deleted
//! only by a later run than the one that condemned it by compare-and-swap, so
//! nothing that was renewed or committed meanwhile is ever deleted, and two
//! sweeps at once are harmless (rule S4.1).

mod sandbox;
mod suspended;
mod template;

use std::time::Duration;

use time::OffsetDateTime;

use self::{sandbox::tend_sandbox, template::tend_template};
use super::{
    cluster::Cluster,
    guest::{Located, stale::crashed, write::write},
    inventory::{Guest, Inventory},
    marks::{
        Mark, Phase, Reading, Role, Want,
        lifetime::{self, Time},
        state::{is_coming_up, is_unproved, never_came_up},
    },
    reserve,
};
use crate::{
    error::Error,
    io::Io,
    sandbox::{
        FINISH_SECONDS, OnExpiry,
        id::Kind,
        sweep::{Action, Report},
        vmid::Vmid,
    },
};

/// Seconds after which the late requests of a condemned sandbox's owner have been answered.
const CONDEMNED_SECONDS: i64 = 60;
/// The action that is due for a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Leave,
    /// Carry it on: it is half made.
    Finish,
    /// Stop it: its time is up.
    Stop,
    /// Pause it: its time is up.
    Pause,
    /// Condemn it, so that a later run deletes it.
    Condemn,
    /// Delete it: an earlier run condemned it.
    Delete,
}

impl Verdict {
    /// The name of the action in a report.
    fn name(self) -> &'static str {
        match self {
            Self::Leave => "leave",
            Self::Finish => "finish",
            Self::Stop => "stop",
            Self::Pause => "pause",
            Self::Condemn => "condemn",
            Self::Delete => "delete",
        }
    }
}

/// Decides what is due, from nothing but the mark (rule S4.2): the listing's first, the config's before
/// anything is done.
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

/// Runs one sweep, within its budget.
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
        if spent_before.saturating_sub(cluster.left()) + reserve::SWEEP > budget || late {
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

/// The guests from a random one on, so that a small budget starves nobody (rule S4.3).
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
        // Of one whose tags were taken off its notes tell whose it is.
        let is_bare = guest.tags().trim().is_empty();
        return condemned || guest.row.template != Some(true) || guest.is_unoffered() || is_bare;
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
    let (node, vmid) = (guest.row.node.as_str(), guest.vmid);
    let config = match cluster.send(cluster.pve.guest(node, guest.kind, vmid).config()).await {
        Ok(config) => config,
        Err(error) if error.is_missing() || error.is_final() => return None,
        Err(error) => return Some(report(vmid, error.to_string())),
    };
    let lock = config.lock.clone();
    let reading = Reading::of(vmid, &config);
    let Some(found) = Located::of(node, vmid, config) else {
        return match reading {
            Reading::Contradiction if guest.ours.is_some() => {
                Some(report(vmid, "its tags and its notes name different owners: left alone".to_owned()))
            }
            // The last that a destruction leaves of a guest, whosoever it was.
            Reading::Foreign if lock.as_deref() == Some("destroyed") => {
                let reason = crashed(cluster, node, (guest.kind, vmid), "destroyed", None).await?;
                Some(report(vmid, reason))
            }
            _ => None,
        };
    };
    if found.mark.deployment != *cluster.settings.deployment {
        return None;
    }
    match found.mark.role {
        Role::Template => tend_template(cluster, found, dry_run).await,
        Role::Sandbox => tend_sandbox(cluster, found, guest.row.status != "stopped", dry_run).await,
    }
}

/// The report on a guest that a sweep leaves alone.
fn report(vmid: Vmid, reason: String) -> Action {
    Action { vmid: Some(vmid), id: None, action: "report", reason }
}

/// The report on an action of a sweep, or on a sandbox that it leaves alone.
fn action(found: &Located, action: &'static str, reason: String) -> Action {
    Action { vmid: Some(found.mark.vmid), id: Some(found.mark.id().to_string()), action, reason }
}

/// Changes a mark once, by compare-and-swap: whoever was faster wins, and the next sweep looks again.
async fn swap<I: Io>(
    cluster: &Cluster<'_, I>,
    found: &Located,
    apply: &(dyn Fn(&mut Mark) + Sync),
) -> Result<(), Error> {
    let written = write(cluster, found, &|mark| {
        apply(mark);
        Ok(())
    })
    .await?;
    written.map(|_| ()).map_err(|it| it.into_conflict("it"))
}
