//! Pausing a sandbox, and waking one whose memory was kept.

use super::{Done, halt, is_running, refused, write_want};
use crate::{
    access::keys::Caller,
    error::{Code, Error},
    io::{Io, deadline::Deadline},
    pve::{
        cluster::Cluster,
        guest::{Located, needs::usable, wait::wait, write::change},
        marks::{Mark, Want},
    },
    sandbox::{
        id::{Kind, SandboxId},
        power::{DEFAULT_TIMEOUT, Did, Keeps, PauseBody},
    },
};

/// Pauses it. A VM keeps its memory, on its storage. A container keeps its
/// files; its memory only where PVE's experimental checkpoint is enabled, and
/// then it is verified.
pub async fn pause<I: Io>(
    cluster: &Cluster<'_, I>,
    caller: &Caller,
    id: &SandboxId,
    body: &PauseBody,
    deadline: Deadline<'_, I>,
) -> Result<Done, Error> {
    let asked = body.keeps == Some(Keeps::Memory);
    if asked && id.kind() == Kind::Lxc && !cluster.settings.lxc_criu {
        return Err(Error::new(
            Code::Unsupported,
            "PVE cannot keep a container's memory reliably: pause with keeps=disk, which ends its processes, or \
             enable the experimental checkpoint with PVE_LXC_CRIU=true",
        ));
    }
    let found = usable(cluster, caller, id, deadline).await?;
    let mark = &found.mark;
    // One whose suspension came late, after a resume, does not say so.
    let meant = mark.is_suspension();
    let was_suspended = found.config.is_suspended();
    if was_suspended && (meant || !wake(cluster, &found, deadline).await?) {
        return Ok(Done { did: Did::Nothing, finished: meant, keeps: Some(Keeps::Memory), after: None });
    }
    let vm = id.kind() == Kind::Qemu && body.keeps != Some(Keeps::Disk);
    let running = (vm || mark.want == Want::Paused) && is_running(cluster, &found).await?;
    if mark.want == Want::Paused && !running {
        let keeps = mark.keeps.or(Some(Keeps::Disk));
        return Ok(Done { did: Did::Nothing, finished: true, keeps, after: Some(found) });
    }
    if vm && asked && !running {
        return Err(Error::new(Code::NotRunning, format!("{id} is stopped: it has no memory to keep")));
    }
    let memory = asked || (vm && running);
    let keeps = if memory { Keeps::Memory } else { Keeps::Disk };
    let pause = |mark: &mut Mark| {
        mark.want = Want::Paused;
        mark.keeps = Some(keeps);
    };
    // What was woken has another config now.
    let found = if was_suspended { usable(cluster, caller, id, deadline).await? } else { found };
    let found = write_want(cluster, found, &pause).await?;
    if memory {
        let finished = suspend(cluster, &found, deadline).await?;
        return Ok(Done { did: Did::Paused, finished, keeps: Some(keeps), after: None });
    }
    let stopped = halt(cluster, &found, Some(DEFAULT_TIMEOUT), deadline).await?;
    let finished = stopped.unwrap_or(true);
    Ok(Done { did: Did::Paused, finished, keeps: Some(keeps), after: Some(found) })
}

/// Keeps the sandbox's memory; whether PVE is done with it.
async fn suspend<I: Io>(
    cluster: &Cluster<'_, I>,
    found: &Located,
    deadline: Deadline<'_, I>,
) -> Result<bool, Error> {
    let mark = &found.mark;
    let ended = match cluster.send(found.api(cluster).suspend()).await {
        Ok(task) => wait(cluster, &task, deadline).await,
        // It may be executed yet: what was written holds then, and what runs till then is asked to pause again.
        Err(error) if error.may_be_executed() => return Err(error.into()),
        Err(error) => Some(Err(error)),
    };
    let why = match ended {
        Some(Ok(())) if !is_running(cluster, found).await? => return Ok(true),
        Some(Ok(())) => unsupported("PVE says that it was done, and the sandbox still runs"),
        Some(Err(why)) if why.is_storage_full() => {
            why.problem(Code::StorageFull, "its memory could not be kept, nothing was paused")
        }
        Some(Err(why)) if why.is_failed_task() => unsupported(&why.to_string()),
        Some(Err(why)) => unsupported(refused(why, mark).detail()),
        // It copies gigabytes; the lock tells that it is at work.
        None if mark.kind == Kind::Qemu => return Ok(false),
        None => unsupported("PVE did not finish in time"),
    };
    let back = |mark: &mut Mark| {
        mark.want = Want::On;
        mark.keeps = None;
        Ok(())
    };
    change(cluster, found, &back).await?;
    Err(why)
}

fn unsupported(why: &str) -> Error {
    Error::new(Code::Unsupported, format!("its memory could not be kept: {why}; nothing was paused"))
}

/// Starts a suspended VM, which goes on where it was; whether PVE is done.
pub(super) async fn wake<I: Io>(
    cluster: &Cluster<'_, I>,
    found: &Located,
    deadline: Deadline<'_, I>,
) -> Result<bool, Error> {
    let task = cluster.send(found.api(cluster).start()).await;
    match wait(cluster, &task.map_err(|it| refused(it, &found.mark))?, deadline).await {
        None => Ok(false),
        Some(Ok(())) => Ok(true),
        // Another one's start is at work, or was faster.
        Some(Err(why)) if why.is_lock_timeout() => Ok(false),
        Some(Err(why)) if why.is_already_running() => Ok(true),
        Some(Err(why)) => Err(why.problem(Code::TaskFailed, "PVE could not resume it")),
    }
}
