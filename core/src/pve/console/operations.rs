//! What is asked of processes, by scripts.

use std::time::Duration;

use pve_edge_guest_protocol::{
    Unique,
    answer::{Code as Refused, Refusal},
    process::{Named, Signal, Spec, Stdin as StdinCall},
};
use time::OffsetDateTime;

use super::{
    Console, FULL, Said,
    hub::Hub,
    line::{End, Reply, Sizes, Started, doubled},
    process::{self, Failure, Follower, Input, Job},
    refused,
    script::{self, About, exit},
    terminal::Ended,
};
use crate::{
    daemon::CallFailure,
    io::Io,
    sandbox::{
        channel::Channel,
        process::{Cursor, Exit, Place, Process, State, Stdin},
    },
};

/// Signals that Linux has.
const SIGNALS: &str = " HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT STOP TSTP \
                       TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS ";

impl<I: Io> Console<I> {
    /// Starts a process, once at most, and tells its number once it runs.
    pub(in crate::pve) async fn run(
        &mut self,
        process: Unique,
        spec: &Spec,
        is_kept: bool,
        until: OffsetDateTime,
    ) -> Result<Process, CallFailure> {
        if spec.pty.is_some() {
            let lacks = Channel::Terminal.lacks("a terminal (`pty`)");
            return Err(refused(Refused::Unsupported, lacks.detail()));
        }
        let input = match (&spec.input, spec.stdin) {
            (Some(bytes), _) => Input::Whole(bytes.0.clone()),
            (None, true) => Input::Live,
            (None, false) => Input::None,
        };
        let job = Job { script: script::process(spec), input, timeout_ms: spec.timeout_ms, is_kept };
        match self.start(process, &job, until).await? {
            Started::Now | Started::Before => {}
            Started::Not => return Err(self.failed(Failure::Unsent)),
        }
        let pid = match self.look(process, until).await {
            // It was begun, and all that was begun is gone.
            Err(CallFailure::Refused(it)) if it.code == Refused::NoSuchProcess => {
                return Err(CallFailure::Restarted);
            }
            looked => looked?,
        };
        let of = About::of(spec);
        Ok(Process { process, pid, ..begun(of, spec.stdin) })
    }

    /// Looks at a process, and waits until it runs; its number in the guest.
    pub(in crate::pve) async fn look(
        &mut self,
        process: Unique,
        until: OffsetDateTime,
    ) -> Result<Option<u32>, CallFailure> {
        let mut follower = Follower::observer(process, "0".into());
        loop {
            let hub = self.hub().await?;
            let asked = follower.next(hub, Duration::MAX).await;
            let (_, stands) = asked.map_err(|failure| self.failed(failure))?;
            match stands.filter(|it| it.pid > 0 || it.end.is_some()) {
                Some(stands) => {
                    self.seen = Some(process);
                    return Ok(Some(stands.pid).filter(|it| *it > 0));
                }
                None if self.invocation.now() >= until => return Err(self.failed(Failure::Unanswered)),
                None => {}
            }
        }
    }

    /// Makes sure that it has a process, unless that was seen last.
    pub(in crate::pve) async fn find(
        &mut self,
        process: Unique,
        until: OffsetDateTime,
    ) -> Result<(), CallFailure> {
        if self.seen == Some(process) { Ok(()) } else { self.look(process, until).await.map(|_| ()) }
    }

    /// Runs a command of our own to its end; its exit code. It may be run again.
    pub(in crate::pve) async fn command(
        &mut self,
        spec: &Spec,
        until: OffsetDateTime,
    ) -> Result<i32, CallFailure> {
        Ok(self.ask(script::process(spec), Input::None, until).await?.code)
    }

    /// Runs a script of our own for `sh` to its end, with these bytes as its input; its exit code and its output. It may be run
    /// again.
    pub(in crate::pve) async fn script(
        &mut self,
        script: String,
        input: Vec<u8>,
        until: OffsetDateTime,
    ) -> Result<(i32, Vec<u8>), CallFailure> {
        let Said { code, stdout } = self.ask(script, Input::Whole(input), until).await?;
        Ok((code, stdout))
    }

    /// Lists the processes that are kept, the oldest first.
    pub(in crate::pve) async fn processes(
        &mut self,
        until: OffsetDateTime,
    ) -> Result<Vec<Process>, CallFailure> {
        let said = self.ask(script::stand(None), Input::None, until).await?;
        let mut all = self.read(&said)?;
        all.sort_by_key(|it| std::cmp::Reverse(it.age_ms));
        Ok(all)
    }

    /// Reads one process.
    pub(in crate::pve) async fn process(
        &mut self,
        process: Unique,
        until: OffsetDateTime,
    ) -> Result<Process, CallFailure> {
        let said = self.ask(script::stand(Some(process)), Input::None, until).await?;
        self.one(&said, process)
    }

    /// Sends a signal to a process.
    pub(in crate::pve) async fn signal(
        &mut self,
        Signal { process, signal, scope }: &Signal,
        until: OffsetDateTime,
    ) -> Result<Process, CallFailure> {
        if !SIGNALS.contains(&format!(" {signal} ")) {
            return Err(refused(Refused::NoSuchSignal, "there is no such signal"));
        }
        let said = self.ask(script::signal(*process, signal, *scope), Input::None, until).await?;
        self.one(&said, *process)
    }

    /// Kills a process, and forgets it.
    pub(in crate::pve) async fn remove(
        &mut self,
        Named { process }: &Named,
        until: OffsetDateTime,
    ) -> Result<(), CallFailure> {
        let forgotten = forget(self.hub().await?, *process, until).await;
        forgotten.map_err(|failure| self.failed(failure))
    }

