//! Finishing: look at what PVE shows and do the next missing thing (rule S2.12).
//!
//! It serves a creation, a poll of a sandbox that is still coming up, and the
//! sweep. Every step may run twice, in two adapters at once.

use time::OffsetDateTime;

use super::{
    Claimed, Progress,
    failed::{clone_failed, fail, give_up, outdone, silent, undo},
    grow::{Grown, grown},
    rival::rival,
    up::{Up, start_and_probe},
};
use crate::{
    error::{Code, Error},
    io::{
        Io,
        pace::{self, Wait},
    },
    pve::{
        api::{PveError, task::Upid},
        cluster::Cluster,
        guest::{
            commit,
            condition::{Condition, condition},
            network,
            place::Place,
            wait::ended,
        },
        inventory::Inventory,
        marks::{
            Mark, Phase, Reading, Want,
            state::{is_coming_up, is_unproved, never_came_up},
        },
    },
    sandbox::id::not_found,
};

/// What is refused for longer than this, or silent, has a reason.
pub(super) const SETTLED_SECONDS: i64 = 60;
/// Outgoing requests that are kept for what comes after the last step.
const RESERVE: u32 = 6;

/// Brings a claimed guest up, until it is ready or `deadline` has passed.
/// With a deadline that has passed it does what can be done at once.
pub(crate) async fn finish<I: Io>(
    cluster: &Cluster<'_, I>,
    claimed: Claimed,
    deadline: OffsetDateTime,
) -> Result<Progress, Error> {
    let Claimed { mut node, mark, mut task, mut seen, cause } = claimed;
    let mut wait = Wait::new(cluster, pace::CLONE, deadline).keeping(2);
    // A clone that was just accepted is not done yet.
    if task.is_some() {
        wait.pause().await;
    }
    let place = loop {
        match look(cluster, &mut node, &mark, &mut task, &mut seen).await? {
            Look::There(place) => break place,
            Look::NotYet(mark) if !wait.pause().await => {
                let problem = cause.map(|it| it.to_string()).or(mark.problem.clone());
                let mark = *mark;
                return Ok(Progress { mark, node, config: None, running: false, ready: false, problem });
            }
            Look::NotYet(_) => {}
        }
    };
    // Another request has committed it, and may have started it long ago.
    let condition = match place.committed {
        true => condition(cluster, &place.node, place.mark.kind, place.mark.vmid).await,
        false => Ok(Condition::Stopped),
    };
    let condition = match condition {
        Err(error) if !is_coming_up(&place.mark, cluster.now()) => return Err(error.into()),
        condition => condition.unwrap_or(Condition::Stopped),
    };
    carry_on(cluster, *place, condition, true, deadline).await
}

enum Look {
    There(Box<Place>),
    NotYet(Box<Mark>),
}

