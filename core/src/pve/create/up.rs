//! Coming up: the start, and the probe that says that it has (rule S2.13).

use std::time::Duration;

use super::{failed::without_memory, step::SETTLED_SECONDS};
use crate::{
    access::secret::Keyring,
    error::{Code, Error},
    io::{
        Io,
        deadline::Deadline,
        pace::{self, Pace},
    },
    pve::{
        api::{PveError, config::Config, task::Upid},
        cluster::Cluster,
        guest::{
            Located,
            commit::no_way_of_token,
            condition::{Condition, condition},
            hello, network,
            probe::{Probe, Prober},
            wait::end_of_task,
            write::{Attempts, write},
        },
        marks::{Mark, Phase, Reading, Want, What},
        reserve,
    },
    sandbox::{
        channel::Channel,
        command::request::ExecRequest,
        environment::FILE,
        id::{Kind, not_found},
    },
};

/// Number of times in a row that execd may refuse our token before that is final; after a minute once is enough.
const PATIENCE: u32 = 5;
/// Number of probes of a container that are short: after them it is usually up.
const SHORT_PROBES: u32 = 15;

/// Whether a sandbox came up.
pub(crate) enum Up {
    /// It did, with this mark now; its config, where that was read since the commit.
    Ready(Box<Mark>, Option<Box<Config>>),
    /// Not yet; why, where anybody said.
    NotYet(Option<Error>),
}

/// Starts a guest where it is stopped, probes it until it answers as it should,
/// and writes that it came up. Where it has not yet, or that could not be written,
/// the next request looks again. An error here is one that asking again does not mend.
pub(crate) async fn start_and_probe<I: Io>(
    cluster: &Cluster<'_, I>,
    found: &Located,
    condition: &Condition,
    deadline: Deadline<'_, I>,
) -> Result<Up, Error> {
    let mark = &found.mark;
    let first = first_command(mark, &cluster.settings.secrets)?;
    let task = match start(cluster, found, condition).await? {
        Started::Runs(task) => task,
        Started::NotYet(cause) => return Ok(Up::NotYet(Some(cause))),
    };
    // While it boots: whoever writes that it came up needs the digest of now.
    let fresh = match task.is_none() && is_unchanged(found) {
        true => Some(found.config.clone()),
        false => cluster.send(found.api(cluster).config()).await.ok(),
    };
    let mut prober = Prober::new(cluster, found, &first);
    let mut wait = deadline.keeping(reserve::STEP).paced(pace(&prober, mark.kind));
    if task.is_some() {
        wait.pause().await;
    }
    let (mut tries, mut refusals) = (0_u32, 0_u32);
    loop {
        let began = cluster.now();
        let (cause, may_pass) = match prober.ask(patience(tries, wait.is_over())).await? {
            Probe::Ready(channel) => return note_ready(cluster, found, channel, fresh).await,
            said => judge_probe(found, said),
        };
        // It may be reading its token still, or something in front of it answers.
        let patient = refusals < PATIENCE && mark.settled_for(cluster.now()) < SETTLED_SECONDS;
        match may_pass {
            Passes::Always => {}
            Passes::Soon if patient => refusals += 1,
            Passes::Soon | Passes::Never => return Err(cause),
        }
        tries += 1;
        if looks_at_task(mark.kind, tries)
            && let Some(Err(cause)) = end_of_task(cluster, task.as_ref()).await
        {
            return started_meanwhile(cluster, found, &cause).await;
        }
        if tries == SHORT_PROBES && mark.kind == Kind::Lxc {
            wait.turn(pace::SLOW_CONTAINER);
        }
        if !wait.pause_since(began).await {
            return Ok(Up::NotYet(Some(cause)));
        }
    }
}

/// How often it is probed.
fn pace<I: Io>(prober: &Prober<'_, '_, I>, kind: Kind) -> Pace {
    match kind {
        Kind::Qemu => pace::MACHINE,
        Kind::Lxc if prober.asks_pve() => pace::SLOW_CONTAINER,
        Kind::Lxc => pace::CONTAINER,
    }
}

/// Whether the start's task is looked at after so many probes. One of a container seldom fails, and
/// a look costs a request; an agent of a VM is asked by way of PVE anyhow.
fn looks_at_task(kind: Kind, tries: u32) -> bool {
    match kind {
        Kind::Lxc => tries % 8 == 7,
        Kind::Qemu => tries % 2 == 1,
    }
}

/// How long a guest may take to answer one request of a probe. A connection that was begun before
/// the guest had its address is answered a second late, so first ones are short; every fourth is
/// for a guest that is far away, and those of a caller who does not wait too.
fn patience(tries: u32, is_last: bool) -> Duration {
    Duration::from_millis(match tries {
        _ if is_last => 900,
        SHORT_PROBES.. => 4000,
        _ if tries % 4 == 3 => 900,
        _ => 350,
    })
}

