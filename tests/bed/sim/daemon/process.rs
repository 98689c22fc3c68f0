//! Processes of the stand-in: the whole of one runs when it is started, and is told as time passes.

use std::{fs, time::Duration};

use pve_edge_guest_protocol::{
    Unique,
    answer::{Code, Done, Metrics, Refusal},
    call::{Digest256, Operation},
    process::{Event, Exit, Follow, Line, Process, Processes, Resize, Signal, Spec, Start, State, Stdin},
};

use super::{Ran, Reply, told};
use crate::sim::{
    Sim,
    execd::{Piece, Program, Streamed},
};

/// Signals that end a process, and their numbers.
const ENDING: [(&str, i32); 7] =
    [("HUP", 1), ("INT", 2), ("QUIT", 3), ("KILL", 9), ("USR1", 10), ("USR2", 12), ("TERM", 15)];
/// Signals that it lives on with.
const HARMLESS: [&str; 4] = ["STOP", "CONT", "CHLD", "WINCH"];

/// A note of a start with a key, on the disk: the digest of its request, and the boot.
type Note = (Digest256, Unique);

impl Sim {
    /// Does what a call about processes asks; `None` if it is about something else.
    pub(super) fn about_processes(&mut self, vmid: u32, operation: &Operation, body: &[u8]) -> Option<Reply> {
        Some(match operation {
            Operation::Start(it) => self.start(vmid, it, body),
            Operation::Processes {} => Ok(told(&self.processes(vmid))),
            Operation::Process(it) => self.process(vmid, it.process).map(|it| told(&it)),
            Operation::Follow(it) => self.follow(vmid, it),
            Operation::Stdin(it) => self.stdin(vmid, it, body),
            Operation::Signal(it) => self.signal(vmid, it),
            Operation::Resize(it) => self.resize(vmid, it),
            Operation::Forget(it) => self.forget(vmid, it.process),
            Operation::Metrics {} => Ok(told(&self.metrics(vmid))),
            _ => return None,
        })
    }

    /// The process of a guest that was started last: a test is its program.
    pub fn process_mut(&mut self, vmid: u32) -> Option<&mut Ran> {
        let memory = self.memory(vmid);
        memory.processes.values_mut().max_by_key(|it| it.number)
    }

    /// Starts a process, unless it was; how it stands.
    fn start(&mut self, vmid: u32, start: &Start, body: &[u8]) -> Reply {
        let note = self.note(vmid, start.process);
        if note.zip(start.keyed).is_some_and(|(note, keyed)| note.0 != keyed) {
            return Err(Refusal::new(Code::OtherRequest, "another request has started this process"));
        }
        if note.is_none() && !self.memory(vmid).processes.contains_key(&start.process) {
            let spec: Spec = serde_json::from_slice(body)
                .map_err(|error| Refusal::new(Code::BadCall, format!("no spec: {error}")))?;
            self.run(vmid, start, spec)?;
        }
        self.process(vmid, start.process).map(|it| told(&it))
    }

    fn run(&mut self, vmid: u32, start: &Start, spec: Spec) -> Result<(), Refusal> {
        let is_known = |it: &String| it == "root" || it.parse::<u32>().is_ok();
        if !spec.user.as_ref().is_none_or(is_known) {
            return Err(Refusal::new(Code::NoSuchUser, "the guest has no such user"));
        }
        let text = spec.command.clone().unwrap_or_else(|| spec.argv.clone().unwrap_or_default().join(" "));
        let timeout = spec.timeout_ms.map(Duration::from_millis);
        let lines = self.job(vmid, text, Some(program(&spec)), timeout).lines();
        let (now, memory) = (self.now, self.memory(vmid));
        let (boot, number) = (memory.boot, memory.processes.len());
        memory.processes.insert(start.process, Ran::new(number, spec, boot, now, lines));
        if let Some(digest) = start.keyed {
            let note: Note = (digest, boot);
            let text = serde_json::to_string(&note).expect("notes are JSON");
            self.put_file(vmid, &path_of_note(start.process), &text);
        }
        Ok(())
    }

    fn note(&self, vmid: u32, process: Unique) -> Option<Note> {
        serde_json::from_str(self.guests.get(&vmid)?.file(&path_of_note(process))?).ok()
    }

    fn processes(&mut self, vmid: u32) -> Processes {
        let (now, memory) = (self.now, self.memory(vmid));
        let mut all: Vec<_> = memory.processes.iter().collect();
        all.sort_by_key(|(_, it)| it.number);
        Processes { processes: all.into_iter().map(|(name, it)| it.describe(*name, now)).collect() }
    }

    /// How a process stands.
    pub(super) fn process(&mut self, vmid: u32, process: Unique) -> Result<Process, Refusal> {
        let now = self.now;
        if let Some(ran) = self.memory(vmid).processes.get(&process) {
            return Ok(ran.describe(process, now));
        }
        let (_, boot) = self.note(vmid, process).ok_or_else(unknown)?;
        Ok(lost(process, boot))
    }

    /// A process that can be talked to.
    fn living(&mut self, vmid: u32, process: Unique) -> Result<&mut Ran, Refusal> {
        let now = self.now;
        let is_noted = self.note(vmid, process).is_some();
        let none =
            if is_noted { Refusal::new(Code::ProcessGone, "the guest was restarted") } else { unknown() };
        let ran = self.memory(vmid).processes.get_mut(&process).ok_or(none)?;
        if ran.is_over(now) { Err(Refusal::new(Code::ProcessGone, "the process has ended")) } else { Ok(ran) }
    }

