//! What does things within a sandbox: the project's own daemon, or the hub in its console.

use std::time::Duration;

use time::OffsetDateTime;

use super::{
    cluster::Cluster,
    console::Console,
    guest::{Located, reach},
};
use crate::{
    daemon::{CallFailure, Daemon},
    error::Error,
    io::{Io, invocation::Invocation},
    sandbox::{channel::Channel, id::Kind},
};

/// Time for the answer to a call.
pub(super) const CALL: Duration = Duration::from_secs(10);

/// What does things within one sandbox.
pub(super) enum Within<'c, I: Io> {
    /// The project's own daemon.
    Daemon(Daemon<'c, I>),
    /// The hub in the console of a container.
    Console(Box<Console<I>>, Instead),
}

/// Failure to reach the daemon in whose place the console is, if there is one.
pub(super) type Instead = Option<CallFailure>;

impl<'c, I: Io> Within<'c, I> {
    /// What does things within a sandbox: of a container whose daemon is not reached, its console. A sandbox whose commands
    /// go another way is refused.
    pub(super) async fn of(cluster: &'c Cluster<'_, I>, found: &Located) -> Result<Self, Error> {
        // The sandbox was found now, before the daemon takes its time.
        let mut console = Box::new(Console::new(cluster, cluster.pve, found));
        if found.mark.channel() == Some(Channel::Terminal) {
            return Ok(Self::Console(console, None));
        }
        let mut daemon = reach::daemon(cluster, found).await?;
        // It would be asked first anyway.
        let asked = daemon.health(deadline(cluster)).await.map_err(CallFailure::before_a_call);
        if let Err(failure @ CallFailure::NotSent(_)) = asked
            && found.mark.kind == Kind::Lxc
            && console.open().await.is_ok()
        {
            return Ok(Self::Console(console, Some(failure)));
        }
        Ok(Self::Daemon(daemon))
    }
}

/// Deadline of a call that begins now.
pub(super) fn deadline<I: Io>(invocation: &Invocation<I>) -> OffsetDateTime {
    (invocation.now() + CALL).min(invocation.end())
}
