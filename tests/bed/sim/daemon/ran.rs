//! A process of the stand-in: what it writes and when, what it reads, and how it ends.

use std::time::Duration;

use pve_edge_guest_protocol::{
    Unique,
    process::{
        After, Bytes, Event, Exit, Follow, Line, Process, Size, Spec, State, StdinTaken, Stream, Terminal,
    },
};
use time::OffsetDateTime;

use crate::sim::execd::{ExecLine, Piece};

/// A process that was started; a test is its program.
#[derive(Clone, Debug)]
pub struct Ran {
    /// Its number among the guest's.
    pub(super) number: usize,
    spec: Spec,
    boot: Unique,
    began: OffsetDateTime,
    output: Vec<(OffsetDateTime, Told)>,
    /// When it ends, and how; `None` of one whose keeper was killed.
    end: (OffsetDateTime, Option<Exit>),
    /// Bytes at the beginning of its output that the daemon has dropped.
    pub dropped: u64,
    /// What its standard input has taken.
    pub input: Vec<u8>,
    /// Whether that is closed.
    pub closed: bool,
    /// Bytes that its standard input takes in one call.
    pub room: usize,
    /// Signals that it has got.
    pub signals: Vec<String>,
    /// Size of its terminal.
    pub size: Option<Size>,
    /// Terminals that were opened while it was the last one.
    pub terminals: Vec<Terminal>,
}

#[derive(Clone, Debug)]
enum Told {
    Out(Stream, Vec<u8>),
    /// The connection of the first follower that comes here breaks.
    Cut,
}

/// Its number in the guest.
pub(super) const PID: u32 = 4242;
/// Silence after which a follower is told that nothing happens.
const SILENCE: time::Duration = time::Duration::seconds(15);

impl Ran {
    pub(super) fn new(
        number: usize,
        spec: Spec,
        boot: Unique,
        now: OffsetDateTime,
        lines: Vec<ExecLine>,
    ) -> Self {
        let (mut at, mut exit, mut output) = (now, Exit::default(), Vec::new());
        for line in lines {
            let written = |text: String| format!("{text}\n").into_bytes();
            match line {
                ExecLine::Stdout(text) => output.push((at, Told::Out(Stream::Stdout, written(text)))),
                ExecLine::Stderr(text) => output.push((at, Told::Out(Stream::Stderr, written(text)))),
                ExecLine::Error(why) => exit.timed_out |= why.starts_with("timeout"),
                ExecLine::Exit(code) => exit.exit_code = code,
                ExecLine::Wait(wait) => at += wait,
                ExecLine::Cut => output.push((at, Told::Cut)),
            }
        }
        let end = (at, Some(exit));
        let (size, signals, terminals) = (spec.pty, Vec::new(), Vec::new());
        let (input, closed) = (spec.input.clone().map(|it| it.0).unwrap_or_default(), spec.input.is_some());
        Self {
            number,
            spec,
            boot,
            began: now,
            output,
            end,
            dropped: 0,
            input,
            closed,
            room: usize::MAX,
            signals,
            size,
            terminals,
        }
    }

    /// Writes at this moment.
    pub fn writes(&mut self, now: OffsetDateTime, stream: Stream, bytes: &[u8]) {
        let at = self.output.iter().position(|it| it.0 > now).unwrap_or(self.output.len());
        self.output.insert(at, (now, Told::Out(stream, bytes.to_vec())));
    }

    /// Ends at this moment; without an exit its keeper is killed, and nobody knows how it ends.
    pub fn ends(&mut self, now: OffsetDateTime, exit: Option<Exit>) {
        self.end = (now, exit);
        self.output.retain(|it| it.0 <= now);
    }

    pub(super) fn is_over(&self, now: OffsetDateTime) -> bool {
        self.end.0 <= now
    }

    pub(super) fn takes_input(&self) -> bool {
        self.spec.stdin || self.spec.pty.is_some()
    }

    pub(super) fn taken(&self) -> StdinTaken {
        StdinTaken { at: self.input.len() as u64, closed: self.closed }
    }

    /// Bytes that it has written so far.
    fn cursor(&self, now: OffsetDateTime) -> u64 {
        let come = self.output.iter().filter(|it| it.0 <= now);
        come.map(|(_, told)| if let Told::Out(_, data) = told { data.len() as u64 } else { 0 }).sum()
    }