/// Whether waiting mends what a probe has found.
enum Passes {
    Always,
    /// At first.
    Soon,
    Never,
}

/// The error of a sandbox that is not ready, and whether it passes.
fn judge_probe(found: &Located, probe: Probe) -> (Error, Passes) {
    let (code, text, passes) = match probe {
        Probe::Ready(_) => (Code::ExecUnreachable, String::new(), Passes::Always),
        Probe::NotYet(said) => (Code::ExecUnreachable, said, Passes::Always),
        Probe::Open => {
            let text = "its daemon does what nobody has proved to be ours to ask: cmux-execd must take \
                        CMUX_EXECD_AUTH_TOKEN from its environment, and refuse all when there is none";
            (Code::ExecUnprotected, text.into(), Passes::Never)
        }
        Probe::WrongToken => {
            let text = "execd refuses the token that this sandbox was given: the template's execd must take \
                        CMUX_EXECD_AUTH_TOKEN from its environment at each start (before PVE 9.1: by the \
                        template's hookscript)";
            (Code::ExecTokenNotApplied, text.into(), Passes::Soon)
        }
        Probe::NoToken => return (no_way_of_token(), Passes::Never),
        Probe::NoKey => (Code::GuestKeys, hello::NO_KEY.into(), Passes::Soon),
        Probe::Elsewhere => (Code::GuestIdentity, elsewhere(found), Passes::Soon),
        Probe::Unable => {
            let text = format!("its keys or its environment ({FILE}) could not be written in the guest");
            (Code::ExecFailed, text, Passes::Soon)
        }
    };
    (Error::new(code, text), passes)
}

/// Why the daemon that answers takes itself for another sandbox.
fn elsewhere(found: &Located) -> String {
    let wanted = network::hardware_address(&found.mark).to_string();
    match found.config.hardware_address() {
        Some(has) if !has.eq_ignore_ascii_case(&wanted) => format!(
            "the hardware address of its network card (net0) is {has}, and its daemon knows it by {wanted}: somebody \
             has changed it; set it to {wanted} and restart the sandbox"
        ),
        _ => "the daemon that answers at its address is another guest's: two guests have that address".into(),
    }
}

/// Whether it is on its way, and the start's task where this request has sent one.
enum Started {
    Runs(Option<Upid>),
    NotYet(Error),
}

async fn start<I: Io>(
    cluster: &Cluster<'_, I>,
    found: &Located,
    condition: &Condition,
) -> Result<Started, Error> {
    let mark = &found.mark;
    if condition.is_running() || condition.is_starting() {
        return Ok(Started::Runs(None));
    }
    // PVE has started it with its memory, or could not: a start of ours would be one without.
    if mark.doing.as_ref().is_some_and(|it| it.what == What::Start && it.memory) {
        return match condition {
            Condition::Stopped => Err(without_memory(mark)),
            _ => Ok(Started::Runs(None)),
        };
    }
    match cluster.send(found.api(cluster).start()).await {
        Ok(upid) => Ok(Started::Runs(Some(upid))),
        Err(error) if error.is_already_running() => Ok(Started::Runs(None)),
        Err(error) if error.is_final() || error.is_turned_away() => Err(error.into()),
        Err(error) => Ok(Started::NotYet(error.into())),
    }
}

/// Whether nothing has been written since the config was read.
fn is_unchanged(found: &Located) -> bool {
    Reading::of(found.mark.vmid, &found.config).mark() == Some(&found.mark)
}

/// Notes in the mark that the sandbox has come up; `fresh` is its config, where that was read since the
/// last write. Where somebody else was faster, the next request looks again.
async fn note_ready<I: Io>(
    cluster: &Cluster<'_, I>,
    found: &Located,
    channel: Channel,
    fresh: Option<Config>,
) -> Result<Up, Error> {
    let known = &found.mark;
    let config = fresh.clone().map(Box::new);
    // A reboot does not take back that it came up.
    if known.phase == Phase::Ready {
        return Ok(Up::Ready(Box::new(known.clone()), config));
    }
    match write_ready(cluster, found, channel, fresh).await {
        Ok(Some(mark)) => Ok(Up::Ready(Box::new(mark), config)),
        Ok(None) => Ok(Up::NotYet(None)),
        // Nothing can be written while a backup, say, has it, and it answers all the same.
        Err(error) if error.code() == Code::GuestLocked => Ok(Up::Ready(Box::new(known.clone()), config)),
        Err(error) if error.code().is_of_a_stranger() => Err(error),
        Err(error) => Ok(Up::NotYet(Some(error))),
    }
}

