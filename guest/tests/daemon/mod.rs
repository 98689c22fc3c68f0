//! A daemon of its own for each test, and the edge's side of its protocol.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Mutex,
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::{Body as HttpBody, Incoming},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;
use pve_edge_guest_protocol::{
    CALL, HEALTH_PATH, SIGNATURE, Unique,
    answer::{Code, Health, Refusal},
    call::{Body, Call, Operation, Signed},
    identity::HardwareAddress,
    keys::EdgeKey,
};
use rustix::process::{Pid, Signal, kill_process};
use serde::de::DeserializeOwned;
use tempfile::TempDir;
use tokio::{net::TcpStream, time::sleep};

/// Id that the daemon has.
pub(crate) const ID: &str = "pvelxc-200000-aaaaaaaaaaaaaaaaaaaaaaaa";

/// The real daemon on a port of loopback. It ends with all that it has started when this is dropped.
pub(crate) struct Daemon {
    run: Child,
    session: Mutex<Unique>,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// Its folders: `cards`, `run`, `state`, and `home`, where root is at home; and the file `keys`.
    pub(crate) folder: TempDir,
    /// Key that it obeys.
    pub(crate) key: EdgeKey,
}

impl Daemon {
    /// Starts a daemon, and waits until it answers.
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts it with more arguments.
    pub(crate) async fn start_with(arguments: &[&str]) -> Self {
        let daemon = Self::spawn(Some(line()), arguments);
        daemon.wait().await;
        daemon
    }

    /// Starts it with a file of keys, or without one.
    pub(crate) fn spawn(keys: Option<String>, arguments: &[&str]) -> Self {
        Self::spawn_as(keys, |command, _| {
            command.args(arguments);
        })
    }

    /// Starts it by another program, which gets its command line behind its own; the folder is made ready for that.
    pub(crate) async fn start_by(wrapper: &[&str], ready: impl FnOnce(&Path)) -> Self {
        let daemon = Self::spawn_as(Some(line()), |command, folder| {
            let mut wrapped = Command::new(wrapper[0]);
            wrapped.args(&wrapper[1..]).arg(command.get_program()).args(command.get_args());
            wrapped.stdin(Stdio::null()).current_dir(folder);
            *command = wrapped;
            ready(folder);
        });
        daemon.wait().await;
        daemon
    }

    fn spawn_as(keys: Option<String>, change: impl FnOnce(&mut Command, &Path)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("home")).unwrap();
        fs::create_dir_all(folder.path().join("cards/eth0")).unwrap();
        let address = HardwareAddress::of("home", ID).to_string();
        fs::write(folder.path().join("cards/eth0/address"), address).unwrap();
        if let Some(keys) = keys {
            fs::write(folder.path().join("keys"), keys).unwrap();
        }
        let address = free_address();
        let mut command = command(&folder, address);
        change(&mut command, folder.path());
        let run = command.spawn().unwrap();
        Self::of(run, address, folder)
    }

    /// The daemon that a process is.
    pub(crate) fn of(run: Child, address: SocketAddr, folder: TempDir) -> Self {
        Self { run, session: Mutex::new(Unique([0; 16])), address, folder, key: key() }
    }

    /// Writes the file of keys.
    pub(crate) fn write_keys(&self) {
        let new = self.path("keys.new");
        fs::write(&new, format!("{}\n", self.key.line("home"))).unwrap();
        fs::rename(new, self.path("keys")).unwrap();
    }

    /// Waits until it answers.
    pub(crate) async fn wait(&self) {
        for _ in 0..3_000 {
            if TcpStream::connect(self.address).await.is_ok() {
                // The port is there before anybody answers.
                self.health().await;
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("the daemon does not answer");
    }

    /// A path in its folder.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    /// Asks what anybody may know.
    pub(crate) async fn health(&self) -> Health {
        let request = Request::get(HEALTH_PATH).body(Full::<Bytes>::default()).unwrap();
        json(send(self.address, request).await.unwrap()).await.unwrap()
    }

    /// Makes a call whose answer is JSON.
    pub(crate) async fn ask<T: DeserializeOwned>(
        &self,
        operation: Operation,
        body: impl Into<Bytes>,
    ) -> Result<T, Refusal> {
        json(self.open(operation, body).await?).await
    }

    /// Makes a call whose answer is bytes.
    pub(crate) async fn read(
        &self,
        operation: Operation,
        body: impl Into<Bytes>,
    ) -> Result<Vec<u8>, Refusal> {
        Ok(self.open(operation, body).await?.into_body().collect().await.unwrap().to_bytes().to_vec())
    }

    /// Makes a call whose answer is lines of JSON.
    pub(crate) async fn lines<T: DeserializeOwned>(
        &self,
        operation: Operation,
        body: impl Into<Bytes>,
    ) -> Result<Vec<T>, Refusal> {
        let bytes = self.read(operation, body).await?;
        let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        Ok(lines.map(|line| serde_json::from_slice(line).unwrap()).collect())
    }

    /// Makes a call, again if its session was over; the answer is open.
    pub(crate) async fn open(
        &self,
        operation: Operation,
        body: impl Into<Bytes>,
    ) -> Result<Response<Incoming>, Refusal> {
        let body = body.into();
        let again = match self.try_open(operation.clone(), body.clone()).await {
            Err(refusal) if refusal.code == Code::Session => refusal.session.unwrap(),
            other => return other,
        };
        *self.session.lock().unwrap() = again;
        self.try_open(operation, body).await
    }

    async fn try_open(&self, operation: Operation, body: Bytes) -> Result<Response<Incoming>, Refusal> {
        let call = self.call(operation, &body);
        let signed = call.sign(&self.key).unwrap();
        let request = request(call.operation.name(), &signed).body(Full::new(body)).unwrap();
        let answer = send(self.address, request).await.unwrap();
        let named = answer.headers().get(CALL).map(|it| it.to_str().unwrap().to_owned());
        if answer.status() != 200 {
            return Err(refusal(answer).await);
        }
        assert_eq!(named, Some(call.call.to_string()));
        Ok(answer)
    }

    /// A new call of the session that is known.
    pub(crate) fn call(&self, operation: Operation, body: &[u8]) -> Call {
        let session = *self.session.lock().unwrap();
        let body = (!matches!(operation, Operation::Stage(_))).then(|| Body::of(body));
        Call { to: ID.into(), session, call: unique(), operation, body }
    }

    /// Number of the process `run`.
    pub(crate) fn run(&self) -> u32 {
        self.run.id()
    }

    /// The process `run`.
    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.run
    }

    /// Number of the process `serve`.
    pub(crate) fn serve(&self) -> Option<u32> {
        children(self.run.id()).into_iter().find(|it| {
            let arguments = fs::read(format!("/proc/{it}/cmdline")).unwrap_or_default();
            arguments.split(|byte| *byte == 0).nth(1) == Some(b"serve")
        })
    }

    /// Kills `serve` as nothing else does, and waits until another one answers.
    pub(crate) async fn kill(&self) {
        let before = self.serve().unwrap();
        kill(before);
        while self.serve().is_none_or(|it| it == before) {
            sleep(Duration::from_millis(10)).await;
        }
        self.wait().await;
    }
}

