//! Starting a process, at most once.
//!
//! 1. Its folder in the run folder is made, with the digest of the request: who makes it starts the process, everybody
//!    else is told how it stands, or that another request has started it.
//! 2. A start with a key is noted on the disk.
//! 3. A keeper is started, and told what to run.
//!
//! Whatever fails before the keeper runs the command takes back what was done, and is told as a refusal.

use std::{
    fs::File,
    io,
    os::{fd::OwnedFd, unix::process::CommandExt},
    process::{Command, Stdio},
    time::Duration,
};

use pve_edge_guest_protocol::{
    Unique,
    answer::{Code, Refusal},
    call::Digest256,
    identity::HardwareAddress,
    process::{Bytes, LARGEST_INPUT, Process, Spec, Start, State},
};
use tokio::{net::UnixStream, sync::OwnedSemaphorePermit, time::timeout};

use super::{
    Inner,
    folder::{Description, Folder},
    keeper::{Keeper, Order, refusal},
    launch::Launch,
    started::Note,
};

/// Time in which a keeper starts its command. The guest may be busy.
const PATIENCE: Duration = Duration::from_secs(30);

impl Inner {
    pub(super) async fn start(
        &self,
        start: Start,
        mut spec: Spec,
        guest: Option<HardwareAddress>,
    ) -> Result<Process, Refusal> {
        let folder = Folder::of(&self.layout.run, start.process);
        if let Some(process) = self.find_started(&folder, &start).await? {
            return Ok(process);
        }
        let input = take_input(&mut spec)?;
        let (tag, timeout_ms) = (spec.tag.take(), spec.timeout_ms);
        let hangup_ms = spec.hangup.then_some(self.limits.hangup_ms);
        let mut launch = Launch::of(&self.layout, spec)?;
        launch.cgroup.clone_from(&self.cgroups);
        let room = self.room_for(input.as_deref().unwrap_or_default())?;
        self.make_room();
        if self.is_past(start.process) {
            return Ok(lost(start.process, self.boot.now()));
        }
        let description = Description::of(&launch, self.boot.now(), tag, start.keyed);
        let claimed = folder.claim(&self.layout.run, &description);
        let Some(lock) = claimed.map_err(|error| refusal("no process can be noted", &error))? else {
            let found = self.find_started(&folder, &start).await?;
            return found.ok_or_else(|| self.none(start.process));
        };
        let order = Order {
            launch,
            description,
            timeout_ms,
            hangup_ms,
            input: input.as_ref().map(Vec::len),
            stall_ms: self.limits.stall_ms,
            log: self.log(start.process, self.boot.now()),
            folder: folder.clone(),
        };
        let given = Given { bytes: input.unwrap_or_default(), room };
        let noted = match start.keyed {
            Some(digest) => self.note(start.process, digest, guest).await,
            None => Ok(()),
        };
        let started = match noted {
            Ok(()) => self.start_claimed(lock, &order, given).await,
            refused => refused,
        };
        if started.is_err() {
            self.started.forget(start.process);
            let _ = folder.remove();
        }
        started?;
        self.describe(start.process).await
    }

    /// How a process stands that was started before; a refusal if another request has started it.
    async fn find_started(&self, folder: &Folder, start: &Start) -> Result<Option<Process>, Refusal> {
        let note = self.started.find(start.process);
        let exists = folder.exists();
        // The note of one that is just being started may be missing.
        let noted = folder.description().and_then(|it| it.keyed).or(note.as_ref().map(|it| it.digest));
        if start.keyed.is_some() && start.keyed != noted && (exists || note.is_some()) {
            return Err(Refusal::new(Code::OtherRequest, "another request has started this process"));
        }
        match note {
            _ if exists => Ok(Some(self.describe(start.process).await?)),
            Some(note) => Ok(Some(lost(start.process, note.boot))),
            None => Ok(None),
        }
    }

    /// Room for input, which a keeper holds until it is taken.
    fn room_for(&self, input: &[u8]) -> Result<OwnedSemaphorePermit, Refusal> {
        let length = u32::try_from(input.len()).unwrap_or(u32::MAX);
        let busy =
            |_| Refusal::new(Code::Busy, "the input of processes that do not read it takes all the room");
        self.inputs.clone().try_acquire_many_owned(length).map_err(busy)
    }

    async fn start_claimed(&self, lock: File, order: &Order, given: Given) -> Result<(), Refusal> {
        let channel = self.start_keeper(lock).map_err(|error| refusal("no keeper can be started", &error))?;
        let mut keeper = Keeper::over(channel);
        let answer = timeout(PATIENCE, keeper.order(order, &given.bytes)).await;
        if answer.as_ref().is_ok_and(Result::is_ok) {
            tokio::spawn(async move {
                // The keeper ends the stream when the input is taken.
                let _ = keeper.answer().await;
                drop(given.room);
            });
        }
        match answer {
            // A keeper that ends without an answer was killed: its process may have run, and is lost.
            Ok(Err(refusal)) if refusal.code == Code::ProcessGone => Ok(()),
            Ok(Err(refusal)) => Err(refusal),
            // One that does not answer may go on: its folder tells what it has done.
            Ok(Ok(_)) | Err(_) => Ok(()),
        }
    }

    async fn note(
        &self,
        process: Unique,
        digest: Digest256,
        guest: Option<HardwareAddress>,
    ) -> Result<(), Refusal> {
        let (started, boot) = (self.started.clone(), self.boot.now());
        let note = Note { digest, boot, guest: guest.map(|it| it.to_string()) };
        // The disk may take its time; other calls go on.
        let noted = tokio::task::spawn_blocking(move || started.note(process, &note)).await;
        noted.unwrap_or_else(|error| Err(Refusal::new(Code::DiskFull, error.to_string())))
    }

    /// Starts a keeper, which takes the lock over, and returns the stream over which it is told what to run.
    fn start_keeper(&self, lock: File) -> io::Result<UnixStream> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let child = Command::new(&self.layout.program)
            .arg0("pve-edge-guest")
            .arg("keep")
            .env_clear()
            .stdin(OwnedFd::from(theirs))
            .stdout(lock)
            .stderr(Stdio::null())
            .spawn()?;
        self.keepers().push(child);
        UnixStream::from_std(ours)
    }
}

/// Input of a process, and the room that it takes.
struct Given {
    bytes: Vec<u8>,
    room: OwnedSemaphorePermit,
}

/// The input that a spec gives, which makes standard input a pipe.
fn take_input(spec: &mut Spec) -> Result<Option<Vec<u8>>, Refusal> {
    let Some(Bytes(input)) = spec.input.take() else { return Ok(None) };
    if spec.pty.is_some() || input.len() > LARGEST_INPUT {
        return Err(Refusal::new(Code::BadCall, "input is too long, or is given to a terminal"));
    }
    spec.stdin = true;
    Ok(Some(input))
}

/// A process of which nothing is left but that it was started.
pub(super) fn lost(process: Unique, boot: Unique) -> Process {
    Process {
        process,
        state: State::Lost,
        boot,
        pid: None,
        tag: None,
        argv: Vec::new(),
        cwd: None,
        user: None,
        pty: false,
        stdin: None,
        exit: None,
        cursor: 0,
        age_ms: 0,
    }
}
