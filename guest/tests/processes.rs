//! Processes: what is run, what is told of it, and what outlives the daemon.

mod ends;
mod faults;
mod given;
mod hangup;
mod input;
mod keys;
mod lasting;
mod notes;
mod output;
mod starts;
mod users;

use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use pve_edge_guest_protocol::{
    Unique,
    answer::{Done, Refusal},
    call::Operation,
    process::{After, Event, Exit, Follow, Line, Named, Process, Spec, Start, State, Stream},
};
use tokio::time::sleep;

use crate::daemon::{Daemon, unique};

/// A spec of a line for the shell.
pub(crate) fn line(command: &str) -> Spec {
    Spec { command: Some(command.into()), ..Spec::default() }
}

/// A spec of a program and its arguments.
pub(crate) fn argv<const N: usize>(argv: [&str; N]) -> Spec {
    Spec { argv: Some(argv.map(str::to_owned).to_vec()), ..Spec::default() }
}

/// What a process has told until it ended.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Told {
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    pub(crate) gaps: u64,
    pub(crate) exit: Option<Exit>,
    pub(crate) is_lost: bool,
    pub(crate) cursor: u64,
}

impl Told {
    pub(crate) fn of(lines: impl IntoIterator<Item = Line>) -> Self {
        let mut told = Self::default();
        lines.into_iter().for_each(|line| told.add(line));
        told
    }

    pub(crate) fn add(&mut self, line: Line) {
        assert!(self.exit.is_none() && !self.is_lost, "the exit is the last line");
        assert!(line.cursor >= self.cursor);
        let before = std::mem::replace(&mut self.cursor, line.cursor);
        match line.event {
            Event::Started { .. } | Event::Alive => {}
            Event::Out { stream: Stream::Stdout, data } => self.stdout.extend(data.0),
            Event::Out { stream: Stream::Stderr, data } => self.stderr.extend(data.0),
            Event::Gap { bytes } => {
                assert!(before == 0 || line.cursor - before == bytes);
                self.gaps += bytes;
            }
            Event::Exit(exit) => self.exit = Some(exit),
            Event::Lost => self.is_lost = true,
        }
    }

    pub(crate) fn code(&self) -> i32 {
        self.exit.as_ref().unwrap().exit_code
    }

    pub(crate) fn text(&self) -> &str {
        str::from_utf8(&self.stdout).unwrap()
    }
}

/// Lines of an answer as they come.
pub(crate) struct Lines {
    body: Incoming,
    bytes: Vec<u8>,
}

impl Lines {
    /// The next line; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Line> {
        loop {
            if let Some(end) = self.bytes.iter().position(|it| *it == b'\n') {
                let line: Vec<u8> = self.bytes.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let frame = self.body.frame().await?.unwrap();
            self.bytes.extend(frame.into_data().unwrap());
        }
    }

    /// Reads on until so many bytes of output were told.
    pub(crate) async fn until(&mut self, cursor: u64) -> Told {
        let mut told = Told::default();
        while told.cursor < cursor {
            told.add(self.next().await.unwrap());
        }
        told
    }
}

impl Daemon {
    pub(crate) async fn start_process(&self, spec: Spec) -> Result<Process, Refusal> {
        self.start_again(Start { process: unique(), keyed: None }, &spec).await
    }

    pub(crate) async fn start_again(&self, start: Start, spec: &Spec) -> Result<Process, Refusal> {
        self.ask(Operation::Start(start), serde_json::to_vec(spec).unwrap()).await
    }

    /// Starts a process and follows it to its end.
    pub(crate) async fn exec(&self, spec: Spec) -> Told {
        let process = self.start_process(spec).await.unwrap().process;
        self.follow(process, After::Start).await
    }

    /// Follows a process to its end.
    pub(crate) async fn follow(&self, process: Unique, after: After) -> Told {
        let follow = Follow { process, after, wait_ms: None, most: None };
        Told::of(self.lines(Operation::Follow(follow), "").await.unwrap())
    }

    /// Follows a process for as long as the lines are taken.
    pub(crate) async fn open_lines(&self, process: Unique, after: After) -> Lines {
        let follow = Follow { process, after, wait_ms: None, most: None };
        let answer = self.open(Operation::Follow(follow), "").await.unwrap();
        Lines { body: answer.into_body(), bytes: Vec::new() }
    }

    pub(crate) async fn get(&self, process: Unique) -> Result<Process, Refusal> {
        self.ask(Operation::Process(Named { process }), "").await
    }

    pub(crate) async fn forget(&self, process: Unique) -> Result<Done, Refusal> {
        self.ask(Operation::Forget(Named { process }), "").await
    }

    /// Waits until a process is in some state.
    pub(crate) async fn until_state(&self, process: Unique, state: State) -> Process {
        for _ in 0..3_000 {
            let now = self.get(process).await.unwrap();
            if now.state == state {
                return now;
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("the process is never {state:?}");
    }
}

/// Waits until something holds.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..3_000 {
        if holds() {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("it never was so: {what}");
}

/// Whether a process of the guest lives.
pub(crate) fn lives(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}
