//! Processes in a sandbox, by the project's own daemon in it, or by its console.

mod follow;
mod operations;
mod runner;
mod start;
mod terminal;
#[cfg(test)]
mod tests;

use std::time::Duration;

use futures_util::Stream;
use pve_edge_guest_protocol::{
    Unique,
    process::{self, Resize, Signal, Size, Spec},
};

pub(in crate::pve) use self::runner::Runner;
use self::{
    follow::{follow, lost},
    runner::Told,
    start::{Names, failed, start},
    terminal::terminal,
};
use super::{
    cluster::Cluster,
    guest::Located,
    ready::{explain, ready},
    within::CALL,
};
use crate::{
    access::keys::Caller,
    daemon::CallFailure,
    error::Error,
    io::Io,
    sandbox::{
        command::ExecRequest,
        id::SandboxId,
        process::{
            After, Decoder, Encoding, End, Event, Exit, Foreign, Metrics, OutputPage, Process, ProcessId,
            ProcessRequest, Processes, State, Stdin,
        },
    },
};

/// Time that a wait for output leaves for its answer.
const SLACK: Duration = Duration::from_secs(2);

/// Runs a command in a sandbox that was found, and returns its events until its end. It goes on when nobody follows it,
/// until its own time is over.
pub(super) async fn run<I: Io>(
    cluster: &Cluster<'_, I>,
    found: &Located,
    request: &ExecRequest,
    key: Option<&str>,
) -> Result<impl Stream<Item = Result<Vec<Event>, Error>> + Unpin + use<I>, Error> {
    let env = found.mark.environment(&cluster.settings.secrets)?;
    let names = names(cluster, found, key, || request.canonical());
    let spec = found.mark.defaults.spec(request.within(&env).spec());
    let (process, mut runner) = begin(cluster, found, names, &spec, false).await?;
    if process.state == State::Lost {
        return Err(lost());
    }
    // Of memory that came back, the process has an older boot than the guest.
    runner.pin(runner.boot());
    let decoder = Decoder::new(process.process, request.encoding, &After::Start);
    Ok(follow(runner.detached(), process.process, decoder, false))
}

/// Starts a process in a sandbox.
pub(super) async fn create<I: Io>(
    cluster: &Cluster<'_, I>,
    caller: &Caller,
    id: &SandboxId,
    request: &ProcessRequest,
    key: Option<&str>,
) -> Result<Process, Error> {
    let found = ready(cluster, caller, id).await?;
    let env = found.mark.environment(&cluster.settings.secrets)?;
    let names = names(cluster, &found, key, || request.canonical());
    let spec = found.mark.defaults.spec(request.within(&env).spec());
    let (process, _) = begin(cluster, &found, names, &spec, true).await?;
    Ok(process)
}

/// The names that the process of a request may have.
fn names<I: Io>(
    cluster: &Cluster<'_, I>,
    found: &Located,
    key: Option<&str>,
    canonical: impl FnOnce() -> String,
) -> Names {
    let Some(key) = key else { return Names::own(Unique(cluster.draw())) };
    let (settings, guest) = (cluster.settings, found.mark.name_of_guest());
    Names::keyed(&settings.secrets, &settings.deployment, &guest, key, &canonical())
}

async fn begin<'c, I: Io>(
    cluster: &'c Cluster<'_, I>,
    found: &Located,
    names: Names,
    spec: &Spec,
    is_kept: bool,
) -> Result<(Process, Runner<'c, I>), Error> {
    let mut runner = Runner::of(cluster, found).await?;
    if let Some(error) = runner.keeps_no_keys().filter(|_| names.are_keyed()) {
        return Err(error);
    }
    match start(&mut runner, names, spec, is_kept).await {
        Ok(process) => Ok((process, runner)),
        Err(failure @ (CallFailure::NotSent(_) | CallFailure::NoWay(_))) => {
            Err(told(cluster, found, failure).await)
        }
        Err(failure) => Err(failed(failure)),
    }
}

