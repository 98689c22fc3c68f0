//! The console of a container, as a way for processes and files where it has no daemon: PVE gives a root shell of it to an API
//! token, by a websocket.

pub(in crate::pve) mod files;
mod floor;
mod hub;
mod line;
mod metrics;
mod operations;
mod process;
mod script;
mod terminal;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use pve_edge_guest_protocol::{
    Unique,
    answer::{Code as Refused, Refusal},
    process::{Event, Line, Stream},
};
use time::OffsetDateTime;

use self::{
    hub::Hub,
    line::{End, Started},
    process::{Failure, Follower, Input, Job, start},
    terminal::Terminal,
};
use super::{
    api::{self, Pve},
    guest::Located,
    marks::Reading,
};
use crate::{
    daemon::CallFailure,
    error::{Code, Error},
    io::{Failure as Broken, Io, NetError, Sent, invocation::Invocation},
    sandbox::{id::Kind, nonce::Nonce, process::Place, vmid::Vmid},
};

/// Bytes that a script of our own may answer: the largest file, and what is told of it.
const ANSWER: usize = (4 << 20) + (64 << 10);
/// Milliseconds after which a script of our own is killed.
const SCRIPT_MS: u64 = 30_000;
/// Time for which a container counts as proved to be the sandbox's.
const PROVED: Duration = Duration::from_secs(3);

/// Why nothing can be run in a sandbox whose memory, or disk, is full.
const FULL: &str = "no room is left in the sandbox";

/// Console of one container.
pub(in crate::pve) struct Console<I: Io> {
    invocation: Arc<Invocation<I>>,
    pve: Pve,
    node: String,
    vmid: Vmid,
    nonce: Nonce,
    /// Its hub, once that was found.
    hub: Option<Hub<I>>,
    /// Start of the guest in which a hub was found last.
    boot: Option<Unique>,
    /// The last proof that the container is the sandbox's.
    proved: Option<Proof>,
    /// Start of the guest that all further requests are for: the one in which its hub was found first.
    pinned: Option<Unique>,
    /// Process that was seen in it last.
    seen: Option<Unique>,
    /// Whether an answer streams on, which may take longer than a request.
    is_streaming: bool,
}

/// The container was the sandbox's.
#[derive(Clone)]
struct Proof {
    at: OffsetDateTime,
    /// The hardware addresses of its network cards.
    addresses: Vec<String>,
}

/// What a script of our own has said.
struct Said {
    code: i32,
    stdout: Vec<u8>,
}

impl<I: Io> Console<I> {
    /// The console of the container that a mark names, on a node, where it was proved to be a moment ago; nothing is opened
    /// yet.
    pub(in crate::pve) fn new(invocation: &Invocation<I>, pve: &Pve, found: &Located) -> Self {
        let Located { node, config, mark, .. } = found;
        let (invocation, pve, node) = (Arc::new(invocation.detached()), pve.clone(), node.clone());
        let (vmid, nonce) = (mark.vmid, mark.nonce);
        let proved = Some(Proof { at: invocation.now(), addresses: config.hardware_addresses() });
        Self {
            invocation,
            pve,
            node,
            vmid,
            nonce,
            hub: None,
            boot: None,
            proved,
            pinned: None,
            seen: None,
            is_streaming: false,
        }
    }

    /// The same, of a container of which nobody knows when it was proved to be the sandbox's.
    pub(in crate::pve) fn unproved(self) -> Self {
        Self { proved: None, ..self }
    }

    /// The console with its hub, for an answer that streams on; the next request opens it anew.
    pub(in crate::pve) fn take(&mut self) -> Self {
        let Self { invocation, pve, node, vmid, nonce, pinned, .. } = self;
        let (invocation, pve, node) = (invocation.clone(), pve.clone(), node.clone());
        let hub = self.hub.take();
        let (vmid, nonce, boot, pinned, seen) = (*vmid, *nonce, self.boot, *pinned, self.seen);
        let proved = self.proved.clone();
        Self { invocation, pve, node, vmid, nonce, hub, boot, proved, pinned, seen, is_streaming: true }
    }

    /// The same console, for an answer that streams on: it has time of its own from now on.
    pub(in crate::pve) fn streaming(mut self) -> Self {
        self.stream();
        self
    }

    /// Gives what comes next time of its own, because a client's body took as long as it liked.
    pub(in crate::pve) fn stream(&mut self) {
        self.is_streaming = true;
        self.renew();
    }

    /// Begins what is asked for next: an answer that streams on has a request's time for each.
    pub(in crate::pve) fn renew(&mut self) {
        if self.is_streaming {
            self.invocation = Arc::new(self.invocation.renewed());
        }
    }

