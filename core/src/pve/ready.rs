//! A sandbox that is ready for commands, and why its daemon is not reached.

use super::{
    cluster::Cluster,
    create::carry_on,
    guest::{
        Located,
        condition::condition,
        located::{locate, not_running},
        needs::{self, Need},
    },
    marks::{
        Phase,
        state::{is_coming_up, is_unproved},
    },
};
use crate::{
    access::keys::Caller,
    error::{Code, Error},
    io::Io,
    sandbox::id::SandboxId,
};

/// Locates a sandbox that runs commands now.
pub(super) async fn ready<I: Io>(
    cluster: &Cluster<'_, I>,
    caller: &Caller,
    id: &SandboxId,
) -> Result<Located, Error> {
    let found = locate(cluster, caller, id).await?;
    let expired = Need::Unexpired(" and is being stopped: extend it, or start it again");
    found.needs(cluster, &[Need::Alive, expired, Need::Made, Need::NotRollingBack, Need::NotFailed])?;
    up(cluster, found, id).await
}

/// The sandbox once it is up: commands run in what a GET calls running, and what nobody has seen come up is
/// probed once.
async fn up<I: Io>(cluster: &Cluster<'_, I>, found: Located, id: &SandboxId) -> Result<Located, Error> {
    let now = cluster.now();
    if !is_unproved(&found.mark, now) {
        return Ok(found);
    }
    let coming =
        || Error::new(Code::StillCreating, format!("{id} is still coming up; ask again")).retry_after(2);
    let seen = condition(cluster, &found).await?;
    let running = seen.is_running() || seen.is_starting();
    if !running && is_coming_up(&found.mark, now) {
        return Err(coming());
    }
    let before = found.clone();
    let progress = carry_on(cluster, found, seen, false, cluster.at_once()).await?;
    let found = Located { mark: progress.mark, ..before };
    match found.mark.phase {
        _ if progress.ready => Ok(found),
        Phase::Error => Err(needs::failed(&found.mark)),
        _ if is_coming_up(&found.mark, now) => Err(coming()),
        // It was up before: its daemon may only be slow.
        _ if running => Ok(found),
        _ => Err(not_running(&found.mark)),
    }
}

/// The error of a daemon that was not reached, or the sandbox's state where that explains it.
pub(super) async fn explain<I: Io>(cluster: &Cluster<'_, I>, found: &Located, error: Error) -> Error {
    let Ok(status) = cluster.send(found.api(cluster).status()).await else {
        return error;
    };
    if status.status == "running" {
        return error;
    }
    if is_coming_up(&found.mark, cluster.now()) {
        let text = format!("{} is still being created; ask again", found.mark.id());
        return Error::new(Code::StillCreating, text).retry_after(2);
    }
    let stands = not_running(&found.mark);
    Error::new(stands.code(), format!("{} ({})", stands.detail(), error.detail()))
}