/// The mark as it is written then; `None` where the answer of the sandbox counts no more.
async fn write_ready<I: Io>(
    cluster: &Cluster<'_, I>,
    probed: &Located,
    channel: Channel,
    fresh: Option<Config>,
) -> Result<Option<Mark>, Error> {
    let (vmid, known) = (probed.mark.vmid, &probed.mark);
    let mut at_hand = fresh.and_then(|it| Located::of(&probed.node, vmid, it));
    let mut attempts = Attempts::default();
    let keys = if channel == Channel::Guest { hello::key_names(cluster) } else { Vec::new() };
    let note = |mark: &mut Mark| {
        note(mark, channel, &keys);
        Ok(())
    };
    loop {
        let now = match at_hand.take() {
            Some(now) => Some(now).filter(|it| it.mark.nonce == known.nonce),
            None => probed.read_again(cluster).await?,
        };
        let now = now.ok_or_else(|| not_found(vmid))?;
        match decide(&now.mark, known) {
            Next::Superseded => return Ok(None),
            Next::Nothing => return Ok(Some(now.mark)),
            Next::Write => match write(cluster, &now, &note).await? {
                Ok(mark) => return Ok(Some(mark)),
                Err(unwritten) => attempts.count(unwritten, format_args!("guest {vmid}"))?,
            },
        }
    }
}

/// The write that is left to do for a sandbox that has answered.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// Nothing: somebody has.
    Nothing,
    /// Nothing: somebody has stopped it, condemned it, rolls it back, or has started it again, of which its
    /// answer proves nothing.
    Superseded,
    /// Write that it has come up.
    Write,
}

/// Decides from the mark as it is now; `known` is the one that the sandbox was probed with.
fn decide(mark: &Mark, known: &Mark) -> Next {
    match mark.phase {
        _ if mark.want != Want::On || mark.is_doing(What::Rollback) => Next::Superseded,
        Phase::Ready if !mark.is_doing(What::Start) => Next::Nothing,
        Phase::Ready => Next::Write,
        Phase::Committed if mark.changed == known.changed => Next::Write,
        Phase::Committed | Phase::Claimed | Phase::Error => Next::Superseded,
    }
}

fn note(mark: &mut Mark, channel: Channel, keys: &[String]) {
    mark.phase = Phase::Ready;
    mark.was_ready = true;
    mark.commands = Some(channel);
    mark.guest_keys = keys.to_vec();
    mark.problem = None;
    // A renewed memory is its own.
    mark.keeps = None;
    if mark.is_doing(What::Start) {
        mark.doing = None;
    }
}

/// The result of a start whose task has failed: where another start was faster, nothing is wrong.
async fn started_meanwhile<I: Io>(
    cluster: &Cluster<'_, I>,
    found: &Located,
    cause: &PveError,
) -> Result<Up, Error> {
    let problem = || cause.problem(Code::StartFailed, "PVE could not start the guest");
    if cause.is_beside_another() {
        return Ok(Up::NotYet(Some(problem())));
    }
    match condition(cluster, found).await {
        Ok(Condition::Stopped) => Err(problem()),
        _ => Ok(Up::NotYet(Some(problem()))),
    }
}

/// The command that a guest runs before it is handed out: it unpacks the environment variables.
fn first_command(mark: &Mark, secrets: &Keyring) -> Result<ExecRequest, Error> {
    match &mark.env {
        None => Ok(ExecRequest::nothing()),
        Some(_) => Ok(mark.environment(secrets)?.write_command(&mark.nonce.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pve::marks::Doing;

    #[test]
    fn an_answer_counts_for_the_start_that_it_was_asked_after() {
        let vmid = "200000".parse().unwrap();
        let nonce = "a".repeat(24).parse().unwrap();
        let claimed = Mark::claimed("d", "t", vmid, Kind::Lxc, nonce);
        let known = Mark { phase: Phase::Committed, changed: Some(5), ..claimed };
        let doing = |what| Some(Doing { what, snapname: String::new(), memory: false, since: 0 });
        for (now, next) in [
            (known.clone(), Next::Write),
            (Mark { changed: Some(6), ..known.clone() }, Next::Superseded),
            (Mark { want: Want::Off, ..known.clone() }, Next::Superseded),
            (Mark { doing: doing(What::Rollback), ..known.clone() }, Next::Superseded),
            (Mark { phase: Phase::Error, ..known.clone() }, Next::Superseded),
            (Mark { phase: Phase::Ready, ..known.clone() }, Next::Nothing),
            (Mark { phase: Phase::Ready, doing: doing(What::Start), ..known.clone() }, Next::Write),
        ] {
            assert_eq!(decide(&now, &known), next, "{now:?}");
        }
    }
}
