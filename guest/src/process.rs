//! Processes of the guest: started at most once, each with a keeper of its own, which outlives the daemon.

pub(crate) mod cgroup;
pub(crate) mod folder;
mod follow;
mod forget;
pub(crate) mod keeper;
pub(crate) mod launch;
pub(crate) mod log;
pub(crate) mod signal;
mod start;
mod started;

use std::{
    io,
    os::unix::net::UnixStream,
    path::PathBuf,
    process::Child,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicU32},
    time::Duration,
};

use futures_util::{StreamExt, stream};
use pve_edge_guest_protocol::{
    Unique,
    answer::{Code, Refusal},
    identity::HardwareAddress,
    process::{self as told, Bytes, Named, Process, Resize, Spec, Start, State, Stdin, StdinTaken},
};
use serde::{Deserialize, Serialize};
use signal_hook::{consts::SIGCHLD, low_level::pipe};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout_at},
};

use self::{
    folder::{Ended, Folder, uptime_ms},
    keeper::{Answer, Keeper, Request, gone, silent},
    log::Log,
    started::Started,
};
use crate::{boot::Boot, layout::Layout};

/// Bytes for standard input that a keeper is handed at once.
const STDIN_CHUNK: usize = 48 << 10;

/// Time in which keepers say how their processes stand. Else what stands in their folders is told.
const PATIENCE: Duration = Duration::from_secs(2);

/// Keepers that are asked at a time.
const ASKED: usize = 64;

/// Processes of the guest. A clone is the same.
#[derive(Clone, Debug)]
pub struct Processes(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    layout: Arc<Layout>,
    limits: Limits,
    started: Started,
    cgroups: Option<PathBuf>,
    /// Bytes that the logs of all processes may have.
    log_all: u64,
    boot: Arc<Boot>,
    /// Keepers that this daemon has started and that have not ended.
    keepers: Mutex<Vec<Child>>,
    starts: AtomicU32,
    /// Room for followers.
    followers: Arc<Semaphore>,
    /// Room for bytes of standard input that keepers hold.
    inputs: Arc<Semaphore>,
}

/// How much processes may take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Bytes of output that are kept of a process.
    pub log: u64,
    /// Bytes of output that are kept of all processes: but at most a tenth of the disk.
    pub logs: u64,
    /// Milliseconds for which a process waits for a follower that does not read.
    pub stall_ms: u64,
    /// Milliseconds after which a connection ends whose other end takes nothing.
    pub client_ms: u32,
    /// Milliseconds without a follower after which a process ends that is to be followed.
    pub hangup_ms: u64,
    /// Bytes of standard input that were given at starts, and are not taken yet.
    pub inputs: u32,
    /// Processes that have ended or are lost, and are kept.
    pub ended: usize,
    /// Whether processes get control groups, where they can be had.
    pub cgroups: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            log: 16 << 20,
            logs: 1 << 30,
            stall_ms: 60_000,
            client_ms: 120_000,
            hangup_ms: 30_000,
            inputs: 64 << 20,
            ended: 1024,
            cgroups: true,
        }
    }
}

impl Processes {
    /// The processes of the run folder, which may have been started by a daemon before this one. Needs the runtime.
    pub fn new(layout: Arc<Layout>, boot: Arc<Boot>, limits: Limits) -> io::Result<Self> {
        std::fs::create_dir_all(Folder::all(&layout.run))?;
        std::fs::create_dir_all(Folder::past(&layout.run))?;
        // What a daemon that was killed has begun to claim.
        let _ = std::fs::remove_dir_all(Folder::claims(&layout.run));
        std::fs::create_dir(Folder::claims(&layout.run))?;
        let (ends, their_end) = UnixStream::pair()?;
        ends.set_nonblocking(true)?;
        pipe::register(SIGCHLD, their_end)?;
        let inner = Arc::new(Inner {
            started: Started::of(&layout),
            cgroups: cgroup::parent(&layout.run).filter(|_| limits.cgroups),
            log_all: limits.logs.min(forget::tenth_of_disk(&layout.state)),
            inputs: Arc::new(Semaphore::new(limits.inputs.try_into().unwrap_or(usize::MAX))),
            layout,
            limits,
            boot,
            keepers: Mutex::default(),
            starts: AtomicU32::new(0),
            followers: Arc::new(Semaphore::new(follow::MOST)),
        });
        inner.remove_groups();
        tokio::spawn(reap(inner.clone(), tokio::net::UnixStream::from_std(ends)?));
        Ok(Self(inner))
    }

