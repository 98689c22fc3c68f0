//! Processes in a sandbox, by the project's own daemon in it.

mod follow;
mod operations;
mod start;
mod terminal;
#[cfg(test)]
mod tests;

use std::time::Duration;

use futures_util::{Stream, StreamExt};
use pve_edge_guest_protocol::{
    Unique,
    answer::{self, Done},
    call::Operation,
    process::{self, Follow, Named, Resize, Signal, Size, Spec, StdinTaken},
};
use serde::de::DeserializeOwned;

use self::{
    follow::{follow, lost},
    start::{Names, failed, start},
    terminal::terminal,
};
use super::{
    cluster::Cluster,
    guest::{Located, reach},
    ready::{explain, ready},
};
use crate::{
    access::keys::Caller,
    daemon::{CallFailure, Daemon},
    error::Error,
    io::{Answer, Io, NetError},
    sandbox::{
        command::ExecRequest,
        id::SandboxId,
        process::{
            After, Decoder, Encoding, End, Event, Exit, Foreign, Metrics, OutputPage, Process, ProcessId,
            ProcessRequest, Processes, State, Stdin,
        },
    },
};

/// Time for the answer to a call.
const CALL: Duration = Duration::from_secs(10);
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
    let (process, mut daemon) =
        begin(cluster, found, names, &found.mark.defaults.spec(request.within(&env).spec())).await?;
    if process.state == process::State::Lost {
        return Err(lost());
    }
    // Of memory that came back, the process has an older boot than the guest.
    daemon.pin(daemon.boot());
    let daemon = daemon.detached();
    let decoder = Decoder::new(process.process, request.encoding, &After::Start);
    Ok(follow(daemon, process.process, decoder))
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
    let (process, _) =
        begin(cluster, &found, names, &found.mark.defaults.spec(request.within(&env).spec())).await?;
    Ok(process.into())
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
) -> Result<(process::Process, Daemon<'c, I>), Error> {
    let mut daemon = reach::daemon(cluster, found).await?;
    match start(&mut daemon, names, spec).await {
        Ok(process) => Ok((process, daemon)),
        Err(failure @ CallFailure::NotSent(_)) => Err(told(cluster, found, failure).await),
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
    let all: process::Processes = ask(cluster, caller, id, &Operation::Processes {}, &[]).await?;
    let is_wanted = |it: &process::Process| tag.is_none() || it.tag.as_deref() == tag;
    let items = all.processes.into_iter().filter(is_wanted).map(Process::from).collect();
    Ok(Processes { items, next_cursor: () })
}

/// Reads one process.
pub(super) async fn get<I: Io>(
    cluster: &Cluster<'_, I>,
    caller: &Caller,
    id: &SandboxId,
    ProcessId(process): ProcessId,
) -> Result<Process, Error> {
    stand(cluster, caller, id, process, &Operation::Process(Named { process })).await
}

/// Kills a process with all its descendants, and forgets it.
pub(super) async fn remove<I: Io>(
    cluster: &Cluster<'_, I>,
    caller: &Caller,
    id: &SandboxId,
    ProcessId(process): ProcessId,
) -> Result<(), Error> {
    let _: Done = ask(cluster, caller, id, &Operation::Forget(Named { process }), &[]).await?;
    Ok(())
}

/// Sends a signal to a process.
pub(super) async fn signal<I: Io>(
    cluster: &Cluster<'_, I>,
    caller: &Caller,
    id: &SandboxId,
    ProcessId(process): ProcessId,
    (signal, scope): (String, process::Scope),
) -> Result<Process, Error> {
    stand(cluster, caller, id, process, &Operation::Signal(Signal { process, signal, scope })).await
}

/// Changes the size of a process's terminal.
pub(super) async fn resize<I: Io>(
    cluster: &Cluster<'_, I>,
    caller: &Caller,
    id: &SandboxId,
    ProcessId(process): ProcessId,
    size: Size,
) -> Result<Process, Error> {
    stand(cluster, caller, id, process, &Operation::Resize(Resize { process, size })).await
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
    let operation = Operation::Stdin(process::Stdin { process, at, end });
    let taken: StdinTaken = ask(cluster, caller, id, &operation, bytes).await?;
    Ok(taken.into())
}

/// Measures a sandbox.
pub(super) async fn metrics<I: Io>(
    cluster: &Cluster<'_, I>,
    caller: &Caller,
    id: &SandboxId,
) -> Result<Metrics, Error> {
    let measured: answer::Metrics = ask(cluster, caller, id, &Operation::Metrics {}, &[]).await?;
    Ok(measured.into())
}

/// The events of a process from some place on, until its end.
pub(super) async fn events<I: Io>(
    cluster: &Cluster<'_, I>,
    caller: &Caller,
    id: &SandboxId,
    ProcessId(process): ProcessId,
    (after, encoding): (&After, Encoding),
) -> Result<impl Stream<Item = Result<Vec<Event>, Error>> + Unpin + use<I>, Error> {
    let found = ready(cluster, caller, id).await?;
    let mut daemon = reach::daemon(cluster, &found).await?;
    // What cannot be followed is refused before anything is streamed.
    let asked = call(cluster, &mut daemon, &Operation::Process(Named { process }), &[]).await;
    let found: process::Process = match asked {
        Ok(it) => ours(it, process)?,
        Err(failure) => return Err(told(cluster, &found, failure).await),
    };
    daemon.pin(daemon.boot().filter(|_| found.state != process::State::Lost));
    Ok(follow(daemon.detached(), process, Decoder::new(process, encoding, after)))
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
    let found = ready(cluster, caller, id).await?;
    let mut daemon = reach::daemon(cluster, &found).await?;
    let wait = wait.min(cluster.platform.max_wait);
    let mut page = page(&mut daemon, process, Decoder::new(process, encoding, after), wait).await;
    if page.as_ref().is_err_and(CallFailure::is_passing) {
        page = self::page(&mut daemon, process, Decoder::new(process, encoding, after), wait).await;
    }
    match page {
        Ok(page) => Ok(page),
        Err(failure) => Err(told(cluster, &found, failure).await),
    }
}

/// Asks for output, and reads it.
async fn page<I: Io>(
    daemon: &mut Daemon<'_, I>,
    process: Unique,
    decoder: Decoder,
    wait: Duration,
) -> Result<OutputPage, CallFailure> {
    let (now, end) = (daemon.invocation().now(), daemon.invocation().end());
    let wait = wait.min((end - now - SLACK).max(time::Duration::ZERO).unsigned_abs());
    // Text as JSON may be six times as long.
    let most = daemon.invocation().platform.answer_bytes / 4;
    let operation = Operation::Follow(Follow {
        process,
        after: decoder.after(),
        wait_ms: Some(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
        most: Some(most as u64),
    });
    let answer = daemon.open(&operation, &[], (now + wait + CALL).min(end)).await?;
    read_page(answer, decoder, most).await
}

/// Reads events of about `most` bytes; what is cut behind the first of them can be asked for again.
async fn read_page<B>(
    mut answer: Answer<B>,
    mut decoder: Decoder,
    most: usize,
) -> Result<OutputPage, CallFailure>
where
    B: Stream<Item = Result<Vec<u8>, NetError>> + Unpin,
{
    let foreign = CallFailure::Foreign { status: answer.status };
    let (mut lines, mut events, mut read, mut end) = (Decoder::lines(), Vec::new(), 0, None);
    // Base64 is longer by a third, and lines have more in them than data.
    let longest = most * 2;
    while end.is_none() && read < longest {
        let bytes = match answer.body.next().await {
            Some(Ok(bytes)) => bytes,
            Some(Err(error)) if events.is_empty() => return Err(CallFailure::Unanswered(error)),
            Some(Err(_)) | None => break,
        };
        read += bytes.len();
        for heard in lines.push(&bytes) {
            let taken = heard.and_then(|line| decoder.take(line, &mut events));
            end = taken.map_err(|Foreign| foreign.clone())?;
            if end.is_some() {
                break;
            }
        }
    }
    // Only a daemon that has nothing to tell says nothing.
    if events.is_empty() && end.is_none() && (read >= longest || lines.is_within()) {
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

/// Makes a call that is answered with how a process stands.
async fn stand<I: Io>(
    cluster: &Cluster<'_, I>,
    caller: &Caller,
    id: &SandboxId,
    process: Unique,
    operation: &Operation,
) -> Result<Process, Error> {
    Ok(ours(ask(cluster, caller, id, operation, &[]).await?, process)?.into())
}

/// The process that an answer tells of, if it is the one that was asked about.
fn ours(found: process::Process, process: Unique) -> Result<process::Process, CallFailure> {
    if found.process == process { Ok(found) } else { Err(CallFailure::Foreign { status: 200 }) }
}

/// Makes a call of a sandbox's daemon.
async fn ask<I: Io, T: DeserializeOwned>(
    cluster: &Cluster<'_, I>,
    caller: &Caller,
    id: &SandboxId,
    operation: &Operation,
    body: &[u8],
) -> Result<T, Error> {
    let found = ready(cluster, caller, id).await?;
    let mut daemon = reach::daemon(cluster, &found).await?;
    match call(cluster, &mut daemon, operation, body).await {
        Ok(answer) => Ok(answer),
        Err(failure) => Err(told(cluster, &found, failure).await),
    }
}

/// Makes a call. One that may be made twice is, where the first is not answered.
async fn call<I: Io, T: DeserializeOwned>(
    cluster: &Cluster<'_, I>,
    daemon: &mut Daemon<'_, I>,
    operation: &Operation,
    body: &[u8],
) -> Result<T, CallFailure> {
    let deadline = || (cluster.now() + CALL).min(cluster.end());
    let is_once = matches!(operation, Operation::Signal(_) | Operation::Forget(_));
    match daemon.ask(operation, body, deadline()).await {
        Err(failure) if failure.is_passing() && !is_once => daemon.ask(operation, body, deadline()).await,
        answer => answer,
    }
}

/// The error of a call that failed: of one that was never sent, how the sandbox stands says why.
async fn told<I: Io>(cluster: &Cluster<'_, I>, found: &Located, failure: CallFailure) -> Error {
    match failure {
        CallFailure::NotSent(_) => explain(cluster, found, failure.into()).await,
        failure => failure.into(),
    }
}
