//! The daemon inside a guest that runs commands, as HTTP shows it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use http::{HeaderMap, HeaderValue, Method, Request, header};
use serde_json::{Value, json};

use super::Sim;

/// Where it listens.
pub const PORT: u16 = 39375;

/// What a command puts out, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExecLine {
    /// A line of standard output.
    Stdout(String),
    /// A line of standard error.
    Stderr(String),
    /// What the daemon says went wrong.
    Error(String),
    /// The end.
    Exit(i32),
    /// Time passes.
    Wait(Duration),
    /// The connection breaks.
    Cut,
}

/// What runs the commands instead of a real shell.
pub type Runner = Arc<dyn Fn(u32, &str) -> Vec<ExecLine> + Send + Sync>;

/// An answer, its body in the pieces in which it arrives.
#[derive(Clone, Debug)]
pub struct Streamed {
    /// Status.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub pieces: Vec<Piece>,
}

impl Streamed {
    /// JSON, in one piece.
    pub fn json(status: u16, value: &Value) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Self { status, headers, pieces: vec![Piece::Bytes(value.to_string().into_bytes())] }
    }
}

/// A piece of a body.
#[derive(Clone, Debug)]
pub enum Piece {
    /// These bytes.
    Bytes(Vec<u8>),
    /// Nothing, for so long.
    Wait(Duration),
    /// The connection breaks.
    Cut,
}

/// The daemons of all guests.
pub(crate) struct Execd {
    runner: Option<Runner>,
    ran: BTreeMap<(u32, String), u32>,
    folder: PathBuf,
}

impl Default for Execd {
    fn default() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("pve-edge-sim-{}-{number}", std::process::id()));
        Self { runner: None, ran: BTreeMap::new(), folder }
    }
}

/// In a folder of its own.
impl Clone for Execd {
    fn clone(&self) -> Self {
        let mut other = Self::default();
        (other.runner, other.ran) = (self.runner.clone(), self.ran.clone());
        other
    }
}

impl Drop for Execd {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Sim {
    /// Has commands run by this closure; by default they are real processes.
    pub fn set_runner(&mut self, runner: impl Fn(u32, &str) -> Vec<ExecLine> + Send + Sync + 'static) {
        self.execd.runner = Some(Arc::new(runner));
    }

    /// How often each (guest, command) ran.
    pub fn executions(&self) -> &BTreeMap<(u32, String), u32> {
        &self.execd.ran
    }

    /// Asks a guest's daemon; `None` when nobody listens there.
    pub fn exec(&mut self, vmid: u32, request: &Request<Vec<u8>>) -> Option<Streamed> {
        match self.execd_admit(vmid, request) {
            Admitted::Refused => None,
            Admitted::Answered(answer) => Some(answer),
            Admitted::Runs(job) => Some(job.run()),
        }
    }

    /// Everything but the run itself: a server lets go of the simulator before that.
    pub(crate) fn execd_admit(&mut self, vmid: u32, request: &Request<Vec<u8>>) -> Admitted {
        // A VM has a daemon only where its template has one.
        let there = |guest: &&super::Guest| {
            !guest.is_bare
                && (guest.kind == super::Kind::Lxc || guest.disk_token.is_some() || guest.keys.is_some())
        };
        let run = self.guests.get(&vmid).filter(there).and_then(|guest| guest.run.as_ref());
        let Some(run) = run.filter(|run| run.ready <= self.now && !run.paused) else {
            return Admitted::Refused;
        };
        if self.guests.get(&vmid).is_some_and(|guest| guest.keys.is_some()) {
            return self.ask_daemon(vmid, request);
        }
        let token = run.token.clone();
        match (request.method(), request.uri().path()) {
            (&Method::GET, "/healthz") => Admitted::Answered(text(200, "ok")),
            (_, "/healthz") => Admitted::Answered(text(405, "method not allowed\n")),
            (&Method::POST, "/exec") => self.admit(vmid, token.as_deref(), request),
            (_, "/exec") => Admitted::Answered(text(405, "method not allowed\n")),
            _ => Admitted::Answered(text(404, "404 page not found\n")),
        }
    }

