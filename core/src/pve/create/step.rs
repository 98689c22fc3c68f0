//! The steps of a sandbox that is coming up.

use time::OffsetDateTime;

use super::{
    Progress,
    failed::{fail, give_up, never_answered, outdone, undo},
    grow::{Grown, grow},
    rival::rival,
    up::{Up, start_and_probe},
};
use crate::{
    error::{Code, Error},
    io::{Io, deadline::Deadline},
    pve::{
        cluster::Cluster,
        guest::{
            Located, commit,
            condition::{Condition, condition},
            network,
            write::locked,
        },
        inventory::Inventory,
        marks::{
            Phase, Want,
            state::{is_coming_up, is_unproved, never_came_up},
        },
    },
    sandbox::id::not_found,
};

/// Seconds after which a refusal, or silence, has a reason that is told.
pub(super) const SETTLED_SECONDS: i64 = 60;

/// A guest that is coming up.
pub(super) struct Coming {
    pub(super) found: Located,
    pub(super) condition: Condition,
}

/// The result of one step.
pub(super) enum Step {
    /// Nothing is missing, or nothing is to be done; whether it is up.
    Done(bool),
    /// PVE refuses it for now, or it takes longer; why, where that is known.
    Again(Option<Why>),
}

/// Why a sandbox has not come up yet.
#[derive(Debug)]
pub(super) struct Why {
    pub(super) cause: Error,
    /// Whether it is more than PVE's being at work, so that later requests should be told too.
    pub(super) lasts: bool,
}

/// The next thing to be done to a guest that is coming up.
#[derive(Debug)]
enum Next {
    /// Nothing; whether it is up.
    Nothing { ready: bool },
    /// It has not come up in its time: keep it as `error`.
    Fail,
    /// Wait: PVE works on it.
    Wait(Error),
    /// The commit.
    Commit,
    /// The start, and the probe.
    Start,
}

/// Decides from what was read of the guest.
fn decide(guest: &Coming, now: OffsetDateTime) -> Next {
    let Coming { found, condition } = guest;
    let mark = &found.mark;
    let is_up = guest.is_up();
    let unproved = found.committed && is_unproved(mark, now);
    // Whoever asks late finds out first whether what runs has come up meanwhile.
    if !(is_coming_up(mark, now) || unproved && is_up) {
        if unproved && never_came_up(mark) {
            return Next::Fail;
        }
        let is_ready = mark.phase == Phase::Ready && mark.want == Want::On && !mark.is_expired(now);
        return Next::Nothing { ready: is_ready && condition.is_running() };
    }
    match (&found.config.lock, condition) {
        (Some(lock), _) if !is_up => Next::Wait(locked(lock, mark)),
        _ if !found.committed => Next::Commit,
        (_, Condition::Working(task)) if !is_up => {
            let text = format!("PVE works on guest {} ({}); ask again", mark.vmid, task.kind);
            Next::Wait(Error::new(Code::GuestLocked, text).retry_after(3))
        }
        _ => Next::Start,
    }
}

/// Does the next missing thing: commits and starts, or only one of the two.
pub(super) async fn step<I: Io>(
    cluster: &Cluster<'_, I>,
    guest: &mut Coming,
    undoes: bool,
    deadline: Deadline<'_, I>,
) -> Result<Step, Error> {
    loop {
        match decide(guest, cluster.now()) {
            Next::Nothing { ready } => return Ok(Step::Done(ready)),
            Next::Fail => {
                let cause = never_answered(&guest.found.mark, guest.is_up());
                guest.found.mark = fail(cluster, &guest.found, cause).await;
                return Ok(Step::Done(false));
            }
            Next::Wait(cause) => return Ok(Step::Again(Some(Why { cause, lasts: false }))),
            Next::Commit => {
                if let Some(why) = commit(cluster, &mut guest.found, undoes).await? {
                    return Ok(Step::Again(Some(why)));
                }
            }
            Next::Start => return bring_up(cluster, guest, deadline).await,
        }
    }
}

