//! Processes of the stand-in: the whole of one runs when it is started, and is told as time passes.

use std::{fs, time::Duration};

use pve_edge_guest_protocol::{
    Unique,
    answer::{Code, Refusal},
    process::{After, Bytes, Event, Exit, Follow, Line, Process, Spec, State, Stream},
};
use time::OffsetDateTime;

use super::{Reply, told};
use crate::sim::{
    Sim,
    execd::{ExecLine, Piece, Program, Streamed},
};

/// A process that was started.
#[derive(Clone, Debug)]
pub(super) struct Ran {
    spec: Spec,
    boot: Unique,
    began: OffsetDateTime,
    lines: Vec<ExecLine>,
}

const PID: u32 = 4242;

impl Sim {
    /// Starts a process, unless it was; how it stands.
    pub(super) fn start(&mut self, vmid: u32, process: Unique, body: &[u8]) -> Reply {
        if self.memory(vmid).processes.contains_key(&process) {
            return self.process(vmid, process);
        }
        let spec: Spec = serde_json::from_slice(body)
            .map_err(|error| Refusal::new(Code::BadCall, format!("no spec: {error}")))?;
        let text = spec.command.clone().unwrap_or_else(|| spec.argv.clone().unwrap_or_default().join(" "));
        let timeout = spec.timeout_ms.map(Duration::from_millis);
        let lines = self.job(vmid, text, Some(program(&spec)), timeout).lines();
        let (began, boot) = (self.now, self.memory(vmid).boot);
        self.memory(vmid).processes.insert(process, Ran { spec, boot, began, lines });
        self.process(vmid, process)
    }

    /// How a process stands.
    pub(super) fn process(&mut self, vmid: u32, process: Unique) -> Reply {
        let now = self.now;
        let ran = self.memory(vmid).processes.get(&process).ok_or_else(unknown)?;
        let spec = &ran.spec;
        Ok(told(&Process {
            process,
            state: if ran.ends() <= now { State::Exited } else { State::Running },
            boot: ran.boot,
            pid: Some(PID),
            tag: spec.tag.clone(),
            argv: spec.argv.clone().unwrap_or_default(),
            cwd: spec.cwd.clone(),
            user: spec.user.clone(),
            pty: spec.pty.is_some(),
            stdin: None,
            exit: (ran.ends() <= now).then(|| ran.exit()),
            cursor: ran.lines.iter().filter_map(output).map(|(_, it)| it.len() as u64).sum(),
            age_ms: u64::try_from((now - ran.began).whole_milliseconds()).unwrap_or(0),
        }))
    }

    /// Its output behind a cursor. Where it is to break off it does so once.
    pub(super) fn follow(&mut self, vmid: u32, follow: &Follow) -> Reply {
        let ran = self.memory(vmid).processes.get_mut(&follow.process).ok_or_else(unknown)?;
        let from = match follow.after {
            After::Start => 0,
            After::End => u64::MAX,
            After::Cursor(at) => at,
        };
        let mut pieces = vec![event(0, Event::Started { pid: PID })];
        let mut cursor = 0;
        let mut broken = None;
        for (at, line) in ran.lines.iter().enumerate() {
            match (line, output(line)) {
                (_, Some((stream, data))) => {
                    cursor += data.len() as u64;
                    let fresh = usize::try_from(cursor.saturating_sub(from)).unwrap_or(0).min(data.len());
                    let data = data.as_bytes()[data.len() - fresh..].to_vec();
                    let told = (fresh > 0).then(|| event(cursor, Event::Out { stream, data: Bytes(data) }));
                    pieces.extend(told);
                }
                (ExecLine::Wait(wait), _) => pieces.push(Piece::Wait(*wait)),
                (ExecLine::Cut, _) => {
                    pieces.push(Piece::Cut);
                    broken = Some(at);
                    break;
                }
                _ => {}
            }
        }
        match broken {
            Some(at) => drop(ran.lines.remove(at)),
            None => pieces.push(event(cursor, Event::Exit(ran.exit()))),
        }
        Ok(Streamed { status: 200, headers: Default::default(), pieces })
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

impl Ran {
    fn ends(&self) -> OffsetDateTime {
        let waits =
            self.lines.iter().map(|it| if let ExecLine::Wait(wait) = it { *wait } else { Duration::ZERO });
        self.began + waits.sum::<Duration>()
    }

    fn exit(&self) -> Exit {
        let code =
            self.lines.iter().find_map(|it| if let ExecLine::Exit(code) = it { Some(*code) } else { None });
        let timed_out =
            self.lines.iter().any(|it| matches!(it, ExecLine::Error(why) if why.starts_with("timeout")));
        Exit { exit_code: code.unwrap_or(0), timed_out, ..Exit::default() }
    }
}

fn output(line: &ExecLine) -> Option<(Stream, String)> {
    match line {
        ExecLine::Stdout(text) => Some((Stream::Stdout, format!("{text}\n"))),
        ExecLine::Stderr(text) => Some((Stream::Stderr, format!("{text}\n"))),
        _ => None,
    }
}

fn event(cursor: u64, event: Event) -> Piece {
    let line = serde_json::to_string(&Line { cursor, event }).expect("events are JSON");
    Piece::Bytes(format!("{line}\n").into_bytes())
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
