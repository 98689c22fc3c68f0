//! Coming up: the start, and the probe that says that it has.

use time::OffsetDateTime;

use super::{
    failed::without_memory,
    finish::{Backoff, SETTLED_SECONDS, failed},
};
use crate::{
    commit::{self, Unwritten},
    edge::Edge,
    environment::{Env, FILE},
    error::{Code, Error},
    execd::Probe,
    io::Io,
    marks::{self, Mark, Phase, Want, What},
    place::not_found,
    pve::{PveError, config::Config, guest::Kind, task::Upid},
    reach,
};

/// So often in a row execd may refuse our token before that is final, or once after a minute.
const PATIENCE: u32 = 5;

/// Whether a sandbox came up.
pub(crate) enum Up {
    /// It did, and its mark says so.
    Ready(Box<Mark>),
    /// Not yet; why, where anybody said.
    NotYet(Option<Error>),
}

/// Starts it where it is not `running`, probes it until it answers as it should,
/// and writes that it came up. Where it has not yet, or that could not be written,
/// the next request looks again. An error here is one that asking again does not mend.
pub(crate) async fn start_and_probe<I: Io>(
    edge: &Edge<'_, I>,
    node: &str,
    config: &Config,
    mark: &Mark,
    running: bool,
    deadline: OffsetDateTime,
) -> Result<Up, Error> {
    let first = Env::first(mark, &edge.settings.secrets)?;
    let task = match start(edge, node, mark, running).await? {
        Started::Runs(task) => task,
        Started::NotYet(cause) => return Ok(Up::NotYet(Some(cause))),
    };
    // While it boots: whoever writes that it came up needs the digest of now.
    let fresh = if running && shows(config, mark) {
        Some(config.clone())
    } else {
        edge.send(edge.pve.guest(node, mark.kind, mark.vmid).config()).await.ok()
    };
    // A VM boots longer, and asking an agent that is not there yet keeps one of PVE's workers for 3 s.
    let mut wait = match mark.kind {
        Kind::Lxc => Backoff::new(600, 200, 1.15),
        Kind::Qemu => Backoff::new(1500, 1000, 1.3),
    };
    let (mut tries, mut refusals, mut last) = (0_u32, 0_u32, None);
    loop {
        // Each look at PVE comes after a few at the guest: a start seldom fails.
        if tries % 8 == 7
            && let Some(cause) = failed(edge, task.as_ref()).await
        {
            return started_meanwhile(edge, node, mark, &cause).await;
        }
        if tries > 0 || task.is_none() {
            let (cause, may_pass) = match reach::probe(edge, node, config, mark, &first).await? {
                Probe::Ready => return Ok(written(edge, node, fresh, mark).await),
                said => unfit(said),
            };
            // It may be reading its token still, or something in front of it answers.
            let patient = refusals < PATIENCE && mark.settled_for(edge.now()) < SETTLED_SECONDS;
            match may_pass {
                Passes::Always => {}
                Passes::Soon if patient => refusals += 1,
                Passes::Soon | Passes::Never => return Err(cause),
            }
            last = Some(cause);
        }
        tries += 1;
        if edge.now() >= deadline || edge.left() <= 6 {
            return Ok(Up::NotYet(last));
        }
        edge.pause(wait.next(), deadline).await;
    }
}

/// Whether waiting mends what a probe has found.
enum Passes {
    Always,
    /// At first.
    Soon,
    Never,
}

/// What is wrong with a sandbox that is not ready.
fn unfit(probe: Probe) -> (Error, Passes) {
    let (code, text, passes) = match probe {
        Probe::Ready => (Code::ExecUnreachable, String::new(), Passes::Always),
        Probe::NotYet(said) => (Code::ExecUnreachable, said, Passes::Always),
        Probe::Open => {
            let text = "execd runs commands for everyone: it has no token. The template's execd must take \
                        CMUX_EXECD_AUTH_TOKEN from its environment, and refuse all when there is none";
            (Code::ExecUnprotected, text.into(), Passes::Never)
        }
        Probe::WrongToken => {
            let text = "execd refuses the token that this sandbox was given: the template's execd must take \
                        CMUX_EXECD_AUTH_TOKEN from its environment at each start (before PVE 9.1: by the \
                        template's hookscript)";
            (Code::ExecTokenNotApplied, text.into(), Passes::Soon)
        }
        Probe::Unable => {
            let text = format!("its environment could not be written to {FILE} in the guest");
            (Code::ExecFailed, text, Passes::Soon)
        }
    };
    (Error::new(code, text), passes)
}