    /// The guest that a host name means: by `port-39375-vm-N`, address or name.
    pub(crate) fn guest_of_host(&self, host: &str) -> Option<u32> {
        if let Some(rest) = host.strip_prefix("port-39375-vm-") {
            return rest.split('.').next()?.parse().ok();
        }
        let first = host.split('.').next().unwrap_or(host);
        let named = |guest: &&super::Guest| {
            guest.run.as_ref().is_some_and(|run| run.address.to_string() == host)
                || guest.config.get(guest.kind.name_key()).is_some_and(|name| name == host || name == first)
        };
        self.guests.values().find(named).map(|guest| guest.vmid)
    }

    fn admit(&mut self, vmid: u32, token: Option<&str>, request: &Request<Vec<u8>>) -> Admitted {
        let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or("");
        if token.is_some_and(|token| presented(request) != Some(token)) {
            return Admitted::Answered(json_answer(401, &json!({ "error": "Unauthorized" })));
        }
        if !header(header::CONTENT_TYPE).contains("application/json") {
            return Admitted::Answered(json_answer(
                415,
                &json!({ "error": "Content-Type must be application/json" }),
            ));
        }
        let body: Value = serde_json::from_slice(request.body()).unwrap_or(Value::Null);
        let command = body["command"].as_str().unwrap_or("").to_owned();
        let timeout = &body["timeout_ms"];
        if command.is_empty() || !(timeout.is_null() || timeout.is_u64()) || request.body().len() > 1 << 20 {
            return Admitted::Answered(json_answer(400, &json!({ "error": "invalid request" })));
        }
        let timeout = timeout.as_u64().filter(|ms| *ms > 0).map(Duration::from_millis);
        Admitted::Runs(self.job(vmid, command, None, timeout))
    }

    /// The folder of a guest whose commands are real processes.
    pub(crate) fn folder_of_commands(&self, vmid: u32) -> Option<PathBuf> {
        self.execd.runner.is_none().then(|| self.execd.folder.join(vmid.to_string()))
    }

    /// A command to run, by a daemon or by the guest agent.
    pub(crate) fn job(
        &mut self,
        vmid: u32,
        command: String,
        program: Option<Program>,
        timeout: Option<Duration>,
    ) -> Job {
        *self.execd.ran.entry((vmid, command.clone())).or_default() += 1;
        let folder = self.execd.folder.join(vmid.to_string());
        let arguments = vec!["/bin/bash".to_owned(), "-c".to_owned(), command.clone()];
        let program = program.unwrap_or(Program { arguments, input: None });
        Job { vmid, command, program, timeout, folder, runner: self.execd.runner.clone() }
    }
}

/// What the daemon makes of a request.
pub(crate) enum Admitted {
    /// Nobody listens.
    Refused,
    /// An answer that needs no command.
    Answered(Streamed),
    /// A command.
    Runs(Job),
}

/// What is really started where no closure runs the commands.
#[derive(Clone, Debug)]
pub struct Program {
    /// Its name first.
    pub arguments: Vec<String>,
    /// Its standard input.
    pub input: Option<String>,
}

/// The command that a script of core runs in a shell of its own, and for how long it may; any
/// other script is all command.
pub fn asked(script: &str) -> (String, Option<Duration>) {
    let Some((around, command)) = script.split_once("\"$(command -v bash || command -v sh)\" -c '") else {
        return (script.to_owned(), None);
    };
    let seconds = around.split_once(" -k 5 ").and_then(|(_, it)| it.split(' ').next()?.parse().ok());
    let command = command.strip_suffix('\'').unwrap_or(command).replace("'\\''", "'");
    (command, seconds.map(Duration::from_secs_f64))
}

/// A command that may run.
pub(crate) struct Job {
    vmid: u32,
    command: String,
    program: Program,
    timeout: Option<Duration>,
    folder: PathBuf,
    runner: Option<Runner>,
}

impl Job {
    /// What it puts out, and when.
    pub(crate) fn lines(&self) -> Vec<ExecLine> {
        match &self.runner {
            Some(runner) => within(self.timeout, runner(self.vmid, &self.command)),
            None => process(&self.folder, &self.program, self.timeout),
        }
    }