/// Commits a claim, unless a rival of its key is there; why not, where that may pass.
async fn commit<I: Io>(
    cluster: &Cluster<'_, I>,
    found: &mut Located,
    undoes: bool,
) -> Result<Option<Why>, Error> {
    match rival(cluster, &found.mark).await {
        Ok(None) => {}
        Ok(Some(vmid)) => return Err(undo(cluster, found, outdone(vmid)).await),
        Err(cause) => return Ok(Some(Why { cause, lasts: false })),
    }
    match commit::sandbox(cluster, found, &found.mark).await {
        Ok(written) => {
            // What the guest has been given is where it is reached.
            found.config = found.config.with(&network::of_sandbox(cluster, &found.config, &found.mark)?);
            found.mark = written;
            found.committed = true;
            Ok(None)
        }
        Err(commit::Failure::Final(cause)) if undoes => Err(undo(cluster, found, cause).await),
        Err(commit::Failure::Final(cause)) => Err(cause),
        Err(commit::Failure::Again(error)) if error.is_turned_away() => Err(error.into()),
        Err(commit::Failure::Again(error)) => Ok(Some(error.into())),
    }
}

/// Grows the disk of a guest that is not up, starts it, and probes it.
async fn bring_up<I: Io>(
    cluster: &Cluster<'_, I>,
    guest: &mut Coming,
    deadline: Deadline<'_, I>,
) -> Result<Step, Error> {
    let is_up = guest.is_up();
    let in_time = is_coming_up(&guest.found.mark, cluster.now());
    if !is_up {
        match grow(cluster, &guest.found, deadline).await? {
            Grown::Already => {}
            Grown::NotYet(why) => return Ok(Step::Again(Some(why))),
            // Meanwhile it may have been stopped, or deleted.
            Grown::Now => {
                let is_read = guest.read(cluster).await?;
                if !is_read || !is_coming_up(&guest.found.mark, cluster.now()) {
                    return Ok(Step::Again(None));
                }
            }
        }
    }
    let Coming { found, condition } = guest;
    match start_and_probe(cluster, found, condition, deadline).await {
        Ok(Up::Ready(mark, config)) => {
            found.mark = *mark;
            found.config = config.map_or_else(|| found.config.clone(), |it| *it);
            Ok(Step::Done(true))
        }
        Ok(Up::NotYet(_)) if !in_time && never_came_up(&found.mark) => {
            found.mark = fail(cluster, found, never_answered(&found.mark, is_up)).await;
            Ok(Step::Done(false))
        }
        // A daemon that is silent for a minute has a reason; it is written once.
        Ok(Up::NotYet(cause)) => {
            let mark = &found.mark;
            let lasts = mark.problem.is_none() && mark.settled_for(cluster.now()) >= SETTLED_SECONDS;
            Ok(Step::Again(cause.map(|cause| Why { cause, lasts })))
        }
        // Settings are wrong, or a proxy is, and are put right; nothing is known against the sandbox.
        Err(cause) if cause.code() == Code::EnvUnreadable || cause.code().is_of_a_stranger() => Err(cause),
        // PVE did not let us ask; what runs is no less alive for that.
        Err(cause) if is_up && cause.code() == Code::PveForbidden => Err(cause),
        Err(cause) => Err(give_up(cluster, found, cause).await),
    }
}

impl Coming {
    fn is_up(&self) -> bool {
        self.condition.is_running() || self.condition.is_starting()
    }

    pub(super) fn progress(self, ready: bool) -> Progress {
        let running = ready || self.is_up();
        let Located { node, config, mark, .. } = self.found;
        let problem = mark.problem.clone();
        Progress { mark, node, config: Some(config), running, ready, problem }
    }

    /// Reads it again, and asks for its condition: after a wait everything may be different. Whether it
    /// could be read.
    pub(super) async fn read_again<I: Io>(&mut self, cluster: &Cluster<'_, I>) -> Result<bool, Error> {
        if !self.read(cluster).await? {
            return Ok(false);
        }
        if self.found.committed
            && let Ok(now) = condition(cluster, &self.found).await
        {
            self.condition = now;
        }
        Ok(true)
    }

    /// Reads its config and mark; whether they could be read. One that is not there may be on another node.
    async fn read<I: Io>(&mut self, cluster: &Cluster<'_, I>) -> Result<bool, Error> {
        match self.found.read_again(cluster).await {
            Err(error) if error.is_missing() => match Inventory::read(cluster).await {
                Ok(inventory) if inventory.guest(self.found.mark.vmid).is_none() => {
                    Err(not_found(self.found.mark.id()))
                }
                _ => Ok(false),
            },
            Err(_) => Ok(false),
            Ok(None) => Err(not_found(self.found.mark.id())),
            Ok(Some(now)) => {
                self.found = now;
                Ok(true)
            }
        }
    }
}
