//! Starting, stopping, rebooting, pausing and resuming a sandbox.
//!
//! What it shall be is written before anything is done (rule S5.1): whoever dies on the way leaves a sandbox
//! that nobody brings into another state by itself.

mod pause;

pub use self::pause::pause;
use self::pause::wake;
use super::{
    api::{PveError, task::Upid},
    cluster::Cluster,
    create::{Up, give_up, start_and_probe},
    guest::{
        Located,
        condition::{Condition, condition},
        needs::{Need, awake, refuse_condemned, usable},
        wait::wait,
        write::{change_from, locked},
    },
    marks::{Mark, Phase, Want, lifetime},
};
use crate::{
    access::keys::Caller,
    error::{Code, Error},
    io::{Io, deadline::Deadline},
    sandbox::{
        channel::Channel,
        id::{Kind, SandboxId},
        lifetime::Ttl,
        power::{Did, Keeps, StartBody, StopBody},
    },
};

/// The result of a power action.
#[derive(Debug)]
pub struct Done {
    /// The action that was done.
    pub did: Did,
    /// Whether PVE is done with it.
    pub finished: bool,
    /// Memory or disk, whichever a pause kept.
    pub keeps: Option<Keeps>,
    /// The sandbox as it was left, where nothing has to be read again to show it.
    pub after: Option<Located>,
}

/// Starts what is stopped, or resumes what is paused, and gives it its time again. Of what is up
/// already only what is said is written.
pub async fn start<I: Io>(
    cluster: &Cluster<'_, I>,
    caller: &Caller,
    id: &SandboxId,
    body: &StartBody,
    deadline: Deadline<'_, I>,
) -> Result<Done, Error> {
    let said = body.ttl_seconds.map(|it| Ttl::parse(it, &cluster.settings.limits)).transpose()?;
    let found = usable(cluster, caller, id, deadline).await?;
    let mark = &found.mark;
    // PVE takes no change of a suspended VM: it is woken first, and what it shall be is written then
    // (rule S5.4).
    let was_suspended = found.config.is_suspended();
    if was_suspended && !wake(cluster, &found, deadline).await? {
        return Ok(Done { did: Did::Resumed, finished: false, keeps: None, after: None });
    }
    let (now, limits) = (cluster.now(), &cluster.settings.limits);
    let keeps = mark.keeps.filter(|_| mark.want == Want::Paused && mark.kind == Kind::Lxc);
    // What was not to run is started, and PVE says so if it runs all the same; else it is asked first.
    let is_asked = mark.want == Want::On || was_suspended || keeps == Some(Keeps::Memory);
    let seen = if is_asked { condition(cluster, &found).await? } else { Condition::Stopped };
    let running = seen.is_running();
    let at_hand = Some(found.clone()).filter(|_| !was_suspended);
    let wanted = change_from(cluster, &found, at_hand, &|mark| {
        refuse_condemned(mark)?;
        // What is up stays so, unless its memory is a copy that our daemon in it has to be told of.
        let is_copy = was_suspended && mark.commands == Some(Channel::Guest);
        let is_up = running && mark.phase == Phase::Ready && mark.want == Want::On && !is_copy;
        if !is_up || said.is_some() || mark.is_expired(now) {
            lifetime::start(mark, said, now.unix_timestamp(), limits);
        }
        if is_up {
            return Ok(());
        }
        mark.want = Want::On;
        mark.phase = Phase::Committed;
        // It is given the whole time to come up, whatever was written before.
        mark.changed = Some(now.unix_timestamp());
        mark.problem = None;
        // What came back with its memory is not up before that was renewed.
        mark.keeps = was_suspended.then_some(Keeps::Memory);
        Ok(())
    })
    .await?;
    if !running && keeps == Some(Keeps::Memory) {
        return resume(cluster, &found, deadline).await;
    }
    // One whose memory did not come back is started without, when it is asked for.
    let wanted = Mark { doing: None, ..wanted };
    let wanted = Located { mark: wanted, ..found };
    let (finished, found) = up(cluster, wanted, &seen, deadline).await?;
    let did = match running {
        _ if was_suspended => Did::Resumed,
        true => Did::Nothing,
        false => Did::Started,
    };
    Ok(Done { did, finished, keeps: None, after: Some(found).filter(|_| !was_suspended) })
}

/// Starts it where it is not running and waits for its exec daemon: whether that answers, and the sandbox
/// then. One that lets everyone in must not run on.
async fn up<I: Io>(
    cluster: &Cluster<'_, I>,
    mut found: Located,
    seen: &Condition,
    deadline: Deadline<'_, I>,
) -> Result<(bool, Located), Error> {
    match start_and_probe(cluster, &found, seen, deadline).await {
        Err(error) if error.code() == Code::ExecUnprotected => Err(give_up(cluster, &found, error).await),
        Err(error) => Err(error),
        Ok(Up::NotYet(_)) => Ok((false, found)),
        Ok(Up::Ready(mark, _)) => {
            found.mark = *mark;
            Ok((true, found))
        }
    }
}