    /// The world and the limits of its requests.
    pub(in crate::pve) fn invocation(&self) -> &Invocation<I> {
        &self.invocation
    }

    /// The start of the guest in which its hub was found.
    pub(in crate::pve) fn boot(&self) -> Option<Unique> {
        self.boot
    }

    /// Makes no request any more once the guest has another start than this one.
    pub(in crate::pve) fn pin(&mut self, boot: Option<Unique>) {
        self.pinned = boot;
    }

    /// Finds the hub, or starts it; the next request goes to it.
    pub(in crate::pve) async fn open(&mut self) -> Result<(), CallFailure> {
        self.hub().await.map(|_| ())
    }

    async fn hub(&mut self) -> Result<&mut Hub<I>, CallFailure> {
        if self.hub.is_none() {
            self.renew();
            let addresses = self.prove().await?;
            let guest = self.pve.guest(&self.node, Kind::Lxc, self.vmid);
            let terminal = Terminal::open(&self.invocation, &guest).await.map_err(no_way)?;
            let hub = Hub::open(self.invocation.clone(), terminal, &addresses).await.map_err(no_way)?;
            self.boot = Some(hub.boot());
            self.pinned = self.pinned.or(self.boot);
            self.hub = Some(hub);
        }
        let pinned = self.pinned;
        match &mut self.hub {
            Some(hub) if pinned.is_some_and(|it| it != hub.boot()) => Err(CallFailure::Restarted),
            Some(hub) => Ok(hub),
            None => Err(CallFailure::Budget),
        }
    }

    /// Proves that the container is still the one that it was, unless that was proved a moment ago: its VMID may be another's
    /// by now, and nothing is typed in a console that is not its own. Returns its hardware addresses.
    async fn prove(&mut self) -> Result<Vec<String>, CallFailure> {
        let now = self.invocation.now();
        if let Some(proof) = self.proved.as_ref().filter(|it| now < it.at + PROVED) {
            return Ok(proof.addresses.clone());
        }
        let guest = self.pve.guest(&self.node, Kind::Lxc, self.vmid);
        let config =
            api::send(&self.invocation, guest.config()).await.map_err(|error| no_way(error.into()))?;
        let reading = Reading::of(self.vmid, &config);
        if reading.mark().is_some_and(|it| it.nonce == self.nonce) {
            let addresses = config.hardware_addresses();
            self.proved = Some(Proof { at: now, addresses: addresses.clone() });
            return Ok(addresses);
        }
        let text = "the sandbox was deleted, or is no longer this deployment's";
        Err(no_way(Error::new(Code::NotFound, text)))
    }

    /// Starts a process.
    async fn start(
        &mut self,
        process: Unique,
        job: &Job,
        until: OffsetDateTime,
    ) -> Result<Started, CallFailure> {
        let first = start(self.hub().await?, process, job, until).await;
        // What was not sent is sent over a new connection.
        let started = match first {
            Err(Failure::Unsent) if self.invocation.now() < until => {
                self.hub = None;
                start(self.hub().await?, process, job, until).await
            }
            started => started,
        };
        started.map_err(|failure| self.failed(failure))
    }

    /// Runs a script of our own, and reads what it says. It may be run again.
    async fn ask(
        &mut self,
        script: String,
        input: Input,
        until: OffsetDateTime,
    ) -> Result<Said, CallFailure> {
        let process = Unique(self.invocation.draw());
        let job = Job { script, input, timeout_ms: Some(SCRIPT_MS), is_kept: false };
        if self.start(process, &job, until).await? == Started::Not {
            return Err(self.failed(Failure::Unsent));
        }
        let mut follower = self.follower(process, Place::default());
        let mut stdout = Vec::new();
        let code = loop {
            let hub = self.hub().await?;
            let asked = follower.next(hub, Duration::from_secs(1)).await;
            let (lines, stands) = asked.map_err(|failure| self.failed(failure))?;
            stdout.extend(lines.iter().flat_map(stdout_of).copied());
            match stands.and_then(|it| it.end) {
                Some(End::Exit(exit)) if follower.is_over() => match exit.why.as_deref() {
                    Some("full") => return Err(refused(Refused::DiskFull, FULL)),
                    Some("timeout") => return Err(self.failed(Failure::Unanswered)),
                    _ if exit.dropped != [0, 0] => return Err(self.failed(Failure::Unanswered)),
                    _ => break exit.code,
                },
                Some(End::Lost) if follower.is_over() => return Err(self.failed(Failure::Unanswered)),
                _ if self.invocation.now() >= until || stdout.len() > ANSWER => {
                    return Err(self.failed(Failure::Unanswered));
                }
                _ => {}
            }
        };
        self.forget(&format!("{process} bye")).await;
        Ok(Said { code, stdout })
    }

