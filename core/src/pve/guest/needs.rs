//! What an operation needs of a sandbox, and the refusal of one that is not so.

use std::time::Duration;

use time::OffsetDateTime;

use super::{
    located::{Located, locate},
    repair,
    write::locked,
};
use crate::{
    access::keys::Caller,
    error::{Code, Error},
    io::{Io, deadline::Deadline, pace},
    pve::{
        cluster::Cluster,
        marks::{
            Mark, Phase, Want, What,
            lifetime::{self, Time},
            state::never_came_up,
        },
        reserve,
    },
    sandbox::id::{SandboxId, not_found},
};

/// PVE removes the snapshot that a template was copied from after the answer to whoever took it.
const OWN_END: Duration = Duration::from_secs(5);
/// The locks that it holds meanwhile.
const OWN_LOCKS: [&str; 2] = ["snapshot", "snapshot-delete"];

/// One condition that an operation needs of a sandbox.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Need {
    /// Its time is not over, and it is not condemned.
    Alive,
    /// The same, but that a condemned one passes: the change itself refuses it by that name.
    AliveOrCondemned,
    /// It has come up once, or is alive: what never came up in its time is nothing to renew.
    Renewable,
    /// It is not condemned.
    NotCondemned,
    /// It is more than an intent.
    Committed,
    /// It is committed, and PVE neither makes nor destroys it.
    Made,
    /// No lock is on it.
    Unlocked,
    /// No lock is on it but that of a VM whose memory is on disk.
    UnlockedOrSuspended,
    /// It is no VM whose memory is on disk.
    NotSuspended,
    /// Its expiry has not come; else this is what its owner does about it.
    Unexpired(&'static str),
    /// It is not being rolled back.
    NotRollingBack,
    /// Neither a snapshot of it nor a rollback is under way, whose tags must go on saying so.
    NothingBegun,
    /// Its creation or start has not failed.
    NotFailed,
}

impl Located {
    /// Refuses the sandbox where it is not what an operation needs; of several refusals the first one.
    pub(crate) fn needs<I: Io>(&self, cluster: &Cluster<'_, I>, needs: &[Need]) -> Result<(), Error> {
        needs.iter().try_for_each(|need| need.check(cluster, self))
    }
}

impl Need {
    fn check<I: Io>(self, cluster: &Cluster<'_, I>, found: &Located) -> Result<(), Error> {
        let Located { config, mark, committed, .. } = found;
        let lock = config.lock.as_deref();
        let refused = match self {
            Self::Alive => return ensure_alive(cluster, mark),
            Self::AliveOrCondemned if mark.want == Want::Gone => None,
            Self::AliveOrCondemned => return ensure_alive(cluster, mark),
            Self::Renewable if !never_came_up(mark) => None,
            Self::Renewable => return ensure_alive(cluster, mark),
            Self::NotCondemned => return refuse_condemned(mark),
            Self::Committed => (!committed).then(|| still_creating(mark)),
            Self::Made => {
                let is_made = *committed && !matches!(lock, Some("create" | "clone" | "destroyed"));
                (!is_made).then(|| still_creating(mark))
            }
            Self::Unlocked => lock.map(|it| locked(it, mark)),
            Self::UnlockedOrSuspended => lock.filter(|_| !config.is_suspended()).map(|it| locked(it, mark)),
            Self::NotSuspended => lock.filter(|it| *it == "suspended").map(|it| locked(it, mark)),
            Self::Unexpired(help) => mark
                .is_expired(cluster.now())
                .then(|| Error::new(Code::NotRunning, format!("{} has expired{help}", mark.id()))),
            Self::NotRollingBack => mark.is_doing(What::Rollback).then(|| locked("rollback", mark)),
            Self::NothingBegun => return refuse_begun(mark),
            Self::NotFailed => (mark.phase == Phase::Error).then(|| failed(mark)),
        };
        refused.map_or(Ok(()), Err)
    }
}

