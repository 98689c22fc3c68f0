//! What runs the processes of a sandbox: the project's own daemon in it, or the hub in its console.

use std::time::Duration;

use futures_util::StreamExt;
use pve_edge_guest_protocol::{
    Unique,
    answer::{self, Code as Refused, Done, Refusal},
    call::Operation,
    process::{self, Follow, Line, Named, Resize, Signal, Spec, Start, Stdin as StdinCall, StdinTaken},
};
use serde::de::DeserializeOwned;
use time::OffsetDateTime;

use crate::{
    daemon::{CallFailure, Daemon},
    error::Error,
    io::{Io, NetError, invocation::Invocation},
    pve::{
        cluster::Cluster,
        console::{Console, Following},
        guest::Located,
        within::{Instead, Within, deadline},
    },
    sandbox::{
        channel::Channel,
        command::Lines,
        process::{Decoder, Heard, Metrics, Process, Stdin},
    },
};

/// Time for what is asked through a console: a MiB of input takes some 10 s.
const CONSOLE: Duration = Duration::from_secs(25);

/// What runs the processes of one sandbox.
pub(in crate::pve) enum Runner<'c, I: Io> {
    /// The project's own daemon.
    Daemon(Daemon<'c, I>),
    /// The hub in the console of a container.
    Console(Box<Console<I>>, Instead),
}

/// What a process tells that is followed, as it comes.
pub(super) enum Told<I: Io> {
    /// Bytes of the daemon's answer, and what splits them into lines.
    Daemon(I::Body, Lines<Heard>),
    /// What follows it in the console.
    Console(Box<Following<I>>),
}

impl<'c, I: Io> Runner<'c, I> {
    /// What runs the processes of a sandbox. One whose commands go another way is refused.
    pub(in crate::pve) async fn of(cluster: &'c Cluster<'_, I>, found: &Located) -> Result<Self, Error> {
        Ok(match Within::of(cluster, found).await? {
            Within::Daemon(daemon) => Self::Daemon(daemon),
            Within::Console(console, instead) => Self::Console(console, instead),
        })
    }

    /// Why a start under a key is refused: the console keeps no keys.
    pub(super) fn keeps_no_keys(&self) -> Option<Error> {
        match self {
            Self::Daemon(_) => None,
            Self::Console(_, Some(failure)) => Some(failure.clone().into()),
            Self::Console(_, None) => Some(Channel::Terminal.lacks("an `Idempotency-Key` of a command")),
        }
    }

    /// Why what depends on the daemon's state is refused: the console is in its place, and knows nothing of it. What was told
    /// from there, such as that there are no processes, would be wrong.
    pub(super) fn knows_all(&self) -> Result<(), CallFailure> {
        match self {
            Self::Console(_, Some(failure)) => Err(failure.clone()),
            Self::Daemon(_) | Self::Console(_, None) => Ok(()),
        }
    }

    /// The world and the limits of its calls.
    pub(super) fn invocation(&self) -> &Invocation<I> {
        match self {
            Self::Daemon(daemon) => daemon.invocation(),
            Self::Console(console, _) => console.invocation(),
        }
    }

    /// The start of the guest that it has told of.
    pub(super) fn boot(&self) -> Option<Unique> {
        match self {
            Self::Daemon(daemon) => daemon.boot(),
            Self::Console(console, _) => console.boot(),
        }
    }

    /// Makes no call any more once the guest has another start than this one.
    pub(super) fn pin(&mut self, boot: Option<Unique>) {
        match self {
            Self::Daemon(daemon) => daemon.pin(boot),
            Self::Console(console, _) => console.pin(boot),
        }
    }