impl Daemon {
    /// Ends all that runs and what is in memory, as a restart of the guest does, and starts the daemon again.
    pub(crate) async fn restart_guest(&mut self) {
        self.end();
        while TcpStream::connect(self.address).await.is_ok() {
            sleep(Duration::from_millis(10)).await;
        }
        fs::remove_dir_all(self.path("run")).unwrap();
        self.run = command(&self.folder, self.address).spawn().unwrap();
        self.wait().await;
    }

    fn end(&mut self) {
        // `serve` first, so that nothing new is started; what has lost its parent is a child of `run` then.
        let ends = |tree: Vec<u32>| tree.into_iter().rev().for_each(kill);
        for _ in 0..3 {
            ends(descendants(self.run.id()));
        }
        let _ = (self.run.kill(), self.run.wait());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.end();
    }
}

/// The command that starts a daemon with folders of its own.
pub(crate) fn command(folder: &TempDir, address: SocketAddr) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pve-edge-guest"));
    command.args(["run", "--listen", &address.to_string()]);
    for (option, name) in [
        ("--keys", "keys"),
        ("--run-dir", "run"),
        ("--state-dir", "state"),
        ("--home", "home"),
        ("--cards", "cards"),
    ] {
        command.arg(option).arg(folder.path().join(name));
    }
    command.stdin(Stdio::null());
    command
}

/// Key that a daemon obeys at first.
fn key() -> EdgeKey {
    EdgeKey::new(&[7; 32])
}

/// File of keys that has it.
pub(crate) fn line() -> String {
    format!("{}\n", key().line("home"))
}

/// An address of loopback on which nothing listens.
pub(crate) fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// What occurs once.
pub(crate) fn unique() -> Unique {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).unwrap();
    Unique(bytes)
}

/// Beginning of the request that a signed call is.
pub(crate) fn request(operation: &str, signed: &Signed) -> http::request::Builder {
    Request::post(format!("/v1/{operation}")).header(CALL, &signed.call).header(SIGNATURE, &signed.signature)
}

/// Sends a request on a connection of its own.
pub(crate) async fn send<B>(address: SocketAddr, request: Request<B>) -> hyper::Result<Response<Incoming>>
where
    B: HttpBody<Error: std::error::Error + Send + Sync> + Send + 'static,
    B::Data: Send,
{
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    sender.send_request(request).await
}

/// The JSON of an answer, or why there is none.
pub(crate) async fn json<T: DeserializeOwned>(answer: Response<Incoming>) -> Result<T, Refusal> {
    if answer.status() != 200 {
        return Err(refusal(answer).await);
    }
    Ok(serde_json::from_slice(&answer.into_body().collect().await.unwrap().to_bytes()).unwrap())
}

/// The refusal that an answer is.
pub(crate) async fn refusal(answer: Response<Incoming>) -> Refusal {
    let status = answer.status();
    let refusal: Refusal =
        serde_json::from_slice(&answer.into_body().collect().await.unwrap().to_bytes()).unwrap();
    assert_eq!(status, refusal.code.status());
    refusal
}

/// Kills a process.
pub(crate) fn kill(process: u32) {
    let _ = kill_process(Pid::from_raw(process.cast_signed()).unwrap(), Signal::KILL);
}

/// Stops a process.
pub(crate) fn stop(process: u32) {
    kill_process(Pid::from_raw(process.cast_signed()).unwrap(), Signal::STOP).unwrap();
}

/// Lets a process that was stopped go on.
pub(crate) fn resume(process: u32) {
    kill_process(Pid::from_raw(process.cast_signed()).unwrap(), Signal::CONT).unwrap();
}

/// Children of a process.
pub(crate) fn children(process: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let lists = tasks.map(|task| fs::read_to_string(task.path().join("children")).unwrap_or_default());
    lists.flat_map(|it| it.split_whitespace().map(|it| it.parse().unwrap()).collect::<Vec<_>>()).collect()
}

/// Children of a process, and their children.
pub(crate) fn descendants(process: u32) -> Vec<u32> {
    let own = children(process);
    let more: Vec<_> = own.iter().flat_map(|it| descendants(*it)).collect();
    [own, more].concat()
}
