//! Finishing: look at what PVE shows and do the next missing thing.
//!
//! It serves a creation, a poll of a sandbox that is still coming up, and the
//! sweep. Every step may run twice, in two adapters at once.

use std::time::Duration;

use time::OffsetDateTime;

use super::{
    Claimed,
    failed::{clone_failed, give_up, outdone, undo, without_memory},
    rival::rival,
};
use crate::{
    commit,
    edge::Edge,
    environment::{Env, FILE},
    error::{Code, Error},
    execd::Probe,
    inventory::Inventory,
    io::Io,
    marks::{self, Mark, Phase, Reading, Want, What},
    network,
    place::Place,
    pve::{PveError, config::Config, guest::Kind, task::Upid},
    reach,
    sandbox::is_coming_up,
    wait::ended,
};

/// So often in a row execd may refuse our token before that is final, or once after so many seconds.
const PATIENCE: u32 = 5;
const SETTLED_SECONDS: i64 = 60;

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
                return Ok(Progress { mark: *mark, node, config: None, running: false, ready: false });
            }
            Look::NotYet(_) => {}
        }
        edge.pause(wait.next(), deadline).await;
    };
    // Another request has committed it, and may have started it long ago.
    let running = place.committed && is_running(edge, &place.node, &place.mark).await;
    carry_on(edge, *place, running, true, deadline).await
}