    /// Starts a process, or tells how it stands if it exists. It goes on if the caller is gone. A start with a key is noted
    /// as one of the guest with this hardware address.
    pub async fn start(
        &self,
        start: Start,
        spec: Spec,
        guest: Option<HardwareAddress>,
    ) -> Result<Process, Refusal> {
        let inner = self.0.clone();
        let started = tokio::spawn(async move { inner.start(start, spec, guest).await });
        started.await.unwrap_or_else(|error| Err(Refusal::new(Code::Failed, error.to_string())))
    }

    /// All processes of the run folder, the oldest first.
    pub async fn list(&self) -> Result<told::Processes, Refusal> {
        let over = Instant::now() + PATIENCE;
        let all = self.0.names().into_iter().map(|name| self.0.describe_until(name, over));
        let described: Vec<_> = stream::iter(all).buffer_unordered(ASKED).collect().await;
        // One that was forgotten meanwhile is left out.
        let mut processes: Vec<Process> = described.into_iter().flatten().collect();
        processes.sort_by_key(|it| std::cmp::Reverse(it.age_ms));
        Ok(told::Processes { processes })
    }

    /// How a process stands.
    pub async fn get(&self, Named { process }: Named) -> Result<Process, Refusal> {
        self.0.describe(process).await
    }

    /// Writes to the standard input of a process. While it does not read, fewer bytes are taken.
    pub async fn stdin(&self, stdin: Stdin, bytes: impl AsRef<[u8]>) -> Result<StdinTaken, Refusal> {
        let mut keeper = self.0.keeper(stdin.process).await?;
        let mut at = stdin.at;
        let mut left = bytes.as_ref();
        loop {
            let (data, rest) = left.split_at(left.len().min(STDIN_CHUNK));
            let end = stdin.end && rest.is_empty();
            let request = Request::Stdin { at: Some(at), data: Bytes(data.to_vec()), end };
            let Answer::Taken(taken) = keeper.ask(&request).await? else { return Err(gone()) };
            at += data.len() as u64;
            if rest.is_empty() || taken.at < at {
                return Ok(taken);
            }
            left = rest;
        }
    }

    /// Types bytes on the standard input of a process, behind what others have written. Returns how many it has taken.
    pub async fn type_in(&self, Named { process }: &Named, bytes: &[u8]) -> Result<usize, Refusal> {
        let data = bytes.get(..STDIN_CHUNK).unwrap_or(bytes);
        let request = Request::Stdin { at: None, data: Bytes(data.to_vec()), end: false };
        match self.0.keeper(*process).await?.ask(&request).await? {
            Answer::Typed(count) => Ok(count),
            _ => Err(gone()),
        }
    }

    /// Sends a signal.
    pub async fn signal(&self, signal: told::Signal) -> Result<Process, Refusal> {
        let number = signal::of_name(&signal.signal).ok_or_else(|| {
            Refusal::new(Code::NoSuchSignal, format!("no signal is called {:?}", signal.signal))
        })?;
        self.0.keeper(signal.process).await?.ask(&Request::Signal(number.as_raw(), signal.scope)).await?;
        self.get(Named { process: signal.process }).await
    }

    /// Changes the size of a terminal.
    pub async fn resize(&self, resize: Resize) -> Result<Process, Refusal> {
        self.0.keeper(resize.process).await?.ask(&Request::Resize(resize.size)).await?;
        self.get(Named { process: resize.process }).await
    }
}

impl Inner {
    fn keepers(&self) -> MutexGuard<'_, Vec<Child>> {
        self.keepers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn folder(&self, process: Unique) -> Folder {
        Folder::of(&self.layout.run, process)
    }

    /// Names of the processes of the run folder.
    fn names(&self) -> Vec<Unique> {
        let entries = std::fs::read_dir(Folder::all(&self.layout.run)).into_iter().flatten().flatten();
        entries.filter_map(|it| it.file_name().to_str()?.parse().ok()).collect()
    }

    /// The log of a process that was started in some boot.
    fn log(&self, process: Unique, boot: Unique) -> Log {
        Log {
            process,
            disk: self.layout.logs().join(boot.to_string()),
            run: self.layout.run.clone(),
            memory: self.folder(process).log(),
            each: self.limits.log,
            all: self.log_all,
        }
    }