/// Stops it: asks the guest, and after the timeout does it hard.
pub async fn stop<I: Io>(
    cluster: &Cluster<'_, I>,
    caller: &Caller,
    id: &SandboxId,
    body: &StopBody,
    deadline: Deadline<'_, I>,
) -> Result<Done, Error> {
    let timeout = body.timeout()?;
    let found = awake(cluster, caller, id, deadline).await?;
    let found = write_want(cluster, found, &|mark| mark.want = Want::Off).await?;
    let graceful = (!body.force).then_some(timeout);
    let stopped = halt(cluster, &found, graceful, deadline).await?;
    Ok(Done {
        did: if stopped.is_some() { Did::Stopped } else { Did::Nothing },
        finished: stopped.unwrap_or(true),
        keeps: None,
        after: Some(found),
    })
}

/// Reboots it; what is stopped is not started by it.
pub async fn reboot<I: Io>(
    cluster: &Cluster<'_, I>,
    caller: &Caller,
    id: &SandboxId,
    body: &StopBody,
    deadline: Deadline<'_, I>,
) -> Result<Done, Error> {
    let timeout = body.timeout()?;
    let found = awake(cluster, caller, id, deadline).await?;
    found.needs(cluster, &[Need::NotCondemned])?;
    let task = match cluster.send(found.api(cluster).reboot(timeout)).await {
        Ok(task) => task,
        Err(error) if error.is_not_running() => {
            return Err(Error::new(Code::NotRunning, format!("{id} is stopped: start it instead")));
        }
        Err(error) => return Err(refused(error, &found.mark)),
    };
    let ended = has_ended(cluster, &task, deadline).await?;
    let (finished, found) = match ended {
        true => up(cluster, found, &Condition::Running, deadline).await?,
        false => (false, found),
    };
    Ok(Done { did: Did::Rebooted, finished, keeps: None, after: Some(found) })
}

/// Writes what the sandbox is to be (rule S5.1).
async fn write_want<I: Io>(
    cluster: &Cluster<'_, I>,
    mut found: Located,
    apply: &(dyn Fn(&mut Mark) + Sync),
) -> Result<Located, Error> {
    found.mark = change_from(cluster, &found, Some(found.clone()), &|mark| {
        refuse_condemned(mark)?;
        apply(mark);
        Ok(())
    })
    .await?;
    Ok(found)
}

async fn is_running<I: Io>(cluster: &Cluster<'_, I>, found: &Located) -> Result<bool, Error> {
    Ok(condition(cluster, found).await?.is_running())
}

/// Stops a guest; `None` when it was stopped, else whether PVE is done.
pub(crate) async fn halt<I: Io>(
    cluster: &Cluster<'_, I>,
    found: &Located,
    graceful: Option<u32>,
    deadline: Deadline<'_, I>,
) -> Result<Option<bool>, Error> {
    // PVE shuts a VM down that is stopped, and calls that done.
    if found.mark.kind == Kind::Qemu && !is_running(cluster, found).await? {
        return Ok(None);
    }
    let guest = found.api(cluster);
    let sent = match graceful {
        Some(timeout) => cluster.send(guest.shutdown(timeout)).await,
        None => cluster.send(guest.stop()).await,
    };
    match sent {
        Ok(task) => has_ended(cluster, &task, deadline).await.map(Some),
        Err(error) if error.is_not_running() => Ok(None),
        Err(error) => Err(refused(error, &found.mark)),
    }
}

async fn resume<I: Io>(
    cluster: &Cluster<'_, I>,
    found: &Located,
    deadline: Deadline<'_, I>,
) -> Result<Done, Error> {
    let task = cluster.send(found.api(cluster).resume()).await.map_err(|it| refused(it, &found.mark))?;
    let finished = has_ended(cluster, &task, deadline).await?;
    Ok(Done { did: Did::Resumed, finished, keeps: None, after: None })
}

async fn has_ended<I: Io>(
    cluster: &Cluster<'_, I>,
    task: &Upid,
    deadline: Deadline<'_, I>,
) -> Result<bool, Error> {
    match wait(cluster, task, deadline).await {
        None => Ok(false),
        Some(Ok(())) => Ok(true),
        // `GuestLocked` where another action is at work on it.
        Some(Err(why)) => Err(why.into()),
    }
}

fn refused(error: PveError, mark: &Mark) -> Error {
    match error.lock() {
        Some(lock) => locked(lock, mark),
        None => error.into(),
    }
}
