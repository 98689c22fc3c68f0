//! The guest agent, as PVE passes it on [qemu-server `API2/Qemu/Agent.pm`].

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
    time::Duration,
};

use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::sim::{
    Run, Sim, Version,
    execd::{ExecLine, Program, asked},
    reply::{Answer, Fail},
    wire::Call,
};

/// What PVE says when nothing answers its ping for 3 s.
pub(crate) const SILENT: &str = "QEMU guest agent is not running";

/// The most of each stream that an agent keeps.
const KEPT: usize = 16 << 20;

/// Starts programs in guests, elsewhere and in real time; what each leaves is
/// there when it has ended.
pub type Host = Arc<dyn Fn(u32, Program) -> Arc<OnceLock<Output>> + Send + Sync>;

/// The agents of all guests.
#[derive(Clone, Default)]
pub(crate) struct Agents {
    host: Option<Host>,
    last: i64,
    processes: BTreeMap<(u32, i64), Process>,
}

/// A process that an agent started, until somebody has read its end.
#[derive(Clone)]
struct Process {
    /// Its parent dies with the memory that it lives in.
    memory: u64,
    /// In the simulator's time; `None` is never.
    end: Option<OffsetDateTime>,
    output: Arc<OnceLock<Output>>,
}

/// What a process leaves.
#[derive(Clone, Debug, Default)]
pub struct Output {
    /// Standard output.
    pub out: Vec<u8>,
    /// Standard error.
    pub err: Vec<u8>,
    /// As a shell tells it: from 128 on a signal.
    pub code: i32,
}

impl Sim {
    /// Has agents start their programs by this, and not in this process at once.
    pub fn set_agent_host(&mut self, host: Host) {
        self.agents.host = Some(host);
    }
}

/// The right to do anything in a guest.
pub(crate) fn unrestricted(sim: &Sim, call: &Call) -> Result<(), Fail> {
    right(sim, call, &["VM.GuestAgent.Unrestricted"])
}

pub(crate) fn audit(sim: &Sim, call: &Call) -> Result<(), Fail> {
    right(sim, call, &["VM.GuestAgent.Audit", "VM.GuestAgent.Unrestricted"])
}

pub(crate) fn reading(sim: &Sim, call: &Call) -> Result<(), Fail> {
    right(sim, call, &["VM.GuestAgent.FileRead", "VM.GuestAgent.Unrestricted"])
}

pub(crate) fn writing(sim: &Sim, call: &Call) -> Result<(), Fail> {
    right(sim, call, &["VM.GuestAgent.FileWrite", "VM.GuestAgent.Unrestricted"])
}

/// Until 8 one privilege is for all of them.
fn right(sim: &Sim, call: &Call, any: &[&str]) -> Result<(), Fail> {
    let any = if sim.setup.version >= Version::V9 { any } else { &["VM.Monitor"] };
    sim.require(&call.token, &format!("/vms/{}", call.vmid()), any)
}

/// `POST …/agent/ping`
pub(crate) fn ping(sim: &mut Sim, call: &Call, _: OffsetDateTime) -> Answer {
    answering(sim, call)?;
    Ok(json!({ "result": {} }))
}

/// `GET …/agent/network-get-interfaces`
pub(crate) fn interfaces(sim: &mut Sim, call: &Call, _: OffsetDateTime) -> Answer {
    let run = answering(sim, call)?;
    let net0 = sim.named(call)?.config.get("net0").unwrap_or("");
    let hwaddr = super::config::macaddr(net0).unwrap_or("").to_lowercase();
    let ip = |kind: &str, address: &str, prefix: u8| json!({ "ip-address": address, "ip-address-type": kind, "prefix": prefix });
    let own = run.address.to_string();
    let mut items = vec![json!({ "name": "lo", "hardware-address": "00:00:00:00:00:00",
        "ip-addresses": [ip("ipv4", "127.0.0.1", 8), ip("ipv6", "::1", 128)] })];
    items.extend(sim.setup.inner_interfaces.iter().zip(1..).map(|((name, cidr), n)| {
        let address = cidr.split('/').next().unwrap_or("");
        json!({ "name": name, "hardware-address": format!("02:42:00:00:00:{n:02x}"),
            "ip-addresses": [ip("ipv4", address, 16)] })
    }));
    items.push(json!({ "name": "ens18", "hardware-address": hwaddr,
        "ip-addresses": [ip("ipv4", &own, 24), ip("ipv6", "fe80::1", 64)] }));
    Ok(json!({ "result": items }))
}

/// `POST …/agent/exec`: the process is started, and its number told.
pub(crate) fn exec(sim: &mut Sim, call: &Call, _: OffsetDateTime) -> Answer {
    let memory = answering(sim, call)?.memory;
    let arguments: Vec<String> = call.get("command").unwrap_or("").split('\0').map(str::to_owned).collect();
    if arguments.first().is_none_or(String::is_empty) {
        return Err(Fail::die("Agent error: Failed to execute child process (No such file or directory)"));
    }
    let vmid = call.vmid();
    let program = Program { arguments, input: call.get("input-data").map(str::to_owned) };
    let (output, took) = match sim.agents.host.clone() {
        Some(host) => (host(vmid, program), Some(time::Duration::ZERO)),
        // It would remove this machine's own keys and logs.
        None if sim.folder_of_commands(vmid).is_some()
            && program.arguments.iter().any(|it| it.contains("/var/lib/pve-edge-build")) =>
        {
            return Err(Fail::die("Agent error: nothing is built in a VM that shares this machine's files"));
        }
        None => {
            let (command, allowed) = command(&program.arguments);
            let (output, took) = collected(sim.job(vmid, command, Some(program), allowed).lines());
            (Arc::new(output.into()), took)
        }
    };
    sim.agents.last += 1;
    let pid = 1000 + sim.agents.last;
    let end = took.map(|took| sim.now + took);
    sim.agents.processes.insert((vmid, pid), Process { memory, end, output });
    Ok(json!({ "pid": pid }))
}