/// Lists the processes of a sandbox, the oldest first.
pub(super) async fn list<I: Io>(
    cluster: &Cluster<'_, I>,
    caller: &Caller,
    id: &SandboxId,
    tag: Option<&str>,
) -> Result<Processes, Error> {
    let (found, mut runner) = up(cluster, caller, id).await?;
    let mut items = answered(cluster, &found, runner.processes().await).await?;
    items.retain(|it| tag.is_none() || it.tag.as_deref() == tag);
    Ok(Processes { items, next_cursor: () })
}

/// Reads one process.
pub(super) async fn get<I: Io>(
    cluster: &Cluster<'_, I>,
    caller: &Caller,
    id: &SandboxId,
    ProcessId(process): ProcessId,
) -> Result<Process, Error> {
    let (found, mut runner) = up(cluster, caller, id).await?;
    answered(cluster, &found, runner.process(process).await).await
}

/// Kills a process with all its descendants, and forgets it.
pub(super) async fn remove<I: Io>(
    cluster: &Cluster<'_, I>,
    caller: &Caller,
    id: &SandboxId,
    ProcessId(process): ProcessId,
) -> Result<(), Error> {
    let (found, mut runner) = up(cluster, caller, id).await?;
    answered(cluster, &found, runner.forget(process).await).await
}

/// Sends a signal to a process.
pub(super) async fn signal<I: Io>(
    cluster: &Cluster<'_, I>,
    caller: &Caller,
    id: &SandboxId,
    ProcessId(process): ProcessId,
    (signal, scope): (String, process::Scope),
) -> Result<Process, Error> {
    let (found, mut runner) = up(cluster, caller, id).await?;
    answered(cluster, &found, runner.signal(Signal { process, signal, scope }).await).await
}

/// Changes the size of a process's terminal.
pub(super) async fn resize<I: Io>(
    cluster: &Cluster<'_, I>,
    caller: &Caller,
    id: &SandboxId,
    ProcessId(process): ProcessId,
    size: Size,
) -> Result<Process, Error> {
    let (found, mut runner) = up(cluster, caller, id).await?;
    answered(cluster, &found, runner.resize(Resize { process, size }).await).await
}

/// Writes bytes to a process's standard input, behind the first `at` ones.
pub(super) async fn write_stdin<I: Io>(
    cluster: &Cluster<'_, I>,
    caller: &Caller,
    id: &SandboxId,
    ProcessId(process): ProcessId,
    (at, end): (u64, bool),
    bytes: &[u8],
) -> Result<Stdin, Error> {
    let (found, mut runner) = up(cluster, caller, id).await?;
    let taken = runner.write_stdin(process::Stdin { process, at, end }, bytes).await;
    answered(cluster, &found, taken).await
}

/// Measures a sandbox.
pub(super) async fn metrics<I: Io>(
    cluster: &Cluster<'_, I>,
    caller: &Caller,
    id: &SandboxId,
) -> Result<Metrics, Error> {
    let (found, mut runner) = up(cluster, caller, id).await?;
    answered(cluster, &found, runner.metrics().await).await
}

/// The events of a process from some place on, until its end.
pub(super) async fn events<I: Io>(
    cluster: &Cluster<'_, I>,
    caller: &Caller,
    id: &SandboxId,
    ProcessId(process): ProcessId,
    (after, encoding): (&After, Encoding),
) -> Result<impl Stream<Item = Result<Vec<Event>, Error>> + Unpin + use<I>, Error> {
    let (found, mut runner) = up(cluster, caller, id).await?;
    // What cannot be followed is refused before anything is streamed.
    let stands = answered(cluster, &found, runner.process(process).await).await?;
    runner.pin(runner.boot().filter(|_| stands.state != State::Lost));
    Ok(follow(runner.detached(), process, Decoder::new(process, encoding, after), true))
}