    /// Connects to the keeper of a process.
    async fn keeper(&self, process: Unique) -> Result<Keeper, Refusal> {
        let folder = self.folder(process);
        if !folder.exists() {
            return Err(self.none(process));
        }
        Keeper::connect(&folder).await.map_err(|error| match error.kind() {
            // It listens no more, and is about to end.
            io::ErrorKind::ConnectionRefused => gone(),
            _ if folder.is_finished() && folder.ended().is_some() => gone(),
            // One that does not accept has no room for connections any more.
            _ if folder.is_kept() => silent(),
            _ => gone(),
        })
    }

    /// The boot in which a process was started that the run folder does not have, if that was another one: of this boot it
    /// was forgotten.
    fn other_boot(&self, process: Unique) -> Option<Unique> {
        self.started.find(process).map(|it| it.boot).filter(|it| *it != self.boot.now())
    }

    /// The refusal of a process that the run folder does not have.
    fn none(&self, process: Unique) -> Refusal {
        match self.other_boot(process) {
            Some(_) => {
                Refusal::new(Code::ProcessGone, "the guest was restarted after the start of the process")
            }
            None => Refusal::new(Code::NoSuchProcess, "no process has this name"),
        }
    }

    /// How a process stands, from its folder, and from its keeper if that lives.
    async fn describe(&self, process: Unique) -> Result<Process, Refusal> {
        self.describe_until(process, Instant::now() + PATIENCE).await
    }

    /// The same; the keeper is waited for until some time.
    async fn describe_until(&self, process: Unique, over: Instant) -> Result<Process, Refusal> {
        self.measure(process, over).await.map(|(process, _)| process)
    }

    /// How a process stands, and whether its keeper, or the folder of one that has none, says how long its output is.
    async fn measure(&self, process: Unique, over: Instant) -> Result<(Process, bool), Refusal> {
        let folder = &self.folder(process);
        if !folder.exists() {
            let boot = self.other_boot(process).ok_or_else(|| self.none(process))?;
            return Ok((start::lost(process, boot), false));
        }
        // In this order: a keeper that ends meanwhile has noted the exit before.
        let is_kept = folder.is_kept();
        let standing = if is_kept { timeout_at(over, stand(folder)).await.ok().flatten() } else { None };
        let (description, ended) = (folder.description(), folder.ended());
        let runs = description.as_ref().is_some_and(|it| it.pid.is_some());
        let state = match ended {
            Some(_) => State::Exited,
            None if !is_kept => State::Lost,
            None if runs => State::Running,
            None => State::Starting,
        };
        // A keeper that was killed has not said what came after the exit.
        let is_measured = standing.is_some() || ended.is_some() && !is_kept && folder.is_finished();
        let is_told = standing.is_some() || ended.is_some() || state == State::Starting;
        let (cursor, stdin) = match (standing, &ended) {
            (Some((cursor, stdin)), _) => (cursor, stdin),
            (None, Some(Ended { end, .. })) => (*end, None),
            (None, None) => (0, None),
        };
        let nothing = start::lost(process, self.boot.now());
        let exit = ended.map(|it| it.exit);
        let Some(it) = description else { return Ok((Process { state, exit, ..nothing }, is_measured)) };
        let cursor = if is_told { cursor } else { self.log(process, it.boot).end() };
        let process = Process {
            process,
            state,
            boot: it.boot,
            pid: it.pid,
            tag: it.tag,
            argv: it.argv,
            cwd: Some(it.cwd),
            user: Some(it.user),
            pty: it.pty,
            stdin,
            exit,
            cursor,
            age_ms: uptime_ms().saturating_sub(it.started_ms),
        };
        Ok((process, is_measured))
    }
}

/// How far the output of a process has come, and its standard input, as its keeper says.
async fn stand(folder: &Folder) -> Option<(u64, Option<StdinTaken>)> {
    let answer = Keeper::connect(folder).await.ok()?.ask(&Request::Stand).await;
    match answer {
        Ok(Answer::Standing { cursor, stdin }) => Some((cursor, stdin)),
        _ => None,
    }
}

/// Takes the ends of keepers, so that none is left as a zombie.
async fn reap(inner: Arc<Inner>, ends: tokio::net::UnixStream) {
    while ends.readable().await.is_ok() {
        let mut ignored = [0; 64];
        while ends.try_read(&mut ignored).is_ok_and(|it| it > 0) {}
        inner.keepers().retain_mut(|it| matches!(it.try_wait(), Ok(None)));
    }
}
