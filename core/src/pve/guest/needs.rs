//! Sandboxes that can be given an order: the caller's, made, not over, and not locked.

use std::{fmt::Display, time::Duration};

use time::OffsetDateTime;

use super::{
    commit,
    place::{Place, place},
    repair,
};
use crate::{
    access::keys::Caller,
    error::{Code, Error},
    io::{
        Io,
        pace::{self, Wait},
    },
    pve::{
        cluster::Cluster,
        marks::{
            Mark, Want,
            lifetime::{self, Time},
        },
    },
    sandbox::id::{SandboxId, not_found},
};

/// PVE removes the snapshot that a template was copied from after the answer to whoever took it.
const OWN_END: Duration = Duration::from_secs(5);
/// The locks that it holds meanwhile.
const OWN_LOCKS: [&str; 2] = ["snapshot", "snapshot-delete"];

/// One that is awake or suspended. What is condemned passes: it is refused by name.
pub(crate) async fn usable<I: Io>(
    cluster: &Cluster<'_, I>,
    caller: &Caller,
    id: &SandboxId,
    deadline: OffsetDateTime,
) -> Result<Place, Error> {
    let found = unlocked(cluster, caller, id, deadline).await?;
    // What has expired and is kept may be started again.
    if found.mark.want != Want::Gone {
        ensure_alive(cluster, &found.mark, id)?;
    }
    if !found.committed {
        return Err(still_creating(id));
    }
    match &found.config.lock {
        Some(lock) if !found.config.is_suspended() => Err(commit::locked(lock, &found.mark)),
        _ => repair::finished(cluster, found).await,
    }
}

/// As [`usable`], and not suspended either.
pub(crate) async fn awake<I: Io>(
    cluster: &Cluster<'_, I>,
    caller: &Caller,
    id: &SandboxId,
    deadline: OffsetDateTime,
) -> Result<Place, Error> {
    let found = usable(cluster, caller, id, deadline).await?;
    match &found.config.lock {
        Some(lock) => Err(commit::locked(lock, &found.mark)),
        None => Ok(found),
    }
}

/// Where it is, once the end of a snapshot is no longer in the way, or `deadline` has passed.
pub(crate) async fn unlocked<I: Io>(
    cluster: &Cluster<'_, I>,
    caller: &Caller,
    id: &SandboxId,
    deadline: OffsetDateTime,
) -> Result<Place, Error> {
    let until = deadline.min(cluster.now() + OWN_END);
    let mut wait = Wait::new(cluster, pace::OWN_END, until).keeping(12);
    loop {
        let found = place(cluster, caller, id).await?;
        let is_ending = found.config.lock.as_deref().is_some_and(|it| OWN_LOCKS.contains(&it));
        if !is_ending || !wait.pause().await {
            return Ok(found);
        }
    }
}

/// Refuses a sandbox that is over, or condemned.
pub(crate) fn ensure_alive<I: Io>(
    cluster: &Cluster<'_, I>,
    mark: &Mark,
    id: impl Display,
) -> Result<(), Error> {
    ensure_alive_at(mark, cluster.now(), cluster.settings.limits.stopped_max_seconds, id)
}

/// As [`ensure_alive`]; `kept` is `EDGE_STOPPED_MAX_SECONDS`.
pub(crate) fn ensure_alive_at(
    mark: &Mark,
    now: OffsetDateTime,
    kept: u32,
    id: impl Display,
) -> Result<(), Error> {
    let over = mark.want == Want::Gone || lifetime::time(mark, now, kept) == Time::Over;
    if over { Err(not_found(id)) } else { Ok(()) }
}

/// What is condemned is renewed by nobody (rule S4.1).
pub(crate) fn refuse_condemned(mark: &Mark) -> Result<(), Error> {
    if mark.want == Want::Gone {
        let text = "this sandbox is condemned and will be deleted; nothing can renew it";
        return Err(Error::new(Code::Condemned, text));
    }
    Ok(())
}

/// It is claimed, and not committed yet.
pub(crate) fn still_creating(id: &SandboxId) -> Error {
    Error::new(Code::StillCreating, format!("{id} is still being created; ask again")).retry_after(2)
}