    /// Writes to a process's standard input.
    pub(in crate::pve) async fn write_stdin(
        &mut self,
        StdinCall { process, at, end }: &StdinCall,
        bytes: &[u8],
        until: OffsetDateTime,
    ) -> Result<Stdin, CallFailure> {
        let script = script::stdin(*process, *at, *end);
        let said = self.ask(script, Input::Whole(bytes.to_vec()), until).await?;
        let text = String::from_utf8_lossy(&said.stdout);
        if said.code == exit::OFFSET {
            let mut refusal = Refusal::new(Refused::StdinOffset, "bytes before these are missing");
            refusal.at = text.trim().parse().ok();
            return Err(CallFailure::Refused(refusal));
        }
        if said.code == exit::ENDED {
            return Err(refused(Refused::StdinClosed, "standard input is closed, or was never open"));
        }
        match refusal(&said) {
            Some(refusal) => Err(refusal),
            None => stdin_of(text.trim()).flatten().ok_or_else(foreign),
        }
    }

    fn one(&self, said: &Said, process: Unique) -> Result<Process, CallFailure> {
        if let Some(refusal) = refusal(said) {
            return Err(refusal);
        }
        self.read(said)?.pop().filter(|it| it.process == process).ok_or_else(foreign)
    }

    fn read(&self, said: &Said) -> Result<Vec<Process>, CallFailure> {
        let text = String::from_utf8_lossy(&said.stdout);
        text.lines().map(|line| row(line).ok_or_else(foreign)).collect()
    }
}

/// Kills a process, and has it forgotten. For this alone the guest needs no room.
async fn forget<I: Io>(hub: &mut Hub<I>, process: Unique, until: OffsetDateTime) -> Result<(), Failure> {
    hub.serve(process);
    for tries in 0.. {
        hub.send(&doubled(&format!("{process} forget"))).await.map_err(|Ended| Failure::Unanswered)?;
        let wait = (hub.now() + hub.patience(tries)).min(until);
        while let Some(reply) = hub.next(wait).await.map_err(|Ended| Failure::Unanswered)? {
            match reply {
                Reply::Gone(of) if of == process => return Ok(()),
                // A request before may have removed it.
                Reply::None(of) if of == process && tries > 0 => return Ok(()),
                Reply::None(of) if of == process => return Err(Failure::NoSuchProcess),
                _ => {}
            }
        }
        if hub.now() >= until {
            break;
        }
    }
    Err(Failure::Unanswered)
}

/// Why a script did nothing.
fn refusal(said: &Said) -> Option<CallFailure> {
    Some(match said.code {
        0 => return None,
        exit::NO_SUCH_PROCESS => refused(Refused::NoSuchProcess, "there is no such process"),
        exit::ENDED => refused(Refused::ProcessGone, "the process has ended"),
        exit::BUSY => refused(Refused::Busy, "another request writes to the process"),
        exit::FULL => refused(Refused::DiskFull, FULL),
        code => refused(Refused::Failed, &format!("a script in the sandbox ended with {code}")),
    })
}

pub(super) fn foreign() -> CallFailure {
    CallFailure::Foreign { status: 200 }
}

/// A process that has just begun.
fn begun(About { tag, argv, cwd, user }: About, has_stdin: bool) -> Process {
    let stdin = has_stdin.then_some(Stdin { at: 0, closed: false });
    Process {
        process: Unique([0; 16]),
        state: State::Running,
        pid: None,
        tag,
        argv,
        cwd,
        user,
        pty: false,
        stdin,
        exit: None,
        cursor: Cursor::default(),
        age_ms: 0,
    }
}

/// Reads what a script says of one process.
fn row(line: &str) -> Option<Process> {
    let mut words = line.split(' ');
    let mut next = || words.next();
    let (process, about) = (next()?.parse().ok()?, About::read(next()?));
    let (pid, age): (u32, i64) = (next()?.parse().ok()?, next()?.parse().ok()?);
    let there = Sizes { stdout: next()?.parse().ok()?, stderr: next()?.parse().ok()? };
    let stdin = stdin_of(next()?)?;
    let rest: Vec<_> = words.collect();
    let end = super::line::end_of(&rest)?;
    let place = |of: Sizes, dropped: u64| Place {
        all: of.stdout.saturating_add(of.stderr).saturating_add(dropped),
        stderr: of.stderr,
    };
    let (state, exit, place) = match end {
        None => (State::Running, None, place(there, 0)),
        Some(End::Lost) => (State::Lost, None, place(there, 0)),
        Some(End::Exit(exit)) => {
            let dropped = exit.dropped.iter().fold(0, |all: u64, it| all.saturating_add(*it));
            (State::Exited, Some(Exit::from(process::told(&exit))), place(exit.sizes, dropped))
        }
    };
    let pid = (pid > 0).then_some(pid);
    let age_ms = u64::try_from(age).unwrap_or_default() * 1000;
    let stdin = stdin.map(|it| Stdin { closed: it.closed || state != State::Running, ..it });
    let begun = begun(about, false);
    Some(Process { process, state, pid, stdin, exit, cursor: Cursor::at(place), age_ms, ..begun })
}

/// Reads what a script says of standard input: `-`, or bytes, with `/` behind them where it is closed.
fn stdin_of(word: &str) -> Option<Option<Stdin>> {
    if word == "-" {
        return Some(None);
    }
    let (bytes, closed) = word.strip_suffix('/').map_or((word, false), |it| (it, true));
    Some(Some(Stdin { at: bytes.parse().ok()?, closed }))
}