    /// Its output behind a cursor. Where it is to break off it does so once.
    fn follow(&mut self, vmid: u32, follow: &Follow) -> Reply {
        let (now, process) = (self.now, self.process(vmid, follow.process)?);
        let pieces = match self.memory(vmid).processes.get_mut(&process.process) {
            Some(ran) => ran.tell(follow, now),
            None => {
                let line = serde_json::to_string(&Line { cursor: 0, event: Event::Lost }).expect("JSON");
                vec![Piece::Bytes(format!("{line}\n").into_bytes())]
            }
        };
        Ok(Streamed { status: 200, headers: Default::default(), pieces })
    }

    fn stdin(&mut self, vmid: u32, stdin: &Stdin, body: &[u8]) -> Reply {
        let ran = self.living(vmid, stdin.process)?;
        let (taken, closed) = (ran.input.len() as u64, Refusal::new(Code::StdinClosed, "it is closed"));
        if !ran.takes_input() {
            return Err(closed);
        }
        let Some(before) = taken.checked_sub(stdin.at) else {
            let refusal = Refusal::new(Code::StdinOffset, format!("bytes are missing: {taken} were taken"));
            return Err(Refusal { at: Some(taken), ..refusal });
        };
        let new = usize::try_from(before).ok().and_then(|it| body.get(it..)).unwrap_or_default();
        if ran.closed && !new.is_empty() {
            return Err(closed);
        }
        let room = new.len().min(ran.room);
        ran.input.extend(&new[..room]);
        ran.closed |= stdin.end && room == new.len();
        Ok(told(&ran.taken()))
    }

    fn signal(&mut self, vmid: u32, signal: &Signal) -> Reply {
        let number = ENDING.iter().find(|it| it.0 == signal.signal).map(|it| it.1);
        if number.is_none() && !HARMLESS.contains(&&*signal.signal) {
            return Err(Refusal::new(Code::NoSuchSignal, format!("no signal is called {:?}", signal.signal)));
        }
        let now = self.now;
        let ran = self.living(vmid, signal.process)?;
        ran.signals.push(signal.signal.clone());
        if let Some(number) = number {
            let (exit_code, signal) = (128 + number, Some(signal.signal.clone()));
            ran.ends(now, Some(Exit { exit_code, signal, ..Exit::default() }));
        }
        self.process(vmid, signal.process).map(|it| told(&it))
    }

    fn resize(&mut self, vmid: u32, resize: &Resize) -> Reply {
        let ran = self.living(vmid, resize.process)?;
        if ran.size.is_none() {
            return Err(Refusal::new(Code::NoTerminal, "the process has no terminal"));
        }
        ran.size = Some(resize.size);
        self.process(vmid, resize.process).map(|it| told(&it))
    }

    fn forget(&mut self, vmid: u32, process: Unique) -> Reply {
        match self.memory(vmid).processes.remove(&process) {
            Some(_) => Ok(told(&Done {})),
            None => self.living(vmid, process).map(|_| told(&Done {})),
        }
    }

    fn metrics(&mut self, vmid: u32) -> Metrics {
        let since = self.guests[&vmid].run.as_ref().expect("it runs").since;
        Metrics {
            cpus: 1.5,
            cpu_used_us: 1_000_000,
            uptime_ms: u64::try_from((self.now - since).whole_milliseconds()).unwrap_or(0),
            memory_total: 1 << 30,
            memory_used: 1 << 28,
            memory_cached: 1 << 27,
            disk_total: 8 << 30,
            disk_used: 1 << 30,
            processes: 7,
            oom_kills: 0,
        }
    }

    /// Puts a file where real commands find it.
    pub(super) fn mirror(&self, vmid: u32, path: &str, content: &[u8]) {
        if let Some(folder) = self.folder_of_commands(vmid) {
            let file = folder.join(path.trim_start_matches('/'));
            let written =
                file.parent().map(fs::create_dir_all).transpose().and_then(|_| fs::write(&file, content));
            let _ = written.and_then(|()| {
                fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600))
            });
        }
    }

    fn memory(&mut self, vmid: u32) -> &mut super::Memory {
        &mut self.guests.get_mut(&vmid).and_then(|it| it.run.as_mut()).expect("it runs").daemon
    }
}

/// What is really started where no closure runs the commands.
fn program(spec: &Spec) -> Program {
    let words = |words: &[&str]| words.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
    let mut arguments = match &spec.cwd {
        Some(cwd) => words(&["/bin/sh", "-c", "cd \"$0\" && exec \"$@\"", cwd]),
        None => Vec::new(),
    };
    arguments.push("env".into());
    arguments.extend(spec.env.iter().map(|(name, value)| format!("{name}={value}")));
    match (&spec.command, &spec.argv) {
        (Some(command), _) => arguments.extend(words(&["/bin/bash", "-c", command])),
        (None, argv) => arguments.extend(argv.clone().unwrap_or_default()),
    }
    Program { arguments, input: None }
}

fn unknown() -> Refusal {
    Refusal::new(Code::NoSuchProcess, "no process has this name")
}

/// A process of which nothing is left but that it was started.
fn lost(process: Unique, boot: Unique) -> Process {
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

fn path_of_note(process: Unique) -> String {
    format!("/var/lib/pve-edge/started/{process}")
}