/// Whether it is on its way, and the start's task where this request has sent one.
enum Started {
    Runs(Option<Upid>),
    NotYet(Error),
}

async fn start<I: Io>(edge: &Edge<'_, I>, node: &str, mark: &Mark, running: bool) -> Result<Started, Error> {
    if running {
        return Ok(Started::Runs(None));
    }
    let guest = edge.pve.guest(node, mark.kind, mark.vmid);
    // PVE has started it with its memory, or could not: a start of ours would be one without.
    if mark.doing.as_ref().is_some_and(|it| it.what == What::Start && it.memory) {
        return match edge.send(guest.status()).await {
            Ok(status) if status.status == "running" => Ok(Started::Runs(None)),
            Ok(_) => Err(without_memory(mark)),
            Err(error) => Ok(Started::NotYet(error.into())),
        };
    }
    match edge.send(guest.start()).await {
        Ok(upid) => Ok(Started::Runs(Some(upid))),
        Err(error) if error.is_already_running() => Ok(Started::Runs(None)),
        Err(error) if error.is_final() => Err(error.into()),
        Err(error) => Ok(Started::NotYet(error.into())),
    }
}

/// Whether nothing has been written since this config was read.
fn shows(config: &Config, mark: &Mark) -> bool {
    let reading = marks::read(mark.vmid, config.tags.as_deref(), config.description.as_deref());
    reading.mark() == Some(mark)
}

/// What was written of a sandbox that came up.
async fn written<I: Io>(edge: &Edge<'_, I>, node: &str, fresh: Option<Config>, mark: &Mark) -> Up {
    // A reboot does not take back that it came up.
    if mark.phase == Phase::Ready {
        return Up::Ready(Box::new(mark.clone()));
    }
    match ready(edge, node, fresh, mark).await {
        Ok(Some(mark)) => Up::Ready(Box::new(mark)),
        Ok(None) => Up::NotYet(None),
        // Nothing can be written while a backup, say, has it, and it answers all the same.
        Err(error) if error.code() == Code::GuestLocked => Up::Ready(Box::new(mark.clone())),
        Err(error) => Up::NotYet(Some(error)),
    }
}

/// Writes that a sandbox came up, once what it is probed by has answered.
/// `config` is what was read since the last write, where somebody has.
/// `None` when somebody has stopped it, condemned it, or rolls it back meanwhile.
async fn ready<I: Io>(
    edge: &Edge<'_, I>,
    node: &str,
    mut config: Option<Config>,
    known: &Mark,
) -> Result<Option<Mark>, Error> {
    let guest = edge.pve.guest(node, known.kind, known.vmid);
    let mut last = Unwritten::default();
    for _ in 0..5 {
        let config = match config.take() {
            Some(config) => config,
            None => edge.send(guest.config()).await?,
        };
        let reading = marks::read(known.vmid, config.tags.as_deref(), config.description.as_deref());
        let Some(mark) = reading.mark().filter(|it| it.nonce == known.nonce) else {
            return Err(not_found(known.vmid));
        };
        let rolls_back = mark.is_doing(What::Rollback);
        if mark.want != Want::On || rolls_back || !matches!(mark.phase, Phase::Committed | Phase::Ready) {
            return Ok(None);
        }
        if mark.phase == Phase::Ready && !mark.is_doing(What::Start) {
            return Ok(Some(mark.clone()));
        }
        match commit::write(edge, node, &config, mark, &came_up).await? {
            Ok(written) => return Ok(Some(written)),
            Err(unwritten) => last = unwritten,
        }
    }
    Err(last.told(format_args!("guest {}", known.vmid)))
}

fn came_up(mark: &mut Mark) -> Result<(), Error> {
    mark.phase = Phase::Ready;
    mark.was_ready = true;
    mark.problem = None;
    if mark.is_doing(What::Start) {
        mark.doing = None;
    }
    Ok(())
}

/// A start that failed because another one was faster is none.
async fn started_meanwhile<I: Io>(
    edge: &Edge<'_, I>,
    node: &str,
    mark: &Mark,
    cause: &PveError,
) -> Result<Up, Error> {
    let told = || cause.problem(Code::StartFailed, "PVE could not start the guest");
    if cause.is_beside_another() {
        return Ok(Up::NotYet(Some(told())));
    }
    match edge.send(edge.pve.guest(node, mark.kind, mark.vmid).status()).await {
        Ok(status) if status.status == "stopped" => Err(told()),
        _ => Ok(Up::NotYet(Some(told()))),
    }
}
