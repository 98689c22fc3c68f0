//! Starting a process, at most once.
//!
//! 1. Its folder in the run folder is made: who makes it starts the process, everybody else is told how it stands.
//! 2. A start with a key is noted on the disk.
//! 3. A keeper is started, and told what to run.
//!
//! Whatever fails before the keeper runs the command takes back what was done, and is told as a refusal.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::OwnedFd,
        unix::{fs::DirBuilderExt, process::CommandExt},
    },
    process::{Command, Stdio},
    time::Duration,
};

use pve_edge_guest_protocol::{
    Unique,
    answer::{Code, Refusal},
    call::Digest256,
    process::{Process, Spec, Start, State},
};
use tokio::{net::UnixStream, time::timeout};

use super::{
    Inner,
    folder::Folder,
    keeper::{Keeper, Order, refusal},
    launch::Launch,
    started::Note,
};

/// Time in which a keeper starts its command. The guest may be busy.
const PATIENCE: Duration = Duration::from_secs(30);

impl Inner {
    pub(super) async fn start(&self, start: Start, mut spec: Spec) -> Result<Process, Refusal> {
        let folder = Folder::of(&self.layout.run, start.process);
        if let Some(process) = self.find_started(&folder, &start).await? {
            return Ok(process);
        }
        let (tag, timeout_ms) = (spec.tag.take(), spec.timeout_ms);
        let mut launch = Launch::of(&self.layout, spec)?;
        launch.cgroup.clone_from(&self.cgroups);
        self.make_room();
        if self.is_past(start.process) {
            return Ok(lost(start.process, self.boot.now()));
        }
        let claimed = claim(&folder).map_err(|error| refusal("no process can be noted", &error))?;
        let Some(lock) = claimed else { return self.describe(start.process).await };
        let order = Order {
            launch,
            boot: self.boot.now(),
            tag,
            timeout_ms,
            stall_ms: self.limits.stall_ms,
            log: self.log(start.process, self.boot.now()),
            folder: folder.clone(),
        };
        let started = self.start_claimed(lock, &start, &order).await;
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
        if note.zip(start.keyed).is_some_and(|(note, keyed)| note.digest != keyed) {
            return Err(Refusal::new(Code::OtherRequest, "another request has started this process"));
        }
        match note {
            _ if folder.exists() => Ok(Some(self.describe(start.process).await?)),
            Some(note) => Ok(Some(lost(start.process, note.boot))),
            None => Ok(None),
        }
    }

    async fn start_claimed(&self, lock: File, start: &Start, order: &Order) -> Result<(), Refusal> {
        if let Some(digest) = start.keyed {
            self.note(start.process, digest).await?;
        }
        let channel = self.start_keeper(lock).map_err(|error| refusal("no keeper can be started", &error))?;
        let mut keeper = Keeper::over(channel);
        match timeout(PATIENCE, keeper.ask_patiently(order)).await {
            // A keeper that ends without an answer was killed: its process may have run, and is lost.
            Ok(Err(refusal)) if refusal.code == Code::ProcessGone => Ok(()),
            Ok(Err(refusal)) => Err(refusal),
            // One that does not answer may go on: its folder tells what it has done.
            Ok(Ok(_)) | Err(_) => Ok(()),
        }
    }

    async fn note(&self, process: Unique, digest: Digest256) -> Result<(), Refusal> {
        let (started, boot) = (self.started.clone(), self.boot.now());
        // The disk may take its time; other calls go on.
        let noted = tokio::task::spawn_blocking(move || started.note(process, &Note { digest, boot })).await;
        let noted = noted.unwrap_or_else(|error| Err(io::Error::other(error)));
        noted.map_err(|error| match refusal("the start cannot be noted", &error) {
            Refusal { code: Code::Failed | Code::NotPermitted, detail, .. } => {
                Refusal::new(Code::DiskFull, detail)
            }
            other => other,
        })
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

/// Makes the folder of a process, and takes its lock, so that the process is never taken for one that is lost; `None` if
/// the folder was there.
fn claim(folder: &Folder) -> io::Result<Option<File>> {
    match fs::DirBuilder::new().mode(0o700).create(&folder.path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(None),
        made => {
            made?;
            folder.lock().map(Some).inspect_err(|_| drop(folder.remove()))
        }
    }
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