/// Reads the guest until it is there and unlocked.
async fn look<I: Io>(
    cluster: &Cluster<'_, I>,
    node: &mut String,
    mark: &Mark,
    task: &mut Option<Upid>,
    seen: &mut bool,
) -> Result<Look, Error> {
    let config = match cluster.send(cluster.pve.guest(node, mark.kind, mark.vmid).config()).await {
        Ok(config) => config,
        // A VM that is made for another node goes there when its clone ends.
        Err(error) if error.is_missing() && *node != mark.node => {
            node.clone_from(&mark.node);
            return Ok(Look::NotYet(Box::new(mark.clone())));
        }
        Err(error) if error.is_missing() => {
            if let Some(cause) = failed(cluster, task.as_ref()).await.filter(|it| !it.is_outdone()) {
                return Err(clone_failed(&cause, mark));
            }
            // It may have moved: only a listing that lacks it proves that it is gone.
            if *seen && task.is_none() && Inventory::read(cluster).await?.guest(mark.vmid).is_none() {
                let text =
                    format!("the clone to VMID {} has failed and PVE has removed it; ask again", mark.vmid);
                return Err(Error::new(Code::CloneFailed, text));
            }
            return Ok(Look::NotYet(Box::new(mark.clone())));
        }
        // A pool's rights begin when the clone ends.
        Err(PveError::Refused(refusal)) if refusal.status == 403 && !*seen => {
            return Ok(Look::NotYet(Box::new(mark.clone())));
        }
        Err(error) if error.is_never_sent() || error.is_unanswered() => {
            return Ok(Look::NotYet(Box::new(mark.clone())));
        }
        Err(error) => return Err(error.into()),
    };
    let reading = Reading::of(mark.vmid, &config);
    let committed = matches!(reading, Reading::Committed(_));
    match reading {
        Reading::Intent(found) | Reading::Committed(found) if found.nonce == mark.nonce => {
            *seen = true;
            // A committed guest past its start-up needs no further step, so its lock does not block us.
            if config.lock.is_some() && (!committed || is_coming_up(&found, cluster.now())) {
                return Ok(Look::NotYet(Box::new(found)));
            }
            Ok(Look::There(Box::new(Place { node: node.clone(), config, mark: found, committed })))
        }
        _ if config.is_unknown_yet() => Ok(Look::NotYet(Box::new(mark.clone()))),
        _ => Err(Error::new(
            Code::CloneFailed,
            format!("VMID {} is another guest's now: ours was removed meanwhile", mark.vmid),
        )),
    }
}

/// Does one missing thing after the other, until it is ready or `deadline` has passed: commits, grows,
/// starts, probes. What PVE refuses for now is asked again. `condition` is what PVE said a moment ago. Only a
/// creation undoes what PVE refuses for good (rule S2.14): a read never deletes, and the sweep condemns
/// first.
pub(crate) async fn carry_on<I: Io>(
    cluster: &Cluster<'_, I>,
    place: Place,
    condition: Condition,
    undoes: bool,
    deadline: OffsetDateTime,
) -> Result<Progress, Error> {
    let mut guest = Coming { place, condition };
    let mut wait = Wait::new(cluster, pace::RETRY, deadline).keeping(RESERVE);
    loop {
        let why = match step(cluster, &mut guest, undoes, deadline).await {
            Ok(Step::Done(ready)) => return Ok(guest.progress(ready)),
            Ok(Step::Again(why)) => why,
            // What stands between has refused a write: that is told at once, and not sent again.
            Err(cause) if cause.code() == Code::PveBadAnswer && !undoes => {
                return Ok(told(cluster, guest, Why { cause, lasts: false }).await);
            }
            Err(cause) if cause.code() == Code::PveBadAnswer => {
                return Err(cause.member("sandboxId", guest.place.mark.id().to_string()));
            }
            Err(cause) => return Err(cause),
        };
        loop {
            if !wait.pause().await {
                return Ok(match why {
                    None => guest.progress(false),
                    Some(why) => told(cluster, guest, why).await,
                });
            }
            // Nothing is done to what cannot be read: it may be stopped, or another's, by now.
            if guest.read_again(cluster).await? {
                break;
            }
        }
    }
}

/// A guest that is coming up.
struct Coming {
    place: Place,
    condition: Condition,
}

impl Coming {
    fn is_up(&self) -> bool {
        self.condition.is_running() || self.condition.is_starting()
    }

    fn progress(self, ready: bool) -> Progress {
        let running = ready || self.is_up();
        let Place { node, config, mark, .. } = self.place;
        let problem = mark.problem.clone();
        Progress { mark, node, config: Some(config), running, ready, problem }
    }

    /// After a wait everything may be different; whether it could be read.
    async fn read_again<I: Io>(&mut self, cluster: &Cluster<'_, I>) -> Result<bool, Error> {
        if !self.read(cluster).await? {
            return Ok(false);
        }
        let Place { node, mark, committed, .. } = &self.place;
        if *committed && let Ok(now) = condition(cluster, node, mark.kind, mark.vmid).await {
            self.condition = now;
        }
        Ok(true)
    }