    /// Has the hub forget a process that has ended. It may not hear of it, and forgets it by itself later.
    async fn forget(&mut self, bye: &str) {
        if let Some(hub) = &mut self.hub {
            let _ = hub.send(&line::doubled(bye)).await;
        }
    }

    fn follower(&self, process: Unique, from: Place) -> Follower {
        let name = hex::encode(self.invocation.draw().first_chunk::<3>().copied().unwrap_or_default());
        Follower::new(process, name, from)
    }

    /// What a process tells from a place on: until its end, or until it has told something and nothing more is there, for
    /// `wait` at most. One that is not `is_kept` is forgotten when its end was told.
    pub(in crate::pve) fn follow(
        self,
        process: Unique,
        from: Place,
        wait: Option<Duration>,
        is_kept: bool,
    ) -> Following<I> {
        let follower = self.follower(process, from);
        let until = wait.map(|it| self.invocation.now() + it);
        let is_from_start = from == Place::default();
        Following { console: self, follower, until, is_kept, is_from_start, has_told: false }
    }

    /// The failure of a request; a hub that was not heard is looked for anew.
    fn failed(&mut self, failure: Failure) -> CallFailure {
        let broken = |sent| NetError {
            sent,
            failure: Broken::Cut,
            detail: "the container's console ended, or nothing answers in it".into(),
        };
        match failure {
            Failure::Unsent => {
                self.hub = None;
                CallFailure::NotSent(broken(Sent::Never))
            }
            Failure::Crowded => {
                self.hub = None;
                no_way(hub::crowded())
            }
            Failure::Unanswered => {
                self.hub = None;
                CallFailure::Unanswered(broken(Sent::Maybe))
            }
            Failure::NoSuchProcess => refused(Refused::NoSuchProcess, "there is no such process"),
            Failure::Full => refused(Refused::DiskFull, FULL),
        }
    }
}

/// Output of one process that is followed.
pub(in crate::pve) struct Following<I: Io> {
    console: Console<I>,
    follower: Follower,
    until: Option<OffsetDateTime>,
    is_kept: bool,
    is_from_start: bool,
    /// Whether something was told that a client waits for.
    has_told: bool,
}

impl<I: Io> Following<I> {
    /// The next lines; `None` when all was told.
    pub(in crate::pve) async fn next(&mut self) -> Option<Result<Vec<Line>, NetError>> {
        while !self.follower.is_over() {
            let now = self.console.invocation.now();
            let wait = self.until.map(|it| Duration::try_from(it - now).unwrap_or_default());
            let is_last = wait.is_some_and(|it| it.is_zero());
            let wait =
                if self.has_told && wait.is_some() { Duration::ZERO } else { wait.unwrap_or(Duration::MAX) };
            let hub = match self.console.hub().await {
                Ok(hub) => hub,
                Err(failure) => return Some(Err(cut(&failure))),
            };
            let lines = match self.follower.next(hub, wait).await {
                Ok((lines, _)) => lines,
                Err(failure) => return Some(Err(cut(&self.console.failed(failure)))),
            };
            if self.follower.is_over() && !self.is_kept {
                // The client may never see these lines, and ask for them again.
                let bye = format!("{} bye keep", self.follower.process());
                self.console.forget(&bye).await;
            }
            if !lines.is_empty() {
                self.has_told |= lines.iter().any(|it| self.is_news(&it.event));
                return Some(Ok(lines));
            }
            if is_last || self.has_told && self.until.is_some() && !self.follower.is_behind() {
                return None;
            }
        }
        None
    }

    /// Whether a client waits for this: a start is told to each follower, and is nothing new behind it.
    fn is_news(&self, event: &Event) -> bool {
        match event {
            Event::Started { .. } => self.is_from_start,
            Event::Alive => false,
            _ => true,
        }
    }
}

fn stdout_of(line: &Line) -> &[u8] {
    match &line.event {
        Event::Out { stream: Stream::Stdout, data } => &data.0,
        _ => &[],
    }
}

fn cut(failure: &CallFailure) -> NetError {
    NetError { sent: Sent::Maybe, failure: Broken::Cut, detail: failure.to_string() }
}

/// The failure of a console that was not opened, so that nothing was run.
fn no_way(error: Error) -> CallFailure {
    CallFailure::NoWay(Box::new(error))
}

/// A refusal, as the daemon of our own would word it.
fn refused(code: Refused, detail: &str) -> CallFailure {
    CallFailure::Refused(Refusal::new(code, detail))
}
