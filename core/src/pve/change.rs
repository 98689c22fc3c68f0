//! Changing what we keep about a sandbox: expiry, name, metadata.

use time::OffsetDateTime;

use super::{
    cluster::Cluster,
    guest::{
        commit::{self, Unwritten},
        needs::{ensure_alive, ensure_alive_at, refuse_condemned, still_creating, unlocked},
        place::Place,
    },
    marks::{Mark, lifetime, state::never_came_up},
};
use crate::{
    access::keys::Caller,
    error::{Code, Error},
    io::Io,
    sandbox::{
        id::SandboxId,
        lifetime::Ttl,
        patch::{Patch, unchanged},
    },
};

/// Applies a patch, if the mark is still the one that `if_match` names.
pub async fn patch<I: Io>(
    cluster: &Cluster<'_, I>,
    caller: &Caller,
    id: &SandboxId,
    patch: &Patch,
    if_match: Option<&str>,
    deadline: OffsetDateTime,
) -> Result<Place, Error> {
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
    deadline: OffsetDateTime,
) -> Result<Place, Error> {
    let limits = &cluster.settings.limits;
    update(cluster, caller, id, deadline, &|mark, now| {
        unchanged(if_match, &mark.etag())?;
        lifetime::extend(mark, said, now, limits);
        Ok(())
    })
    .await
}

/// `apply` is given the moment of the attempt that is written: of two
/// renewals at once, the later one gives no less.
async fn update<I: Io>(
    cluster: &Cluster<'_, I>,
    caller: &Caller,
    id: &SandboxId,
    deadline: OffsetDateTime,
    apply: &(dyn Fn(&mut Mark, i64) -> Result<(), Error> + Sync),
) -> Result<Place, Error> {
    let mut last = Unwritten::default();
    for _ in 0..5 {
        let found = unlocked(cluster, caller, id, deadline).await?;
        // What never came up in its time is over, and nothing to renew.
        if never_came_up(&found.mark) {
            ensure_alive(cluster, &found.mark, id)?;
        }
        if !found.committed {
            return Err(still_creating(id));
        }
        if found.config.lock.as_deref() == Some("suspended") {
            let text = "PVE takes no changes of a guest that is suspended: resume it first";
            return Err(Error::new(Code::Suspended, text));
        }
        let (now, kept) = (cluster.now(), cluster.settings.limits.stopped_max_seconds);
        let apply = |mark: &mut Mark| {
            refuse_condemned(mark)?;
            apply(mark, now.unix_timestamp())?;
            // What is over and stays over is gone for its owner too.
            ensure_alive_at(mark, now, kept, id)
        };
        match commit::write(cluster, &found.node, &found.config, &found.mark, &apply).await? {
            Ok(mark) => return Ok(Place { mark, ..found }),
            Err(unwritten) => last = unwritten,
        }
    }
    Err(last.told(id))
}