/// The output of a process from some place on, as far as it has come; `wait` is for the first event.
pub(super) async fn output<I: Io>(
    cluster: &Cluster<'_, I>,
    caller: &Caller,
    id: &SandboxId,
    ProcessId(process): ProcessId,
    (after, encoding): (&After, Encoding),
    wait: Duration,
) -> Result<OutputPage, Error> {
    let (found, mut runner) = up(cluster, caller, id).await?;
    let wait = wait.min(cluster.platform.max_wait);
    let decoder = || Decoder::new(process, encoding, after);
    let mut page = page(&mut runner, process, decoder(), wait).await;
    if page.as_ref().is_err_and(CallFailure::is_passing) {
        page = self::page(&mut runner, process, decoder(), wait).await;
    }
    answered(cluster, &found, page).await
}

/// Asks for output, and reads it.
async fn page<I: Io>(
    runner: &mut Runner<'_, I>,
    process: Unique,
    decoder: Decoder,
    wait: Duration,
) -> Result<OutputPage, CallFailure> {
    let (now, end) = (runner.invocation().now(), runner.invocation().end());
    let wait = wait.min((end - now - SLACK).max(time::Duration::ZERO).unsigned_abs());
    // Text as JSON may be six times as long.
    let most = runner.invocation().platform.answer_bytes / 4;
    let until = (now + wait + CALL).min(end);
    let told = runner.follow(process, &decoder, (Some(wait), Some(most as u64)), (true, until)).await?;
    read_page(told, decoder, most).await
}

/// Reads events of about `most` bytes; what is cut behind the first of them can be asked for again.
async fn read_page<I: Io>(
    mut told: Told<I>,
    mut decoder: Decoder,
    most: usize,
) -> Result<OutputPage, CallFailure> {
    let foreign = CallFailure::Foreign { status: 200 };
    let (mut events, mut read, mut end) = (Vec::new(), 0, None);
    // Base64 is longer by a third, and lines have more in them than data.
    let longest = most * 2;
    while end.is_none() && read < longest {
        let (lines, bytes) = match told.next().await {
            Some(Ok(lines)) => lines,
            Some(Err(error)) if events.is_empty() => return Err(CallFailure::Unanswered(error)),
            Some(Err(_)) | None => break,
        };
        read += bytes;
        for heard in lines {
            let taken = heard.and_then(|line| decoder.take(line, &mut events));
            end = taken.map_err(|Foreign| foreign.clone())?;
            if end.is_some() {
                break;
            }
        }
    }
    // Only a daemon that has nothing to tell says nothing.
    if events.is_empty() && end.is_none() && (read >= longest || told.is_within()) {
        return Err(foreign);
    }
    let (state, exit) = match end {
        None => (State::Running, None),
        Some(End::Lost) => (State::Lost, None),
        Some(End::Exit(exit)) => (State::Exited, Some(exit)),
    };
    let exit: Option<Exit> = exit;
    Ok(OutputPage { state, cursor: decoder.cursor(), events, exit })
}

/// A sandbox that is up, and what runs its processes.
async fn up<'c, I: Io>(
    cluster: &'c Cluster<'_, I>,
    caller: &Caller,
    id: &SandboxId,
) -> Result<(Located, Runner<'c, I>), Error> {
    let found = ready(cluster, caller, id).await?;
    let runner = Runner::of(cluster, &found).await?;
    Ok((found, runner))
}

/// The answer of a sandbox, or the error of one that did not answer.
async fn answered<I: Io, T>(
    cluster: &Cluster<'_, I>,
    found: &Located,
    answer: Result<T, CallFailure>,
) -> Result<T, Error> {
    match answer {
        Ok(answer) => Ok(answer),
        Err(failure) => Err(told(cluster, found, failure).await),
    }
}

/// The error of a call that failed: of one that was never sent, how the sandbox stands says why.
async fn told<I: Io>(cluster: &Cluster<'_, I>, found: &Located, failure: CallFailure) -> Error {
    match failure {
        CallFailure::NotSent(_) | CallFailure::NoWay(_) => explain(cluster, found, failure.into()).await,
        failure => failure.into(),
    }
}
