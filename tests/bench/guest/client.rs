//! A daemon of its own, and core's client of it.

use std::{
    cell::RefCell,
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use futures_util::{StreamExt, stream};
use http_body_util::StreamBody;
use pve_edge_bed::serve::Api;
use pve_edge_core::{
    access::secret::Keyring,
    daemon::Daemon,
    io::{Io, invocation::Invocation},
    sandbox::place::Place,
};
use pve_edge_guest_protocol::{
    Unique,
    call::{Digest256, Operation},
    file::{Commit, Entry, Placing, Read, Stage, Staged},
    identity::HardwareAddress,
    process::{After, Event, Follow, Line, Process, Spec, Start},
};
use pve_edge_lambda::{
    body::Upload,
    http::seed,
    net::{Net, Transport},
};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

const ID: &str = "pvelxc-200000-aaaaaaaaaaaaaaaaaaaaaaaa";
const DEPLOYMENT: &str = "bench";
const SECRET: &str = "a-secret-of-the-bench-which-protects-nothing-at-all";
/// Bytes of a piece of an upload.
const PIECE: usize = 256 << 10;

/// A guest: the daemon with folders of its own. It ends when this is dropped.
pub(super) struct Guest {
    run: Child,
    at: String,
    folder: TempDir,
    world: Invocation<Net>,
    secrets: Keyring,
}

impl Guest {
    /// Starts the daemon on a free port of loopback.
    pub(super) fn start(program: &Path) -> Result<Self, String> {
        let failed = |error: std::io::Error| error.to_string();
        let folder = tempfile::tempdir().map_err(failed)?;
        let secrets = Keyring::parse(SECRET)?;
        let line = secrets.newest().guest_key(DEPLOYMENT).line(DEPLOYMENT);
        fs::create_dir(folder.path().join("home")).map_err(failed)?;
        fs::write(folder.path().join("keys"), format!("{line}\n")).map_err(failed)?;
        let card = folder.path().join("cards/eth0");
        fs::create_dir_all(&card).map_err(failed)?;
        fs::write(card.join("address"), HardwareAddress::of(DEPLOYMENT, ID).to_string()).map_err(failed)?;
        let at = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).map_err(failed)?.to_string();
        let mut command = Command::new(program);
        command.args(["run", "--listen", &at]).stdin(Stdio::null());
        for (option, name) in [
            ("--keys", "keys"),
            ("--run-dir", "run"),
            ("--state-dir", "state"),
            ("--home", "home"),
            ("--cards", "cards"),
        ] {
            command.arg(option).arg(folder.path().join(name));
        }
        let run = command.spawn().map_err(|error| format!("{}: {error}", program.display()))?;
        Ok(Self { run, at, folder, world: world()?, secrets })
    }

    /// The edge's side of it, once it answers.
    pub(super) async fn client(&self) -> Result<Client<'_>, String> {
        Client::new(&self.world, format!("http://{}", self.at), ID, &self.secrets, DEPLOYMENT).await
    }

    /// Home of root in it.
    pub(super) fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    pub(super) fn run(&self) -> u32 {
        self.run.id()
    }

    pub(super) fn serve(&self) -> Result<u32, String> {
        self.parts("serve").first().copied().ok_or_else(|| "the daemon does not serve".to_owned())
    }

    pub(super) fn keepers(&self) -> Vec<u32> {
        self.parts("keep")
    }

    /// Kills the part that answers.
    pub(super) fn kill(&self) -> Result<(), String> {
        let pid = self.serve()?.to_string();
        let ended = Command::new("kill").args(["-9", &pid]).status().map_err(|error| error.to_string())?;
        if ended.success() { Ok(()) } else { Err(format!("process {pid} is not killed")) }
    }

    /// Processes of this guest that play a part.
    fn parts(&self, part: &str) -> Vec<u32> {
        let mut found = Vec::new();
        let mut next = vec![self.run.id()];
        while let Some(parent) = next.pop() {
            let children =
                fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
            for child in children.split_whitespace().filter_map(|it| it.parse::<u32>().ok()) {
                let line = fs::read(format!("/proc/{child}/cmdline")).unwrap_or_default();
                if line.split(|byte| *byte == 0).nth(1) == Some(part.as_bytes()) {
                    found.push(child);
                }
                next.push(child);
            }
        }
        found
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        for pid in self.parts("keep") {
            // Its process ends with it: it has the same session's terminal or pipe, and `run` reaps.
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
            let all = children.split_whitespace().map(str::to_owned).chain([pid.to_string()]);
            let _ = Command::new("kill").arg("-9").args(all).status();
        }
        let _ = (self.run.kill(), self.run.wait());
    }
}