    pub(super) fn describe(&self, process: Unique, now: OffsetDateTime) -> Process {
        let Spec { command, argv, cwd, user, tag, pty, .. } = self.spec.clone();
        let shell = |line| vec!["bash".to_owned(), "-c".to_owned(), line];
        let over = self.is_over(now);
        Process {
            process,
            state: match &self.end.1 {
                _ if !over => State::Running,
                Some(_) => State::Exited,
                None => State::Lost,
            },
            boot: self.boot,
            pid: Some(PID),
            tag,
            argv: command.map(shell).or(argv).unwrap_or_default(),
            cwd: cwd.or(Some("/root".into())),
            user: user.or(Some("root".into())),
            pty: pty.is_some(),
            stdin: Some(self.taken()).filter(|_| self.takes_input() && !over),
            exit: self.end.1.clone().filter(|_| over),
            cursor: self.cursor(now),
            age_ms: u64::try_from((now - self.began).whole_milliseconds()).unwrap_or(0),
        }
    }

    /// The answer to one who follows from now on.
    pub(super) fn tell(&mut self, follow: &Follow, now: OffsetDateTime) -> Vec<Piece> {
        let cursor = match follow.after {
            After::Start => 0,
            After::End => self.cursor(now),
            After::Cursor(at) => at.min(self.cursor(now)),
        };
        let until = follow.wait_ms.map(|it| now + Duration::from_millis(it));
        let mut answer = Telling { pieces: Vec::new(), cursor, now, until, has_told: false };
        answer.line(Event::Started { pid: PID });
        if let Some(bytes) = self.dropped.checked_sub(cursor).filter(|it| *it > 0) {
            answer.tell(bytes, Event::Gap { bytes });
        }
        let (mut place, mut left) = (0, follow.most.unwrap_or(u64::MAX));
        for (index, (at, told)) in self.output.iter().enumerate() {
            let data: &[u8] = if let Told::Out(_, data) = told { data } else { &[] };
            place += data.len() as u64;
            let fresh = usize::try_from(place.saturating_sub(answer.cursor)).unwrap_or(usize::MAX);
            let fresh = data.get(data.len().saturating_sub(fresh)..).unwrap_or_default();
            if matches!(told, Told::Out(..)) && fresh.is_empty() {
                continue;
            }
            if left == 0 || !answer.waits(*at) {
                return answer.pieces;
            }
            let Told::Out(stream, _) = told else {
                answer.pieces.push(Piece::Cut);
                self.output.remove(index);
                return answer.pieces;
            };
            let told = &fresh[..fresh.len().min(usize::try_from(left).unwrap_or(usize::MAX))];
            left -= told.len() as u64;
            answer.tell(told.len() as u64, Event::Out { stream: *stream, data: Bytes(told.to_vec()) });
        }
        if left > 0 && answer.waits(self.end.0) {
            answer.line(self.end.1.clone().map_or(Event::Lost, Event::Exit));
        }
        answer.pieces
    }
}

/// An answer to a follower.
struct Telling {
    pieces: Vec<Piece>,
    cursor: u64,
    now: OffsetDateTime,
    /// When it ends if nothing was told.
    until: Option<OffsetDateTime>,
    has_told: bool,
}

impl Telling {
    fn line(&mut self, event: Event) {
        let line = serde_json::to_string(&Line { cursor: self.cursor, event }).expect("events are JSON");
        self.pieces.push(Piece::Bytes(format!("{line}\n").into_bytes()));
    }

    /// Tells what so many bytes of output have become.
    fn tell(&mut self, bytes: u64, event: Event) {
        self.cursor += bytes;
        self.has_told = true;
        self.line(event);
    }

    /// Waits for this moment; whether the answer goes on so long.
    fn waits(&mut self, at: OffsetDateTime) -> bool {
        let is_last = self.until.is_some_and(|it| at > self.now && (self.has_told || at > it));
        let until = match self.until {
            Some(until) if is_last => {
                if self.has_told {
                    self.now
                } else {
                    until
                }
            }
            _ => at,
        };
        while until - self.now > SILENCE {
            self.pieces.push(Piece::Wait(SILENCE.unsigned_abs()));
            self.now += SILENCE;
            self.line(Event::Alive);
        }
        if until > self.now {
            self.pieces.push(Piece::Wait((until - self.now).unsigned_abs()));
            self.now = until;
        }
        !is_last
    }
}