/// A sandbox that can be given an order, awake or suspended.
pub(crate) async fn usable<I: Io>(
    cluster: &Cluster<'_, I>,
    caller: &Caller,
    id: &SandboxId,
    deadline: Deadline<'_, I>,
) -> Result<Located, Error> {
    let found = unlocked(cluster, caller, id, deadline).await?;
    // What has expired and is kept may be started again.
    found.needs(cluster, &[Need::AliveOrCondemned, Need::Committed, Need::UnlockedOrSuspended])?;
    let found = repair::settle(cluster, found).await?;
    found.needs(cluster, &[Need::NotRollingBack])?;
    Ok(found)
}

/// As [`usable`], and not suspended either.
pub(crate) async fn awake<I: Io>(
    cluster: &Cluster<'_, I>,
    caller: &Caller,
    id: &SandboxId,
    deadline: Deadline<'_, I>,
) -> Result<Located, Error> {
    let found = usable(cluster, caller, id, deadline).await?;
    found.needs(cluster, &[Need::Unlocked])?;
    Ok(found)
}

/// Locates a sandbox once the end of a snapshot of our own is no longer in the way, or `deadline` has
/// passed (rule S5.5).
pub(crate) async fn unlocked<I: Io>(
    cluster: &Cluster<'_, I>,
    caller: &Caller,
    id: &SandboxId,
    deadline: Deadline<'_, I>,
) -> Result<Located, Error> {
    let until = deadline.at_most(cluster.now() + OWN_END);
    let mut wait = until.keeping(reserve::OPERATION).paced(pace::OWN_END);
    loop {
        let found = locate(cluster, caller, id).await?;
        let is_ending = found.config.lock.as_deref().is_some_and(|it| OWN_LOCKS.contains(&it));
        if !is_ending || !wait.pause().await {
            return Ok(found);
        }
    }
}

/// Refuses a sandbox that is condemned, or whose time is over: 404.
pub(crate) fn ensure_alive<I: Io>(cluster: &Cluster<'_, I>, mark: &Mark) -> Result<(), Error> {
    ensure_alive_at(mark, cluster.now(), cluster.settings.limits.stopped_max_seconds)
}

/// As [`ensure_alive`], at this moment; `kept` is `EDGE_STOPPED_MAX_SECONDS`.
pub(crate) fn ensure_alive_at(mark: &Mark, now: OffsetDateTime, kept: u32) -> Result<(), Error> {
    let over = mark.want == Want::Gone || lifetime::time(mark, now, kept) == Time::Over;
    if over { Err(not_found(mark.id())) } else { Ok(()) }
}

/// Refuses a sandbox that is condemned: nobody renews it (rule S4.1).
pub(crate) fn refuse_condemned(mark: &Mark) -> Result<(), Error> {
    if mark.want == Want::Gone {
        let text = "this sandbox is condemned and will be deleted; nothing can renew it";
        return Err(Error::new(Code::Condemned, text));
    }
    Ok(())
}

/// Refuses a sandbox of which a snapshot may be taken late, or that is being rolled back.
pub(crate) fn refuse_begun(mark: &Mark) -> Result<(), Error> {
    match &mark.doing {
        Some(it) if it.what != What::Start => Err(locked("snapshot", mark)),
        _ => Ok(()),
    }
}

/// The refusal of a sandbox that is claimed, and not committed yet.
fn still_creating(mark: &Mark) -> Error {
    let text = format!("{} is still being created; ask again", mark.id());
    Error::new(Code::StillCreating, text).retry_after(2)
}

/// The refusal of a sandbox that has failed, with the cause.
pub(crate) fn failed(mark: &Mark) -> Error {
    let why = mark.problem.as_deref().unwrap_or("it did not come up");
    let text = format!("{} is in state error ({why}): start it again, or delete it", mark.id());
    Error::new(Code::NotRunning, text)
}