    /// Its config and mark; whether they could be read.
    async fn read<I: Io>(&mut self, cluster: &Cluster<'_, I>) -> Result<bool, Error> {
        let Place { node, config, mark, committed } = &mut self.place;
        let Ok(read) = cluster.send(cluster.pve.guest(node, mark.kind, mark.vmid).config()).await else {
            return Ok(false);
        };
        let reading = Reading::of(mark.vmid, &read);
        *committed = matches!(reading, Reading::Committed(_));
        let Some(found) = reading.mark().filter(|it| it.nonce == mark.nonce) else {
            return Err(not_found(mark.id()));
        };
        (*mark, *config) = (found.clone(), read);
        Ok(true)
    }
}

/// What one step came to.
enum Step {
    /// Nothing is missing, or nothing is to be done; whether it is up.
    Done(bool),
    /// PVE refuses it for now, or it takes longer; why, where that is known.
    Again(Option<Why>),
}

/// Why a sandbox has not come up yet.
pub(super) struct Why {
    pub(super) cause: Error,
    /// Whether it is more than PVE's being at work, so that later requests should be told too.
    pub(super) lasts: bool,
}

async fn step<I: Io>(
    cluster: &Cluster<'_, I>,
    guest: &mut Coming,
    undoes: bool,
    deadline: OffsetDateTime,
) -> Result<Step, Error> {
    let is_up = guest.is_up();
    let Coming { place, condition } = guest;
    let now = cluster.now();
    let in_time = is_coming_up(&place.mark, now);
    let unproved = place.committed && is_unproved(&place.mark, now);
    // Whoever asks late finds out first whether what runs has come up meanwhile.
    if !(in_time || unproved && is_up) {
        if unproved && never_came_up(&place.mark) {
            place.mark = fail(cluster, &place.node, &place.mark, silent(&place.mark, is_up)).await;
            return Ok(Step::Done(false));
        }
        let mark = &place.mark;
        let is_ready = mark.phase == Phase::Ready && mark.want == Want::On && !mark.is_expired(now);
        return Ok(Step::Done(is_ready && condition.is_running()));
    }
    if let Some(lock) = place.config.lock.as_deref().filter(|_| !is_up) {
        return Ok(Step::Again(Some(Why { cause: commit::locked(lock, &place.mark), lasts: false })));
    }
    if !place.committed
        && let Some(why) = committed(cluster, place, undoes).await?
    {
        return Ok(Step::Again(Some(why)));
    }
    let Place { node, config, mark, .. } = &*place;
    if let Condition::Working(task) = condition
        && !is_up
    {
        let text = format!("PVE works on guest {} ({}); ask again", mark.vmid, task.kind);
        let cause = Error::new(Code::GuestLocked, text).retry_after(3);
        return Ok(Step::Again(Some(Why { cause, lasts: false })));
    }
    if !is_up {
        match grown(cluster, node, config, mark, deadline).await? {
            Grown::Already => {}
            Grown::NotYet(why) => return Ok(Step::Again(Some(why))),
            // Meanwhile it may have been stopped, or deleted.
            Grown::Now => {
                let is_read = guest.read(cluster).await?;
                if !is_read || !is_coming_up(&guest.place.mark, cluster.now()) {
                    return Ok(Step::Again(None));
                }
            }
        }
    }
    brought_up(cluster, guest, in_time, deadline).await
}