    pub(crate) fn run(self) -> Streamed {
        let pieces = self.lines().into_iter().map(piece).collect();
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/jsonlines"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Streamed { status: 200, headers, pieces }
    }
}

/// `Bearer t`, or bare `t`.
fn presented(request: &Request<Vec<u8>>) -> Option<&str> {
    let value = request.headers().get(header::AUTHORIZATION)?.to_str().ok()?;
    Some(value.strip_prefix("Bearer ").unwrap_or(value))
}

fn piece(line: ExecLine) -> Piece {
    let json = match line {
        ExecLine::Stdout(data) => json!({ "type": "stdout", "data": data }),
        ExecLine::Stderr(data) => json!({ "type": "stderr", "data": data }),
        ExecLine::Error(message) => json!({ "type": "error", "message": message }),
        ExecLine::Exit(code) => json!({ "type": "exit", "code": code }),
        ExecLine::Wait(duration) => return Piece::Wait(duration),
        ExecLine::Cut => return Piece::Cut,
    };
    Piece::Bytes(format!("{json}\n").into_bytes())
}

/// The daemon's time-out, applied to a closure's waits.
fn within(timeout: Option<Duration>, lines: Vec<ExecLine>) -> Vec<ExecLine> {
    let Some(timeout) = timeout else { return lines };
    let mut left = timeout;
    let mut kept = Vec::new();
    for line in lines {
        if let ExecLine::Wait(wait) = line {
            if wait >= left {
                kept.push(ExecLine::Wait(left));
                kept.extend(timed_out(timeout));
                return kept;
            }
            left -= wait;
        }
        kept.push(line);
    }
    kept
}

fn timed_out(timeout: Duration) -> [ExecLine; 2] {
    [ExecLine::Error(format!("timeout after {}ms", timeout.as_millis())), ExecLine::Exit(124)]
}

/// A real process in a scratch folder that all commands of the guest share.
fn process(folder: &Path, program: &Program, timeout: Option<Duration>) -> Vec<ExecLine> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let output = |name: &str| folder.with_extension(format!("{number}.{name}"));
    let (out, err, given) = (output("out"), output("err"), output("in"));
    let run = || -> std::io::Result<Vec<ExecLine>> {
        fs::create_dir_all(folder)?;
        let stdin = match &program.input {
            None => Stdio::null(),
            Some(input) => {
                fs::write(&given, input)?;
                fs::File::open(&given)?.into()
            }
        };
        // A guest has an /etc of its own.
        let own = format!("{}/etc/pve-edge", folder.display());
        let (name, arguments) = program.arguments.split_first().ok_or(std::io::ErrorKind::InvalidInput)?;
        let mut child = Command::new(name)
            .args(arguments.iter().map(|it| it.replace("/etc/pve-edge", &own)))
            .current_dir(folder)
            .stdin(stdin)
            .stdout(fs::File::create(&out)?)
            .stderr(fs::File::create(&err)?)
            .spawn()?;
        let began = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break Some(status);
            }
            if timeout.is_some_and(|timeout| began.elapsed() >= timeout) {
                child.kill()?;
                child.wait()?;
                break None;
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        let mut lines: Vec<ExecLine> = split(&fs::read(&out)?).map(ExecLine::Stdout).collect();
        lines.extend(split(&fs::read(&err)?).map(ExecLine::Stderr));
        match (status, timeout) {
            (None, Some(timeout)) => lines.extend(timed_out(timeout)),
            (status, _) => lines.push(ExecLine::Exit(status.and_then(|s| s.code()).unwrap_or(1))),
        }
        Ok(lines)
    };
    let lines = run().unwrap_or_else(|error| vec![ExecLine::Error(error.to_string()), ExecLine::Exit(127)]);
    let _ = (fs::remove_file(&out), fs::remove_file(&err), fs::remove_file(&given));
    lines
}

/// As the daemon's scanner: no blank lines, no CR, no invalid UTF-8.
fn split(bytes: &[u8]) -> impl Iterator<Item = String> {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let lines: Vec<String> = text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
    lines.into_iter()
}

fn text(status: u16, body: &str) -> Streamed {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    Streamed { status, headers, pieces: vec![Piece::Bytes(body.into())] }
}

fn json_answer(status: u16, body: &Value) -> Streamed {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Streamed { status, headers, pieces: vec![Piece::Bytes(format!("{body}\n").into_bytes())] }
}
