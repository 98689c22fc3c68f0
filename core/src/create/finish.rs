//! Finishing: look at what PVE shows and do the next missing thing.
//!
//! It serves a creation, a poll of a sandbox that is still coming up, and the
//! sweep. Every step may run twice, in two adapters at once.

use std::time::Duration;

use time::OffsetDateTime;

use super::{
    Claimed,
    failed::{clone_failed, fail, give_up, outdone, silent, undo},
    rival::rival,
    up::{Up, start_and_probe},
};
use crate::{
    commit,
    edge::Edge,
    error::{Code, Error},
    inventory::Inventory,
    io::Io,
    marks::{self, Mark, Phase, Reading, Want},
    network,
    place::Place,
    power::is_running,
    pve::{PveError, config::Config, task::Upid},
    sandbox::{is_coming_up, is_unproved, never_came_up},
    wait::ended,
};

/// What is refused for longer than this, or silent, has a reason.
pub(super) const SETTLED_SECONDS: i64 = 60;

/// How far a sandbox has come.
#[derive(Debug)]
pub struct Progress {
    /// What we keep about it.
    pub mark: Mark,
    /// Where it is.
    pub node: String,
    /// Its config, where it was read.
    pub config: Option<Config>,
    /// Whether PVE says that it runs, where that was asked.
    pub running: bool,
    /// Whether it refused a wrong exec token and took ours.
    pub ready: bool,
    /// Why it has not come up yet, where anybody said.
    pub problem: Option<String>,
}

/// Brings a claimed guest up, until it is ready or `deadline` has passed.
/// With a deadline that has passed it does what can be done at once.
pub(crate) async fn finish<I: Io>(
    edge: &Edge<'_, I>,
    claimed: Claimed,
    deadline: OffsetDateTime,
) -> Result<Progress, Error> {
    let Claimed { mut node, mark, mut task, mut seen } = claimed;
    let mut wait = Backoff::new(600, 480, 1.1);
    // A clone that was just accepted is not done yet.
    if task.is_some() {
        edge.pause(wait.next(), deadline).await;
    }
    let place = loop {
        match look(edge, &mut node, &mark, &mut task, &mut seen).await? {
            Look::There(place) => break place,
            Look::NotYet(mark) if edge.now() >= deadline || edge.left() <= 2 => {
                let problem = mark.problem.clone();
                return Ok(Progress {
                    mark: *mark,
                    node,
                    config: None,
                    running: false,
                    ready: false,
                    problem,
                });
            }
            Look::NotYet(_) => {}
        }
        edge.pause(wait.next(), deadline).await;
    };
    // Another request has committed it, and may have started it long ago.
    let running = match place.committed {
        true => is_running(edge, &place.node, &place.mark).await,
        false => Ok(false),
    };
    let running = match running {
        Err(error) if !is_coming_up(&place.mark, edge.now()) => return Err(error),
        running => running.unwrap_or(false),
    };
    carry_on(edge, *place, running, true, deadline).await
}

enum Look {
    There(Box<Place>),
    NotYet(Box<Mark>),
}

