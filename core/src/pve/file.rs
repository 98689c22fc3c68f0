//! The daemon through which the files of a sandbox are reached.

use super::{
    cluster::Cluster,
    guest::{located::locate, reach},
    ready::{explain, ready},
};
use crate::{
    access::keys::Caller,
    daemon::Daemon,
    error::Error,
    io::Io,
    sandbox::{channel::Channel, id::SandboxId},
};

/// The project's own daemon in a sandbox that is up. A sandbox that has another is refused; `what` names the thing that
/// only ours can do.
pub async fn daemon<'c, I: Io>(
    cluster: &'c Cluster<'_, I>,
    caller: &Caller,
    id: &SandboxId,
    what: &str,
) -> Result<Daemon<'c, I>, Error> {
    let found = ready(cluster, caller, id).await?;
    match found.mark.channel() {
        None | Some(Channel::Guest) => {
            let mut daemon = reach::daemon(cluster, &found).await?;
            daemon.set_defaults(found.mark.defaults.clone());
            Ok(daemon)
        }
        Some(other) => Err(other.lacks(what)),
    }
}

/// The error of a sandbox whose daemon was not reached, or the sandbox's state where that explains it.
pub async fn unreached<I: Io>(
    cluster: &Cluster<'_, I>,
    caller: &Caller,
    id: &SandboxId,
    error: Error,
) -> Error {
    match locate(cluster, caller, id).await {
        Ok(found) => explain(cluster, &found, error).await,
        Err(_) => error,
    }
}
