//! Running a command in a sandbox, at most once (rule S10.1).

use std::time::Duration;

use futures_util::{Stream, future::Either};

use super::{
    cluster::Cluster,
    guest::{Located, agent, execd, reach},
    process,
    ready::{explain, ready},
};
use crate::{
    access::{keys::Caller, secret::Secret},
    error::{Code, Error},
    io::{Failure, Io, NetError, Sent},
    sandbox::{
        channel::Channel,
        command::{self, ExecError, ExecRequest, Opened, Output},
        id::{Kind, SandboxId},
        process::Event,
    },
};

/// Time that execd gets beyond the command's own.
const SLACK: Duration = Duration::from_secs(10);

/// Starts a command and returns its events as they come. It is sent again only where it is proved not to have been
/// taken, or where the project's own daemon takes it once.
pub async fn events<I: Io>(
    cluster: &Cluster<'_, I>,
    caller: &Caller,
    id: &SandboxId,
    request: &ExecRequest,
    key: Option<&str>,
) -> Result<impl Stream<Item = Result<Vec<Event>, Error>> + Unpin + use<I>, Error> {
    let found = ready(cluster, caller, id).await?;
    let channel = found.mark.channel();
    if matches!(channel, Some(Channel::Guest | Channel::Terminal)) {
        return Ok(Either::Left(process::run(cluster, &found, request, key).await?));
    }
    let wish = request.wish().or(key.map(|_| "an `Idempotency-Key` of a command"));
    if let (Some(channel), Some(wish)) = (channel, wish) {
        return Err(channel.lacks(wish));
    }
    let request = &request.within(&found.mark.environment(&cluster.settings.secrets)?);
    Ok(Either::Right(if found.mark.kind == Kind::Qemu {
        Either::Right(agent::open(cluster, &found, request).await?.events())
    } else {
        Either::Left(by_execd(cluster, &found, request).await?.events())
    }))
}

async fn by_execd<I: Io>(
    cluster: &Cluster<'_, I>,
    found: &Located,
    request: &ExecRequest,
) -> Result<Opened<impl Stream<Item = Output> + Unpin + use<I>>, Error> {
    let allowed = request.timeout();
    let deadline = cluster.now() + allowed + SLACK;
    let tokens: Vec<Secret> =
        reach::tokens(cluster.settings, &found.mark).into_iter().map(Secret::new).collect();
    let Some(place) = reach::exec_place(cluster, found).await? else {
        return Err(explain(cluster, found, failed(&ExecError::NotSent(no_address()))).await);
    };
    let mut last = ExecError::Unauthorized;
    for token in &tokens {
        if !cluster.spend(1) {
            return Err(crate::pve::api::PveError::Budget.into());
        }
        match execd::open(&cluster.io, execd::request(request, &place, token), deadline).await {
            Ok(Opened { lines }) => {
                return Ok(Opened { lines: command::limit_output(lines, cluster.io.clone(), allowed) });
            }
            Err(ExecError::Unauthorized) => last = ExecError::Unauthorized,
            Err(error) => {
                last = error;
                break;
            }
        }
    }
    let error = failed(&last);
    match last {
        ExecError::NotSent(_) | ExecError::Refused { .. } => Err(explain(cluster, found, error).await),
        _ => Err(error),
    }
}

fn no_address() -> NetError {
    NetError {
        sent: Sent::Never,
        failure: Failure::Dns,
        detail: "PVE shows no address of the sandbox's network card (net0): it has none yet, or set \
                 PVE_PUBLIC_DOMAIN or PVE_IP_POOL_CIDR"
            .into(),
    }
}

/// How an exec error is told; a command that may have run says so.
pub fn failed(error: &ExecError) -> Error {
    match error {
        ExecError::Unauthorized => Error::new(
            Code::ExecUnauthorized,
            "execd refuses every token that EDGE_SECRET gives: was the secret that made this sandbox removed?",
        ),
        ExecError::NotSent(cause) => Error::new(
            Code::ExecUnreachable,
            format!("the command was not run: {cause}; is execd installed and the address right?"),
        )
        .retry_after(2),
        ExecError::Refused { status } if matches!(status, 400 | 405 | 413 | 415) => {
            Error::new(Code::ExecFailed, format!("execd refused the command with {status}; it was not run"))
        }
        ExecError::Refused { status } => Error::new(
            Code::ExecCut,
            format!(
                "status {status} came instead of execd's output; the command may or may not have been run"
            ),
        ),
        ExecError::Unanswered(cause) => Error::new(
            Code::ExecCut,
            format!("{cause}; the command may or may not have been run, and is not run again by itself"),
        ),
        ExecError::Cut => command::cut(),
    }
}