/// A world that allows any number of calls.
pub(crate) fn world() -> Result<Invocation<Net>, String> {
    let net = Transport::new(true).map_err(|error| error.to_string())?;
    let net = net.net().map_err(|error| error.to_string())?;
    let platform = pve_edge_core::io::Platform { requests: u32::MAX, ..Api::PLATFORM };
    Ok(Invocation::new(net, "bench", platform, seed()))
}

/// Core's client of one daemon.
pub(crate) struct Client<'g> {
    world: &'g Invocation<Net>,
    /// Taken while a call is made: they are made one after the other.
    daemon: RefCell<Option<Daemon<'g, Net>>>,
}

/// An output that was followed to its end.
pub(super) struct Followed {
    pub(super) digest: [u8; 32],
    pub(super) cuts: u32,
}

impl<'g> Client<'g> {
    /// The client of the sandbox `id`, without its node, once its daemon answers at `base`.
    pub(crate) async fn new(
        world: &'g Invocation<Net>,
        base: String,
        id: &str,
        secrets: &Keyring,
        deployment: &str,
    ) -> Result<Self, String> {
        let mut daemon = Daemon::new(world, vec![Place::at(base)], id.to_owned(), secrets, deployment);
        for _ in 0..500 {
            if daemon.health(later(world)).await.is_ok() {
                return Ok(Self { world, daemon: RefCell::new(Some(daemon)) });
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Err("the daemon does not answer".to_owned())
    }

    /// Runs a line of the shell to its end. Returns the bytes that it has printed.
    pub(crate) async fn run(&self, line: &str) -> Result<u64, String> {
        let process = self.start(line).await?;
        let mut lines = self.follow(process, 0).await?;
        while let Some(line) = lines.next().await {
            if let Event::Exit(exit) = line?.event {
                self.forget(process).await?;
                return if exit.exit_code == 0 { Ok(lines.bytes) } else { Err(format!("{exit:?}")) };
            }
        }
        Err("the output has no end".to_owned())
    }

    /// Starts a line of the shell.
    pub(super) async fn start(&self, line: &str) -> Result<Unique, String> {
        let process = Unique(self.world.draw());
        let spec = Spec { command: Some(line.to_owned()), ..Spec::default() };
        let spec = serde_json::to_vec(&spec).map_err(|error| error.to_string())?;
        let start = Operation::Start(Start { process, keyed: None });
        self.ask::<Process>(&start, &spec).await.map(|it| it.process)
    }

    /// Follows the output of a line. So many times the connection is broken off, each time in another place, and
    /// `broken` is called.
    pub(super) async fn followed(
        &self,
        line: &str,
        cuts: u32,
        broken: impl Fn() -> Result<(), String>,
    ) -> Result<Followed, String> {
        let process = self.start(line).await?;
        let (mut digest, mut cursor, mut done) = (Sha256::new(), 0, 0);
        loop {
            let Ok(mut lines) = self.follow(process, cursor).await else {
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            };
            let until = if done < cuts { cursor + 1 + 911 * u64::from(done + 1) } else { u64::MAX };
            while let Some(Ok(line)) = lines.next().await {
                match line.event {
                    Event::Out { data, .. } => digest.update(&data.0),
                    Event::Gap { bytes } => return Err(format!("a gap of {bytes} bytes")),
                    Event::Exit(_) => {
                        self.forget(process).await?;
                        return Ok(Followed { digest: digest.finalize().into(), cuts: done });
                    }
                    Event::Started { .. } | Event::Alive | Event::Lost => {}
                }
                cursor = line.cursor;
                if cursor >= until {
                    done += 1;
                    broken()?;
                    break;
                }
            }
        }
    }

    /// Puts a file of zeros, of so many bytes.
    pub(super) async fn put(&self, path: &Path, length: u64) -> Result<u64, String> {
        let pieces = length.div_ceil(PIECE as u64);
        let zeros = bytes::Bytes::from(vec![0; PIECE]);
        let mut digest = Sha256::new();
        (0..pieces).for_each(|_| digest.update(&zeros));
        let frames = (0..pieces).map(move |_| Ok::<_, std::io::Error>(http_body::Frame::data(zeros.clone())));
        let body = Upload::new(StreamBody::new(stream::iter(frames)));
        let stage = Unique(self.world.draw());
        let path = path.display().to_string();
        let operation = Operation::Stage(Stage { stage, path, user: None, mkdirs: false, unpack: false });
        let mut daemon = self.take()?;
        let answer = daemon.upload(&operation, body, later(self.world)).await;
        self.daemon.replace(Some(daemon));
        let answer = answer.map_err(|error| error.to_string())?;
        let bytes =
            pve_edge_core::io::collect(answer.body, 1 << 20).await.map_err(|error| error.to_string())?;
        let staged: Staged = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
        let sha256 = Digest256(digest.finalize().into());
        let commit = Operation::Commit(Commit { stage, sha256, placing: Placing::default() });
        self.ask::<Entry>(&commit, b"").await?;
        Ok(staged.length)
    }

    /// Reads a file. Returns its bytes.
    pub(super) async fn read(&self, path: &Path) -> Result<u64, String> {
        let path = path.display().to_string();
        let operation = Operation::Read(Read { path, user: None, range: None, if_match: None });
        let mut body = self.open(&operation).await?;
        let mut bytes = 0;
        while let Some(piece) = body.next().await {
            bytes += piece.map_err(|error| error.to_string())?.len() as u64;
        }
        Ok(bytes)
    }

    async fn follow(&self, process: Unique, after: u64) -> Result<Lines, String> {
        let follow = Follow { process, after: After::Cursor(after), wait_ms: None, most: None };
        Ok(Lines { body: self.open(&Operation::Follow(follow)).await?, text: Vec::new(), at: 0, bytes: 0 })
    }

    async fn forget(&self, process: Unique) -> Result<(), String> {
        let named = pve_edge_guest_protocol::process::Named { process };
        self.ask::<pve_edge_guest_protocol::answer::Done>(&Operation::Forget(named), b"").await.map(drop)
    }

    async fn ask<T: serde::de::DeserializeOwned>(
        &self,
        operation: &Operation,
        body: &[u8],
    ) -> Result<T, String> {
        let mut daemon = self.take()?;
        let answer = daemon.ask(operation, body, later(self.world)).await;
        self.daemon.replace(Some(daemon));
        answer.map_err(|error| error.to_string())
    }

    async fn open(&self, operation: &Operation) -> Result<<Net as Io>::Body, String> {
        let mut daemon = self.take()?;
        let answer = daemon.open(operation, b"", later(self.world)).await;
        self.daemon.replace(Some(daemon));
        answer.map(|it| it.body).map_err(|error| error.to_string())
    }

    fn take(&self) -> Result<Daemon<'g, Net>, String> {
        self.daemon.take().ok_or_else(|| "two calls at once".to_owned())
    }
}

/// Lines of a follow, as they come.
struct Lines {
    body: <Net as Io>::Body,
    text: Vec<u8>,
    /// Where the next line begins.
    at: usize,
    /// Bytes of output in the lines so far.
    bytes: u64,
}

impl Lines {
    async fn next(&mut self) -> Option<Result<Line, String>> {
        loop {
            let rest = self.text.get(self.at..).unwrap_or_default();
            if let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line: Result<Line, _> = serde_json::from_slice(rest.get(..end).unwrap_or_default());
                self.at += end + 1;
                if let Ok(Line { event: Event::Out { data, .. }, .. }) = &line {
                    self.bytes += data.0.len() as u64;
                }
                return Some(line.map_err(|error| error.to_string()));
            }
            self.text.drain(..self.at);
            self.at = 0;
            match self.body.next().await? {
                Ok(piece) => self.text.extend_from_slice(&piece),
                Err(error) => return Some(Err(error.to_string())),
            }
        }
    }
}

/// The digest of what `seq` prints.
pub(super) fn digest_of_lines(lines: u32) -> [u8; 32] {
    let mut digest = Sha256::new();
    (1..=lines).for_each(|line| digest.update(format!("{line}\n")));
    digest.finalize().into()
}

fn later(world: &Invocation<Net>) -> time::OffsetDateTime {
    world.now() + time::Duration::minutes(5)
}
