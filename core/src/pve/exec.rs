//! Running a command in a sandbox, at most once (rule S10.1).

use std::time::Duration;

use futures_util::{Stream, future::Either};

use super::{
    cluster::Cluster,
    create::carry_on,
    guest::{
        Located, agent,
        condition::condition,
        execd,
        located::{locate, not_running},
        needs::{self, Need},
        reach,
    },
    marks::{
        Phase,
        state::{is_coming_up, is_unproved},
    },
};
use crate::{
    access::{keys::Caller, secret::Secret},
    error::{Code, Error},
    io::{Failure, Io, NetError, Sent},
    sandbox::{
        command::{self, ExecError, ExecRequest, Opened, Output},
        id::{Kind, SandboxId},
    },
};

/// Time that execd gets beyond the command's own.
const SLACK: Duration = Duration::from_secs(10);

/// Starts a command and returns its output as it comes. It is sent again only
/// where it is proved not to have been taken: never sent, or 401.
pub async fn open<I: Io>(
    cluster: &Cluster<'_, I>,
    caller: &Caller,
    id: &SandboxId,
    request: &ExecRequest,
) -> Result<Opened<impl Stream<Item = Output> + Unpin + use<I>>, Error> {
    let found = locate(cluster, caller, id).await?;
    let expired = Need::Unexpired(" and is being stopped: extend it, or start it again");
    found.needs(cluster, &[Need::Alive, expired, Need::Made, Need::NotRollingBack, Need::NotFailed])?;
    let found = up(cluster, found, id).await?;
    let request = &request.within(&found.mark.environment(&cluster.settings.secrets)?);
    if found.mark.kind == Kind::Qemu {
        let Opened { lines } = agent::open(cluster, &found, request).await?;
        return Ok(Opened { lines: Either::Right(lines) });
    }
    let Opened { lines } = by_execd(cluster, &found, id, request).await?;
    Ok(Opened { lines: Either::Left(lines) })
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

async fn by_execd<I: Io>(
    cluster: &Cluster<'_, I>,
    found: &Located,
    id: &SandboxId,
    request: &ExecRequest,
) -> Result<Opened<impl Stream<Item = Output> + Unpin + use<I>>, Error> {
    let allowed = request.timeout();
    let deadline = cluster.now() + allowed + SLACK;
    let tokens: Vec<Secret> =
        reach::tokens(cluster.settings, &found.mark).into_iter().map(Secret::new).collect();
    let base = reach::exec_base(cluster, found).await?;
    let Some((base, way)) = base else {
        return Err(explain(cluster, found, id, ExecError::NotSent(no_address())).await);
    };
    let mut last = ExecError::Unauthorized;
    for token in &tokens {
        if !cluster.spend(1) {
            return Err(crate::pve::api::PveError::Budget.into());
        }
        match execd::open(&cluster.io, execd::request(request, &base, token, way), deadline).await {
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
    Err(explain(cluster, found, id, last).await)
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

/// The error of a command without output: what its daemon said, and the sandbox's state where that explains it.
async fn explain<I: Io>(
    cluster: &Cluster<'_, I>,
    found: &Located,
    id: &SandboxId,
    error: ExecError,
) -> Error {
    let said = error.to_string();
    match error {
        ExecError::NotSent(_) | ExecError::Refused { .. } => {}
        error => return failed(&error),
    }
    let Ok(status) = cluster.send(found.api(cluster).status()).await else {
        return failed(&error);
    };
    if status.status == "running" {
        return failed(&error);
    }
    if is_coming_up(&found.mark, cluster.now()) {
        let text = format!("{id} is still being created; ask again");
        return Error::new(Code::StillCreating, text).retry_after(2);
    }
    let stands = not_running(&found.mark);
    Error::new(stands.code(), format!("{} ({said})", stands.detail()))
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
        ExecError::Cut => Error::new(
            Code::ExecCut,
            "the output ended before the exit code: the command may have ended, may run on, or was killed",
        ),
    }
}