/// The last step: the start, and the probe.
async fn brought_up<I: Io>(
    cluster: &Cluster<'_, I>,
    guest: &mut Coming,
    in_time: bool,
    deadline: OffsetDateTime,
) -> Result<Step, Error> {
    let is_up = guest.is_up();
    let Coming { place, condition } = guest;
    let Place { node, config, mark, .. } = &*place;
    match start_and_probe(cluster, node, config, mark, condition, deadline).await {
        Ok(Up::Ready(mark, config)) => {
            place.mark = *mark;
            place.config = config.map_or_else(|| place.config.clone(), |it| *it);
            Ok(Step::Done(true))
        }
        Ok(Up::NotYet(_)) if !in_time && never_came_up(mark) => {
            place.mark = fail(cluster, node, mark, silent(mark, is_up)).await;
            Ok(Step::Done(false))
        }
        // A daemon that is silent for a minute has a reason; it is written once.
        Ok(Up::NotYet(cause)) => {
            let lasts = mark.problem.is_none() && mark.settled_for(cluster.now()) >= SETTLED_SECONDS;
            Ok(Step::Again(cause.map(|cause| Why { cause, lasts })))
        }
        // Settings are wrong, or a proxy is, and are put right; nothing is known against the sandbox.
        Err(cause) if matches!(cause.code(), Code::EnvUnreadable | Code::PveBadAnswer) => Err(cause),
        // PVE did not let us ask; what runs is no less alive for that.
        Err(cause) if is_up && cause.code() == Code::PveForbidden => Err(cause),
        Err(cause) => Err(give_up(cluster, node, mark, cause).await),
    }
}

/// The commit of a claim, unless a rival of its key is there; why not, where that may pass.
async fn committed<I: Io>(
    cluster: &Cluster<'_, I>,
    place: &mut Place,
    undoes: bool,
) -> Result<Option<Why>, Error> {
    let Place { node, config, mark, .. } = &*place;
    match rival(cluster, mark).await {
        Ok(None) => {}
        Ok(Some(vmid)) => return Err(undo(cluster, node, mark, outdone(vmid)).await),
        Err(cause) => return Ok(Some(Why { cause, lasts: false })),
    }
    match commit::first(cluster, node, config, mark).await {
        Ok(written) => {
            // What the guest has been given is where it is reached.
            place.config = config.with(&network::of_sandbox(cluster, config, mark)?);
            place.mark = written;
            place.committed = true;
            Ok(None)
        }
        Err(commit::Failure::Final(cause)) if undoes => Err(undo(cluster, node, mark, cause).await),
        Err(commit::Failure::Final(cause)) => Err(cause),
        Err(commit::Failure::Again(error)) if error.is_turned_away() => Err(error.into()),
        Err(commit::Failure::Again(error)) => Ok(Some(error.into())),
    }
}

impl From<PveError> for Why {
    fn from(error: PveError) -> Self {
        let lasts = error.is_told() && !error.is_beside_another();
        Self { cause: error.into(), lasts }
    }
}

/// How far it has come, with the cause for which it is no further. One that lasts is written, for the
/// requests that come after this one.
async fn told<I: Io>(cluster: &Cluster<'_, I>, guest: Coming, why: Why) -> Progress {
    let mut progress = guest.progress(false);
    let (vmid, problem) = (u32::from(progress.mark.vmid), why.cause.to_string());
    tracing::info!(vmid, cause = %why.cause, "what is missing is left to the next request");
    if why.lasts && progress.mark.problem.as_ref() != Some(&problem) {
        let phase = progress.mark.phase;
        let tell = |mark: &mut Mark| {
            // Whoever has brought it up, stopped or condemned it meanwhile knows better.
            if mark.phase == phase && mark.want == Want::On {
                mark.problem = Some(problem.clone());
            }
            Ok(())
        };
        if let Ok(mark) = commit::change(cluster, &progress.node, progress.mark.clone(), &tell).await {
            progress.mark = mark;
        }
    }
    progress.problem = Some(problem);
    progress
}

/// Why a task failed, when it is proved that it has.
async fn failed<I: Io>(cluster: &Cluster<'_, I>, task: Option<&Upid>) -> Option<PveError> {
    ended(cluster, task).await?.err()
}