    /// The same, for an answer that streams on after the request was handled.
    pub(super) fn detached(self) -> Runner<'static, I> {
        match self {
            Self::Daemon(daemon) => Runner::Daemon(daemon.detached()),
            Self::Console(console, instead) => Runner::Console(Box::new(console.streaming()), instead),
        }
    }

    /// Starts a process. One that is not `is_kept` may be forgotten once its end was told. In the daemon's place only those
    /// are started, and without a terminal: it would know nothing of the others.
    pub(super) async fn start(
        &mut self,
        start: &Start,
        spec: &Spec,
        is_kept: bool,
        until: OffsetDateTime,
    ) -> Result<Process, CallFailure> {
        if is_kept || spec.pty.is_some() {
            self.knows_all()?;
        }
        match self {
            Self::Daemon(daemon) => {
                let body = serde_json::to_vec(spec).unwrap_or_default();
                let started = daemon.ask(&Operation::Start(start.clone()), &body, until).await?;
                Ok(ours(started, start.process)?.into())
            }
            Self::Console(console, _) => {
                let until = console_deadline(console.invocation());
                console.run(start.process, spec, is_kept, until).await
            }
        }
    }

    /// Reads one process.
    pub(super) async fn process(&mut self, process: Unique) -> Result<Process, CallFailure> {
        match self {
            Self::Daemon(daemon) => {
                let read = call(daemon, &Operation::Process(Named { process }), &[]).await?;
                Ok(ours(read, process)?.into())
            }
            Self::Console(console, instead) => {
                found(console.process(process, console_deadline(console.invocation())).await, instead)
            }
        }
    }

    /// Lists the processes, the oldest first.
    pub(super) async fn processes(&mut self) -> Result<Vec<Process>, CallFailure> {
        self.knows_all()?;
        match self {
            Self::Daemon(daemon) => {
                let all: process::Processes = call(daemon, &Operation::Processes {}, &[]).await?;
                Ok(all.processes.into_iter().map(Process::from).collect())
            }
            Self::Console(console, _) => console.processes(console_deadline(console.invocation())).await,
        }
    }

    /// Sends a signal to a process.
    pub(super) async fn signal(&mut self, signal: Signal) -> Result<Process, CallFailure> {
        let process = signal.process;
        match self {
            Self::Daemon(daemon) => {
                Ok(ours(call(daemon, &Operation::Signal(signal), &[]).await?, process)?.into())
            }
            Self::Console(console, instead) => {
                found(console.signal(&signal, console_deadline(console.invocation())).await, instead)
            }
        }
    }

    /// Kills a process with all its descendants, and forgets it.
    pub(super) async fn forget(&mut self, process: Unique) -> Result<(), CallFailure> {
        let named = Named { process };
        match self {
            Self::Daemon(daemon) => call::<_, Done>(daemon, &Operation::Forget(named), &[]).await.map(|_| ()),
            Self::Console(console, instead) => {
                found(console.remove(&named, console_deadline(console.invocation())).await, instead)
            }
        }
    }

    /// Writes to a process's standard input.
    pub(super) async fn write_stdin(&mut self, stdin: StdinCall, bytes: &[u8]) -> Result<Stdin, CallFailure> {
        self.knows_all()?;
        match self {
            Self::Daemon(daemon) => {
                let taken: StdinTaken = call(daemon, &Operation::Stdin(stdin), bytes).await?;
                Ok(taken.into())
            }
            Self::Console(console, _) => {
                console.write_stdin(&stdin, bytes, console_deadline(console.invocation())).await
            }
        }
    }

    /// Changes the size of a process's terminal.
    pub(super) async fn resize(&mut self, resize: Resize) -> Result<Process, CallFailure> {
        self.knows_all()?;
        let process = resize.process;
        match self {
            Self::Daemon(daemon) => {
                Ok(ours(call(daemon, &Operation::Resize(resize), &[]).await?, process)?.into())
            }
            Self::Console(..) => Err(unable("a terminal (`pty`)")),
        }
    }

    /// Measures the sandbox.
    pub(super) async fn metrics(&mut self) -> Result<Metrics, CallFailure> {
        match self {
            Self::Daemon(daemon) => {
                let measured: answer::Metrics = call(daemon, &Operation::Metrics {}, &[]).await?;
                Ok(measured.into())
            }
            Self::Console(console, _) => {
                let until = deadline(console.invocation());
                Ok(console.measure(until).await?.into())
            }
        }
    }

    /// Follows a process from where `decoder` is: until its end, or for `wait` at most and about `most` bytes. What nobody
    /// is to find again is forgotten when its end was told.
    pub(super) async fn follow(
        &mut self,
        process: Unique,
        decoder: &Decoder,
        (wait, most): (Option<Duration>, Option<u64>),
        (is_kept, until): (bool, OffsetDateTime),
    ) -> Result<Told<I>, CallFailure> {
        match self {
            Self::Daemon(daemon) => {
                let wait_ms = wait.map(|it| u64::try_from(it.as_millis()).unwrap_or(u64::MAX));
                let follow = Follow { process, after: decoder.after(), wait_ms, most };
                let answer = daemon.open(&Operation::Follow(follow), &[], until).await?;
                Ok(Told::Daemon(answer.body, Decoder::lines()))
            }
            Self::Console(console, instead) => {
                console.renew();
                let until = console_deadline(console.invocation());
                let place = match decoder.place() {
                    Some(place) => place,
                    None => found(console.process(process, until).await, instead)?.cursor.place(),
                };
                found(console.find(process, until).await, instead)?;
                Ok(Told::Console(Box::new(console.take().follow(process, place, wait, is_kept))))
            }
        }
    }
}