/// Reads the guest until it is there and unlocked.
async fn look<I: Io>(
    edge: &Edge<'_, I>,
    node: &mut String,
    mark: &Mark,
    task: &mut Option<Upid>,
    seen: &mut bool,
) -> Result<Look, Error> {
    let config = match edge.send(edge.pve.guest(node, mark.kind, mark.vmid).config()).await {
        Ok(config) => config,
        // A VM that is made for another node goes there when its clone ends.
        Err(error) if error.is_missing() && *node != mark.node => {
            node.clone_from(&mark.node);
            return Ok(Look::NotYet(Box::new(mark.clone())));
        }
        Err(error) if error.is_missing() => {
            if let Some(cause) = failed(edge, task.as_ref()).await.filter(|it| !it.is_outdone()) {
                return Err(clone_failed(&cause, mark));
            }
            // It may have moved: only a listing that lacks it proves that it is gone.
            if *seen && task.is_none() && Inventory::read(edge).await?.guest(mark.vmid).is_none() {
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
    let reading = marks::read(mark.vmid, config.tags.as_deref(), config.description.as_deref());
    let committed = matches!(reading, Reading::Committed(_));
    match reading {
        Reading::Intent(found) | Reading::Committed(found) if found.nonce == mark.nonce => {
            *seen = true;
            // A lock is no matter for one that needs nothing any more.
            if config.lock.is_some() && (!committed || is_coming_up(&found, edge.now())) {
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

/// Commits, grows, starts and probes, as far as each is missing; `running` is
/// what PVE said a moment ago, `false` where nobody asked. Only a creation
/// undoes what PVE refuses: a read never deletes, and the sweep condemns first.
pub(crate) async fn carry_on<I: Io>(
    edge: &Edge<'_, I>,
    place: Place,
    running: bool,
    undoes: bool,
    deadline: OffsetDateTime,
) -> Result<Progress, Error> {
    let Place { node, mut config, mark, committed } = place;
    let now = edge.now();
    let progress = |mark: Mark, config, ready| {
        let (node, problem) = (node.clone(), mark.problem.clone());
        Progress { mark, node, config: Some(config), running, ready, problem }
    };
    let in_time = is_coming_up(&mark, now);
    let unproved = committed && is_unproved(&mark, now);
    // Whoever asks late finds out first whether what runs has come up meanwhile.
    if !(in_time || unproved && running) {
        if unproved && never_came_up(&mark) {
            let mark = fail(edge, &node, &mark, silent(&mark, running)).await;
            return Ok(progress(mark, config, false));
        }
        let is_up = running && mark.phase == Phase::Ready && mark.want == Want::On && !mark.is_expired(now);
        return Ok(progress(mark, config, is_up));
    }
    let mark = match committed {
        true => mark,
        false => match commit_it(edge, &node, &config, &mark, undoes).await? {
            Ok((mark, given)) => {
                config = given;
                mark
            }
            Err((cause, lasts)) => return Ok(why(edge, progress(mark, config, false), cause, lasts).await),
        },
    };
    if !running && let Err(error) = grow(edge, &node, &config, &mark).await {
        // A bare 500 may be a storage's bad moment: asked again while the guest is young.
        let young = !error.is_final() && mark.settled_for(edge.now()) < SETTLED_SECONDS;
        let refused = lasts(&error);
        let cause = Error::from(error);
        if refused && !(young && cause.code() == Code::PveError) {
            return Err(give_up(edge, &node, &mark, cause).await);
        }
        return Ok(why(edge, progress(mark, config, false), cause, refused).await);
    }
    match start_and_probe(edge, &node, &config, &mark, running, deadline).await {
        Ok(Up::Ready(mark)) => Ok(progress(*mark, config, true)),
        Ok(Up::NotYet(_)) if !in_time && never_came_up(&mark) => {
            let mark = fail(edge, &node, &mark, silent(&mark, running)).await;
            Ok(progress(mark, config, false))
        }
        Ok(Up::NotYet(None)) => Ok(progress(mark, config, false)),
        Ok(Up::NotYet(Some(cause))) => {
            // A daemon that is silent for a minute has a reason; it is written once.
            let lasts = mark.problem.is_none() && mark.settled_for(edge.now()) >= SETTLED_SECONDS;
            Ok(why(edge, progress(mark, config, false), cause, lasts).await)
        }
        // Settings are wrong, and are put right; nothing is known against the sandbox.
        Err(cause) if cause.code() == Code::EnvUnreadable => Err(cause),
        // PVE did not let us ask; what runs is no less alive for that.
        Err(cause) if running && cause.code() == Code::PveForbidden => Err(cause),
        Err(cause) => Err(give_up(edge, &node, &mark, cause).await),
    }
}

/// The commit, unless another request of the same key was faster: the mark, and the config with what
/// was written. Or why not yet, and whether that lasts.
async fn commit_it<I: Io>(
    edge: &Edge<'_, I>,
    node: &str,
    config: &Config,
    mark: &Mark,
    undoes: bool,
) -> Result<Result<(Mark, Config), (Error, bool)>, Error> {
    match rival(edge, mark).await {
        Ok(None) => {}
        Ok(Some(vmid)) => return Err(undo(edge, node, mark, outdone(vmid)).await),
        Err(cause) => return Ok(Err((cause, false))),
    }
    match commit::first(edge, node, config, mark).await {
        // What the guest has been given is where it is reached.
        Ok(written) => Ok(Ok((written, config.with(&network::of_sandbox(edge, config, mark)?)))),
        Err(commit::Failure::Final(cause)) if undoes => Err(undo(edge, node, mark, cause).await),
        Err(commit::Failure::Final(cause)) => Err(cause),
        Err(commit::Failure::Again(error)) => {
            let lasts = lasts(&error);
            Ok(Err((error.into(), lasts)))
        }
    }
}

/// Whether PVE has refused something for another reason than that it is at work.
fn lasts(error: &PveError) -> bool {
    error.is_refusal() && error.lock().is_none() && !error.is_lock_timeout()
}

/// With the cause for which it has not come up yet. One that `lasts` outlives this request: it is kept.
async fn why<I: Io>(edge: &Edge<'_, I>, mut progress: Progress, cause: Error, lasts: bool) -> Progress {
    let (vmid, problem) = (u32::from(progress.mark.vmid), cause.to_string());
    tracing::info!(vmid, %cause, "what is missing is left to the next request");
    if lasts && progress.mark.problem.as_deref() != Some(&*problem) {
        let phase = progress.mark.phase;
        let keep = |mark: &mut Mark| {
            if mark.phase == phase {
                mark.problem = Some(problem.clone());
            }
            Ok(())
        };
        if let Ok(mark) = commit::change(edge, &progress.node, progress.mark.clone(), &keep).await {
            progress.mark = mark;
        }
    }
    progress.problem = Some(problem);
    progress
}

/// The disk grows after the commit, and only when the preset's is larger.
async fn grow<I: Io>(edge: &Edge<'_, I>, node: &str, config: &Config, mark: &Mark) -> Result<(), PveError> {
    let Some(wanted) = mark.sizes.disk else { return Ok(()) };
    // How large a disk is whose `size=` was left out, PVE alone knows: it is asked all the same.
    let is_large = config.disk_bytes().is_some_and(|has| has >= u64::from(wanted) << 30);
    let Some((disk, _)) = config.boot_disk().filter(|_| !is_large) else { return Ok(()) };
    match edge.send(edge.pve.guest(node, mark.kind, mark.vmid).grow(disk, wanted)).await {
        Err(error) if !error.is_large_enough() => Err(error),
        _ => Ok(()),
    }
}

/// Why a task failed, when it is proved that it has.
pub(super) async fn failed<I: Io>(edge: &Edge<'_, I>, task: Option<&Upid>) -> Option<PveError> {
    ended(edge, task).await?.err()
}

/// A first wait, then others that grow: often a task takes about a second.
pub(super) struct Backoff {
    next: Duration,
    then: Duration,
    factor: f64,
}

impl Backoff {
    pub(super) fn new(first: u64, then: u64, factor: f64) -> Self {
        Self { next: Duration::from_millis(first), then: Duration::from_millis(then), factor }
    }

    pub(super) fn next(&mut self) -> Duration {
        let now = std::mem::replace(&mut self.next, self.then);
        self.then = self.then.mul_f64(self.factor).min(Duration::from_millis(2500));
        now
    }
}