async fn is_running<I: Io>(edge: &Edge<'_, I>, node: &str, mark: &Mark) -> bool {
    edge.send(edge.pve.guest(node, mark.kind, mark.vmid).status())
        .await
        .is_ok_and(|it| it.status == "running")
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
    let due = is_coming_up(&mark, now);
    let progress =
        |mark, config, ready| Progress { mark, node: node.clone(), config: Some(config), running, ready };
    if !due {
        let is_up = running && mark.phase == Phase::Ready && mark.want == Want::On && !mark.is_expired(now);
        return Ok(progress(mark, config, is_up));
    }
    let mark = if committed {
        mark
    } else {
        match rival(edge, &mark).await {
            Ok(None) => {}
            Ok(Some(vmid)) => return Err(undo(edge, &node, &mark, outdone(vmid)).await),
            Err(error) => {
                tracing::info!(vmid = u32::from(mark.vmid), %error, "the commit is left to the next request");
                return Ok(progress(mark, config, false));
            }
        }
        match commit::first(edge, &node, &config, &mark).await {
            Ok(committed) => {
                // What the guest has been given is where it is reached.
                config = config.with(&network::of_sandbox(edge, &config, &mark)?);
                committed
            }
            Err(commit::Failure::Final(cause)) if undoes => {
                return Err(undo(edge, &node, &mark, cause).await);
            }
            Err(commit::Failure::Final(cause)) => return Err(cause),
            Err(commit::Failure::Again(error)) => {
                tracing::info!(vmid = u32::from(mark.vmid), %error, "the commit is left to the next request");
                return Ok(progress(mark, config, false));
            }
        }
    };
    if !running && let Err(error) = grow(edge, &node, &config, &mark).await {
        // A bare 500 may be a storage's bad moment: asked again while the guest is young.
        let young = !error.is_final() && mark.settled_for(edge.now()) < SETTLED_SECONDS;
        let refused = error.is_refusal() && error.lock().is_none() && !error.is_lock_timeout();
        let cause = Error::from(error);
        if refused && !(young && cause.code() == Code::PveError) {
            return Err(give_up(edge, &node, &mark, cause).await);
        }
        return Ok(progress(mark, config, false));
    }
    match start_and_probe(edge, &node, &config, &mark, running, deadline).await {
        Ok(Some(mark)) => Ok(progress(mark, config, true)),
        Ok(None) => Ok(progress(mark, config, false)),
        // Settings are wrong, and are put right; nothing is known against the sandbox.
        Err(cause) if cause.code() == Code::EnvUnreadable => Err(cause),
        // PVE did not let us ask; what runs is no less alive for that.
        Err(cause) if running && cause.code() == Code::PveForbidden => Err(cause),
        Err(cause) => Err(give_up(edge, &node, &mark, cause).await),
    }
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

/// Starts it where it is not `running`, probes it until it answers as it should,
/// and writes that it came up: its mark then. `None` where it has not yet, or that
/// could not be written: the next request looks again. An error here is one that
/// asking again does not mend.
pub(crate) async fn start_and_probe<I: Io>(
    edge: &Edge<'_, I>,
    node: &str,
    config: &Config,
    mark: &Mark,
    running: bool,
    deadline: OffsetDateTime,
) -> Result<Option<Mark>, Error> {
    let first = Env::first(mark, &edge.settings.secrets)?;
    let guest = edge.pve.guest(node, mark.kind, mark.vmid);
    let task = if running {
        None
    } else if mark.doing.as_ref().is_some_and(|it| it.what == What::Start && it.memory) {
        // PVE has started it with its memory, or could not: a start of ours would be one without.
        match edge.send(guest.status()).await {
            Ok(status) if status.status == "running" => None,
            Ok(_) => return Err(without_memory(mark)),
            Err(_) => return Ok(None),
        }
    } else {
        match edge.send(guest.start()).await {
            Ok(upid) => Some(upid),
            Err(error) if error.is_already_running() => None,
            Err(error) if error.is_final() => return Err(error.into()),
            Err(_) => return Ok(None),
        }
    };
    // While it boots: whoever writes that it came up needs the digest of now.
    let fresh = if running && shows(config, mark) {
        Some(config.clone())
    } else {
        edge.send(guest.config()).await.ok()
    };
    // A VM boots longer, and asking an agent that is not there yet keeps one of PVE's workers for 3 s.
    let mut wait = match mark.kind {
        Kind::Lxc => Backoff::new(600, 200, 1.15),
        Kind::Qemu => Backoff::new(1500, 1000, 1.3),
    };
    let (mut tries, mut refusals) = (0_u32, 0_u32);
    loop {
        // Each look at PVE comes after a few at the guest: a start seldom fails.
        if tries % 8 == 7
            && let Some(cause) = failed(edge, task.as_ref()).await
        {
            return started_meanwhile(edge, node, mark, &cause).await;
        }
        if tries > 0 || task.is_none() {
            match reach::probe(edge, node, config, mark, &first).await? {
                Probe::Ready => return Ok(written(edge, node, fresh, mark).await),
                Probe::Open => {
                    return Err(Error::new(
                        Code::ExecUnprotected,
                        "execd runs commands for everyone: it has no token. The template's execd must take \
                         CMUX_EXECD_AUTH_TOKEN from its environment, and refuse all when there is none",
                    ));
                }
                // It may be reading its token still, or something in front of it answers.
                Probe::WrongToken | Probe::Unable
                    if refusals < PATIENCE && mark.settled_for(edge.now()) < SETTLED_SECONDS =>
                {
                    refusals += 1;
                }
                Probe::WrongToken => {
                    return Err(Error::new(
                        Code::ExecTokenNotApplied,
                        "execd refuses the token that this sandbox was given: the template's execd must take \
                         CMUX_EXECD_AUTH_TOKEN from its environment at each start (before PVE 9.1: by the \
                         template's hookscript)",
                    ));
                }
                Probe::Unable => {
                    let text = format!("its environment could not be written to {FILE} in the guest");
                    return Err(Error::new(Code::ExecFailed, text));
                }
                Probe::NotYet => {}
            }
        }
        tries += 1;
        if edge.now() >= deadline || edge.left() <= 6 {
            return Ok(None);
        }
        edge.pause(wait.next(), deadline).await;
    }
}

/// Whether nothing has been written since this config was read.
fn shows(config: &Config, mark: &Mark) -> bool {
    let reading = marks::read(mark.vmid, config.tags.as_deref(), config.description.as_deref());
    reading.mark() == Some(mark)
}

/// What was written of a sandbox that came up.
async fn written<I: Io>(edge: &Edge<'_, I>, node: &str, fresh: Option<Config>, mark: &Mark) -> Option<Mark> {
    // A change of nothing: a reboot does not take back that it came up.
    if mark.phase == Phase::Ready {
        return Some(mark.clone());
    }
    match commit::ready(edge, node, fresh, mark).await {
        Ok(written) => written,
        // Nothing can be written while a backup, say, has it, and it answers all the same.
        Err(error) if error.code() == Code::GuestLocked => Some(mark.clone()),
        Err(error) => {
            tracing::info!(vmid = u32::from(mark.vmid), %error, "that it came up is left to the next request");
            None
        }
    }
}

/// A start that failed because another one was faster is none.
async fn started_meanwhile<I: Io>(
    edge: &Edge<'_, I>,
    node: &str,
    mark: &Mark,
    cause: &PveError,
) -> Result<Option<Mark>, Error> {
    if cause.is_beside_another() {
        return Ok(None);
    }
    match edge.send(edge.pve.guest(node, mark.kind, mark.vmid).status()).await {
        Ok(status) if status.status == "stopped" => {
            Err(cause.problem(Code::StartFailed, "PVE could not start the guest"))
        }
        _ => Ok(None),
    }
}

/// Why a task failed, when it is proved that it has.
async fn failed<I: Io>(edge: &Edge<'_, I>, task: Option<&Upid>) -> Option<PveError> {
    ended(edge, task).await?.err()
}

/// A first wait, then others that grow: often a task takes about a second.
struct Backoff {
    next: Duration,
    then: Duration,
    factor: f64,
}

impl Backoff {
    fn new(first: u64, then: u64, factor: f64) -> Self {
        Self { next: Duration::from_millis(first), then: Duration::from_millis(then), factor }
    }

    fn next(&mut self) -> Duration {
        let now = std::mem::replace(&mut self.next, self.then);
        self.then = self.then.mul_f64(self.factor).min(Duration::from_millis(2500));
        now
    }
}