impl<I: Io> Told<I> {
    /// The next lines, and the bytes that they came in; `None` at the end of the answer.
    pub(super) async fn next(&mut self) -> Option<Result<(Vec<Heard>, usize), NetError>> {
        Some(match self {
            Self::Daemon(body, lines) => body.next().await?.map(|bytes| (lines.push(&bytes), bytes.len())),
            Self::Console(following) => following.next().await?.map(|lines| {
                let bytes = lines.iter().map(Line::bytes).sum();
                (lines.into_iter().map(Ok).collect(), bytes)
            }),
        })
    }

    /// Whether a line has begun, of which the end has not come.
    pub(super) fn is_within(&self) -> bool {
        matches!(self, Self::Daemon(_, lines) if lines.is_within())
    }
}

/// The answer of a console. A process that it does not have may be the daemon's in whose place it is; one that it has is its
/// own, since a name is given once.
fn found<T>(answer: Result<T, CallFailure>, instead: &Instead) -> Result<T, CallFailure> {
    match (answer, instead) {
        (Err(CallFailure::Refused(refusal)), Some(failure)) if refusal.code == Refused::NoSuchProcess => {
            Err(failure.clone())
        }
        (answer, _) => answer,
    }
}

/// Makes a call. One that may be made twice is, where the first is not answered.
async fn call<I: Io, T: DeserializeOwned>(
    daemon: &mut Daemon<'_, I>,
    operation: &Operation,
    body: &[u8],
) -> Result<T, CallFailure> {
    let is_once = matches!(operation, Operation::Signal(_) | Operation::Forget(_));
    let until = deadline(daemon.invocation());
    match daemon.ask(operation, body, until).await {
        Err(failure) if failure.is_passing() && !is_once => {
            let until = deadline(daemon.invocation());
            daemon.ask(operation, body, until).await
        }
        answer => answer,
    }
}

/// The process that an answer tells of, if it is the one that was asked about.
fn ours(found: process::Process, process: Unique) -> Result<process::Process, CallFailure> {
    if found.process == process { Ok(found) } else { Err(CallFailure::Foreign { status: 200 }) }
}

/// Deadline of what is asked through a console, which takes its time.
fn console_deadline<I: Io>(invocation: &Invocation<I>) -> OffsetDateTime {
    (invocation.now() + CONSOLE).min(invocation.end())
}

fn unable(what: &str) -> CallFailure {
    let text = Channel::Terminal.lacks(what).detail().to_owned();
    CallFailure::Refused(Refusal::new(Refused::Unsupported, text))
}
