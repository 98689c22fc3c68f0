//! Changing what we keep about a sandbox: expiry, name, metadata.

use super::{
    cluster::Cluster,
    guest::{
        Located,
        needs::{Need, ensure_alive_at, refuse_condemned, unlocked},
        write::{Attempts, write},
    },
    marks::{Mark, lifetime},
};
use crate::{
    access::keys::Caller,
    error::Error,
    io::{Io, deadline::Deadline},
    sandbox::{
        id::SandboxId,
        lifetime::Ttl,
        patch::{Patch, check_etag},
    },
};

/// Applies a patch, if the mark is still the one that `if_match` names.
pub async fn patch<I: Io>(
    cluster: &Cluster<'_, I>,
    caller: &Caller,
    id: &SandboxId,
    patch: &Patch,
    if_match: Option<&str>,
    deadline: Deadline<'_, I>,
) -> Result<Located, Error> {
    let ttl = patch.ttl_seconds.map(|it| Ttl::parse(it, &cluster.settings.limits)).transpose()?;
    patch.check()?;
    update(cluster, caller, id, deadline, &|mark, now| {
        mark.patch(patch, if_match)?;
        if let Some(ttl) = ttl {
            lifetime::give(mark, ttl, now);
        }
        if let Some(on_expiry) = patch.on_expiry {
            mark.on_expiry = on_expiry;
        }
        Ok(())
    })
    .await
}

/// Gives it its span again, which never shortens its time, or what `said` sets, counted from now,
/// if the mark is still the one that `if_match` names. Accepted until the guest is condemned, even
/// after its expiry.
pub async fn extend<I: Io>(
    cluster: &Cluster<'_, I>,
    caller: &Caller,
    id: &SandboxId,
    said: Option<Ttl>,
    if_match: Option<&str>,
    deadline: Deadline<'_, I>,
) -> Result<Located, Error> {
    let limits = &cluster.settings.limits;
    update(cluster, caller, id, deadline, &|mark, now| {
        check_etag(if_match, &mark.etag())?;
        lifetime::extend(mark, said, now, limits);
        Ok(())
    })
    .await
}

/// Changes the mark of a sandbox that may have expired and is not condemned. `apply` is given the moment of
/// the attempt that is written: of two renewals at once, the later one gives no less.
async fn update<I: Io>(
    cluster: &Cluster<'_, I>,
    caller: &Caller,
    id: &SandboxId,
    deadline: Deadline<'_, I>,
    apply: &(dyn Fn(&mut Mark, i64) -> Result<(), Error> + Sync),
) -> Result<Located, Error> {
    let mut attempts = Attempts::default();
    loop {
        let found = unlocked(cluster, caller, id, deadline).await?;
        found.needs(cluster, &[Need::Renewable, Need::Committed, Need::NotSuspended])?;
        let (now, kept) = (cluster.now(), cluster.settings.limits.stopped_max_seconds);
        let apply = |mark: &mut Mark| {
            refuse_condemned(mark)?;
            apply(mark, now.unix_timestamp())?;
            // What is over and stays over is gone for its owner too.
            ensure_alive_at(mark, now, kept)
        };
        match write(cluster, &found, &apply).await? {
            Ok(mark) => return Ok(Located { mark, ..found }),
            Err(unwritten) => attempts.count(unwritten, id)?,
        }
    }
}