/// `GET …/agent/exec-status`: the end is told once.
pub(crate) fn exec_status(sim: &mut Sim, call: &Call, _: OffsetDateTime) -> Answer {
    let memory = answering(sim, call)?.memory;
    let pid: i64 = call.get("pid").and_then(|pid| pid.parse().ok()).unwrap_or(0);
    let key = (call.vmid(), pid);
    let Some(process) = sim.agents.processes.get(&key).filter(|process| process.memory == memory) else {
        // The words are those of the agent in the guest, of whatever age that is.
        return Err(Fail::die(match sim.setup.version {
            Version::V9 => format!("Agent error: PID {pid} does not exist"),
            _ => "Agent error: Invalid parameter 'pid'".to_owned(),
        }));
    };
    let over = process.end.is_some_and(|end| end <= sim.now);
    let Some(Output { out, err, code }) = process.output.get().cloned().filter(|_| over) else {
        return Ok(json!({ "exited": 0 }));
    };
    sim.agents.processes.remove(&key);
    let mut data = json!({ "exited": 1 });
    match code {
        128.. => data["signal"] = json!(code - 128),
        code => data["exitcode"] = json!(code),
    }
    for (name, bytes) in [("out", out), ("err", err)] {
        if bytes.len() > KEPT {
            data[format!("{name}-truncated")] = json!(1);
        }
        if !bytes.is_empty() {
            data[format!("{name}-data")] = latin(&bytes[..bytes.len().min(KEPT)]).into();
        }
    }
    Ok(data)
}

/// `POST …/agent/file-write`: the whole file.
pub(crate) fn file_write(sim: &mut Sim, call: &Call, _: OffsetDateTime) -> Answer {
    answering(sim, call)?;
    let (file, content) = (call.get("file").unwrap_or(""), call.get("content").unwrap_or(""));
    let (file, content) = (file.to_owned(), content.to_owned());
    if let Some(guest) = sim.guests.get_mut(&call.vmid()) {
        guest.files.insert(file, content);
    }
    Ok(Value::Null)
}

/// `GET …/agent/file-read`
pub(crate) fn file_read(sim: &mut Sim, call: &Call, _: OffsetDateTime) -> Answer {
    answering(sim, call)?;
    let file = call.get("file").unwrap_or("");
    let Some(content) = sim.named(call)?.files.get(file) else {
        let text =
            format!("Agent error: failed to open file '{file}' (mode: 'r'): No such file or directory");
        return Err(Fail::die(text));
    };
    Ok(json!({ "content": latin(content.as_bytes()), "bytes-read": content.len() }))
}

/// The VM whose agent answers.
fn answering<'a>(sim: &'a Sim, call: &Call) -> Result<&'a Run, Fail> {
    let guest = sim.named(call)?;
    if !configured(guest.config.get("agent").unwrap_or("")) {
        return Err(Fail::die("No QEMU guest agent configured"));
    }
    if guest.run.is_none() {
        return Err(Fail::die(format!("VM {} is not running", guest.vmid)));
    }
    let silent = guest.config.get("agent").is_some_and(|agent| agent.contains("type=isa"));
    guest.awake().filter(|run| run.ready <= sim.now && !silent).ok_or_else(|| Fail::die(SILENT))
}

/// `1`, or `enabled=1` among others.
pub(crate) fn configured(agent: &str) -> bool {
    agent.split(',').any(|part| matches!(part, "1" | "enabled=1"))
}

/// PVE decodes what the agent gives into bytes and sends each as a character.
fn latin(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

/// Output and how long it took; `None` is a process that does not end.
fn collected(lines: Vec<ExecLine>) -> (Output, Option<time::Duration>) {
    let (mut output, mut took) = (Output::default(), Some(time::Duration::ZERO));
    let add = |to: &mut Vec<u8>, line: &str| to.extend(line.bytes().chain([b'\n']));
    for line in lines {
        match line {
            ExecLine::Stdout(line) => add(&mut output.out, &line),
            ExecLine::Stderr(line) => add(&mut output.err, &line),
            // Only execd has words of its own.
            ExecLine::Error(_) => {}
            ExecLine::Exit(code) => output.code = code,
            ExecLine::Wait(wait) => took = took.map(|took| took + wait),
            ExecLine::Cut => took = None,
        }
    }
    (output, took)
}

/// The command that a shell was given, or all arguments: what a test's runner
/// sees, and for how long it may. A script that is about `"$0"` runs its first
/// argument, under `timeout` for as many seconds as the second says.
fn command(arguments: &[String]) -> (String, Option<Duration>) {
    let shell = |program: &str| matches!(program.rsplit('/').next(), Some("sh" | "bash" | "dash"));
    match arguments {
        [program, flag, script, rest @ ..]
            if shell(program) && flag.starts_with('-') && flag.ends_with('c') =>
        {
            match rest {
                [line, rest @ ..] if script.contains("\"$0\"") => {
                    let seconds =
                        rest.first().filter(|_| script.contains("timeout ")).and_then(|it| it.parse().ok());
                    (line.clone(), seconds.map(Duration::from_secs_f64))
                }
                _ => (script.clone(), asked(script).1),
            }
        }
        all => (all.join(" "), None),
    }
}
