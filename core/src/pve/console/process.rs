//! Processes that a hub serves: their start, and their output.

use std::{collections::VecDeque, time::Duration};

use pve_edge_guest_protocol::{
    Unique,
    process::{Bytes, Event, Exit, Line},
};
use time::OffsetDateTime;

use super::{
    hub::Hub,
    line::{self, End, File, Frame, PIECE, Reply, Sizes, Stands, Started, doubled, put, sum, summed},
    terminal::Ended,
};
use crate::{io::Io, sandbox::process::Place};

/// Pieces of input on the way: more than 8 KB of input that nobody reads can stop a console for good.
const PIECES: usize = 2;
/// Bytes that are kept of each output.
const KEPT: u64 = 8 << 20;
/// Frames of each output that one question may be answered with, at first and at most. A console that loses what comes
/// too fast gets fewer.
const FRAMES: (u32, u32) = (4, 12);
/// Time for the frames of one answer.
const LONGEST_ANSWER: Duration = Duration::from_secs(20);
/// Bytes of output in a frame.
const FRAME: u64 = 3000;
/// Time that the hub waits for more before it answers that there is none: at first, and at most. A question that is lost is
/// noticed after twice that.
const WAIT: (Duration, Duration) = (Duration::from_millis(300), Duration::from_secs(5));
/// Questions in a row that are not answered, after which the hub counts as gone; and where it is heard to serve others.
const SILENT: (u32, u32) = (5, 15);
/// Questions in a row that may be answered with nothing new until a process that is followed is said to be alive.
const QUIET: u32 = 3;
/// Answers in a row that may promise bytes of which none come, until the hub counts as one that cannot send them.
const EMPTY: u32 = 15;

/// What is to be run.
#[derive(Clone, Debug)]
pub(super) struct Job {
    /// Script for `sh`.
    pub(super) script: String,
    pub(super) input: Input,
    /// Milliseconds after which it is killed.
    pub(super) timeout_ms: Option<u64>,
    /// Whether it is listed, and stays until it is forgotten.
    pub(super) is_kept: bool,
}

/// Standard input of a process.
#[derive(Clone, Debug)]
pub(super) enum Input {
    /// None.
    None,
    /// These bytes.
    Whole(Vec<u8>),
    /// What is written to it later.
    Live,
}

/// Failure of a request to a hub.
#[derive(Debug)]
pub(super) enum Failure {
    /// The console ended, before anything could be run.
    Unsent,
    /// The hub did not get all of it in time, before anything could be run.
    Crowded,
    /// The console ended, or the hub did not answer in time: it may have been run.
    Unanswered,
    /// There is no such process.
    NoSuchProcess,
    /// No room is left in the guest; nothing was run.
    Full,
}

/// Starts a process, once at most: a name is given once, as long as the guest is not restarted (rule S11.4).
pub(super) async fn start<I: Io>(
    hub: &mut Hub<I>,
    process: Unique,
    job: &Job,
    until: OffsetDateTime,
) -> Result<Started, Failure> {
    hub.serve(process);
    upload(hub, process, File::Script, job.script.as_bytes(), until).await?;
    let (kind, input) = match &job.input {
        Input::None => ("-", "-".to_owned()),
        Input::Live => ("s", "-".to_owned()),
        // The hub makes no file of nothing.
        Input::Whole(bytes) if bytes.is_empty() => ("-", "-".to_owned()),
        Input::Whole(bytes) => {
            upload(hub, process, File::Input, bytes, until).await?;
            ("i", sum(bytes))
        }
    };
    let (script, ms, kept) = (sum(job.script.as_bytes()), job.timeout_ms.unwrap_or(0), u8::from(job.is_kept));
    let run = summed(&format!("{process} run {script} {input} {ms} {kind} {KEPT} {kept}"));
    for tries in 0.. {
        hub.send(&run).await.map_err(|Ended| Failure::Unanswered)?;
        let wait = (hub.now() + hub.patience(tries)).min(until);
        while let Some(reply) = hub.next(wait).await.map_err(|Ended| Failure::Unanswered)? {
            match reply {
                Reply::Run(of, started) if of == process => return Ok(started),
                Reply::Full(of) if of == process => return Err(Failure::Full),
                _ => {}
            }
        }
        if hub.now() >= until {
            break;
        }
    }
    Err(Failure::Unanswered)
}

/// Puts a file of a process in place, piece by piece.
async fn upload<I: Io>(
    hub: &mut Hub<I>,
    process: Unique,
    file: File,
    bytes: &[u8],
    until: OffsetDateTime,
) -> Result<(), Failure> {
    let piece = |number: u64| {
        let from = usize::try_from(number).unwrap_or_default();
        put(process, file, number, bytes.chunks(PIECE).nth(from).unwrap_or_default())
    };
    let count = bytes.len().div_ceil(PIECE) as u64;
    let (mut next, mut unsent, mut on_the_way) = (0_u64, VecDeque::new(), VecDeque::new());
    let (mut tries, mut again) = (0, hub.now());
    loop {
        while next < count && unsent.len() + on_the_way.len() < PIECES {
            unsent.push_back(next);
            next += 1;
        }
        if unsent.is_empty() && on_the_way.is_empty() {
            return Ok(());
        }
        if !unsent.is_empty() {
            if !hub.turn(unsent.len(), tries > 0, until).await.map_err(unsent_yet)? {
                return Err(Failure::Crowded);
            }
            while let Some(number) = unsent.pop_front() {
                hub.send(&piece(number)).await.map_err(unsent_yet)?;
                on_the_way.push_back(number);
            }
            again = hub.now() + hub.patience(tries);
        }
        // However much others are told meanwhile.
        match hub.next(again.min(until)).await.map_err(unsent_yet)? {
            Some(Reply::Put(of, which, number)) if of == process && which == file => {
                // The hub takes one after the other: what was sent before this one was lost, or its reply was.
                if let Some(at) = on_the_way.iter().position(|it| *it == number) {
                    unsent.extend(on_the_way.drain(..at));
                    on_the_way.pop_front();
                }
                (tries, again) = (0, hub.now() + hub.patience(0));
            }
            Some(Reply::Full(of)) if of == process => return Err(Failure::Full),
            Some(_) => {}
            None if hub.now() >= until => return Err(Failure::Crowded),
            None => {
                unsent.append(&mut on_the_way);
                tries += 1;
            }
        }
    }
}

/// What the end of a console means while files are put in place: no start was sent, so that nothing can have run.
fn unsent_yet(Ended: Ended) -> Failure {
    Failure::Unsent
}

/// Follower of one process's output.
#[derive(Debug)]
pub(super) struct Follower {
    process: Unique,
    name: String,
    /// Bytes of each output that were told.
    at: Sizes,
    /// Bytes of both that were told, and of what was dropped.
    place: u64,
    question: u32,
    frames: u32,
    /// Whether more is there than was asked for.
    is_behind: bool,
    is_started: bool,
    is_over: bool,
    /// Time that the hub is to wait.
    wait: Duration,
    quiet: u32,
    silent: u32,
    /// Answers in a row that promised bytes and brought none.
    empty: u32,
}

impl Follower {
    /// A follower from a place on; `name` is one that nobody else has.
    pub(super) fn new(process: Unique, name: String, from: Place) -> Self {
        let at = Sizes { stdout: from.all.saturating_sub(from.stderr), stderr: from.stderr };
        let (place, frames) = (from.all, FRAMES.0);
        let (question, quiet, silent) = (0, 0, 0);
        Self {
            process,
            name,
            at,
            place,
            question,
            frames,
            is_behind: false,
            is_started: false,
            is_over: false,
            wait: WAIT.0,
            quiet,
            silent,
            empty: 0,
        }
    }

    /// A follower that is told how a process stands, and nothing of its output.
    pub(super) fn observer(process: Unique, name: String) -> Self {
        Self { frames: 0, ..Self::new(process, name, Place::default()) }
    }

    /// The process that is followed.
    pub(super) fn process(&self) -> Unique {
        self.process
    }

    /// Whether more is known to be there.
    pub(super) fn is_behind(&self) -> bool {
        self.is_behind
    }

    /// Whether the end was told.
    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Asks once, and tells what is new: nothing where nothing came in time.
    pub(super) async fn next<I: Io>(
        &mut self,
        hub: &mut Hub<I>,
        wait: Duration,
    ) -> Result<(Vec<Line>, Option<Stands>), Failure> {
        hub.serve(self.process);
        let wait = if self.is_behind { Duration::ZERO } else { wait.min(self.wait) };
        self.question += 1;
        let before @ Sizes { stdout, stderr } = self.at;
        let (frames, ms) = (self.frames, wait.as_millis());
        let ask = format!(
            "{} p {} {} {stdout} {frames} {stderr} {frames} {ms}",
            self.process, self.name, self.question
        );
        hub.send(&doubled(&ask)).await.map_err(|Ended| Failure::Unanswered)?;
        // A guest that is busy waits longer than it is told.
        let (mut until, mut lines) = (hub.now() + wait * 2 + hub.patience(self.silent), Vec::new());
        let (last, mut is_lossy, mut heard) = (until + LONGEST_ANSWER, false, 0);
        loop {
            match hub.next(until.min(last)).await.map_err(|Ended| Failure::Unanswered)? {
                Some(Reply::None(of)) if of == self.process => return Err(Failure::NoSuchProcess),
                // More than was asked for is not an answer of the hub's.
                Some(Reply::Frame(of, _)) if of == self.process && heard > 4 * u64::from(FRAMES.1) => {}
                Some(Reply::Frame(of, frame)) if of == self.process => {
                    heard += 1;
                    until = hub.now() + hub.patience(0);
                    is_lossy |= !self.take(frame, &mut lines);
                }
                Some(Reply::Stands(of, stands)) if of == self.process && stands.question == self.question => {
                    self.silent = 0;
                    self.pace(is_lossy || self.missed(&stands, before));
                    self.stand(&stands, &mut lines);
                    self.count(before)?;
                    return Ok((lines, Some(stands)));
                }
                Some(_) => {}
                None => {
                    self.pace(true);
                    self.silent += 1;
                    let most = if hub.is_shared() { SILENT.1 } else { SILENT.0 };
                    return if self.silent < most { Ok((lines, None)) } else { Err(Failure::Unanswered) };
                }
            }
        }
    }

    /// Takes a frame; `false` where one before it is missing.
    fn take(&mut self, frame: Frame, lines: &mut Vec<Line>) -> bool {
        let Frame { stream, offset, data } = frame;
        let at = self.at.of(stream);
        // It may be an answer to another question, or to another follower.
        let skip = at.checked_sub(offset).and_then(|it| usize::try_from(it).ok());
        let Some(new) = skip.map(|it| data.get(it..).unwrap_or_default()) else { return false };
        *at += new.len() as u64;
        self.place += new.len() as u64;
        if !new.is_empty() {
            let event = Event::Out { stream, data: Bytes(new.to_vec()) };
            lines.push(Line { cursor: self.place, event });
        }
        true
    }

    /// Whether fewer bytes came than this answer was to have, to a question from `before` on.
    fn missed(&self, stands: &Stands, before: Sizes) -> bool {
        let wanted = stands.sizes.beyond(before).at_most(u64::from(self.frames) * FRAME);
        !self.at.beyond(before).reach(wanted)
    }

    /// Counts an answer that has promised bytes and brought none: a guest that never sends them is not asked without end.
    fn count(&mut self, before: Sizes) -> Result<(), Failure> {
        let is_empty = self.is_behind && !self.is_over && self.at == before;
        self.empty = if is_empty { self.empty + 1 } else { 0 };
        if self.empty < EMPTY { Ok(()) } else { Err(Failure::Unanswered) }
    }

    /// Asks for more frames next time, or for fewer.
    fn pace(&mut self, is_lossy: bool) {
        if self.frames == 0 {
            return;
        }
        self.frames = if is_lossy { (self.frames / 2).max(1) } else { (self.frames + 1).min(FRAMES.1) };
        self.is_behind = is_lossy;
    }

    /// Tells the start and the end, as far as they are new.
    fn stand(&mut self, stands: &Stands, lines: &mut Vec<Line>) {
        if !self.is_started && stands.pid > 0 {
            self.is_started = true;
            let before = lines.first().map_or(self.place, |it| it.cursor - it.bytes() as u64);
            lines.insert(0, Line { cursor: before, event: Event::Started { pid: stands.pid } });
        }
        match &stands.end {
            Some(End::Exit(exit)) => {
                self.is_behind = true;
                if self.at.reach(exit.sizes) {
                    self.end(exit, lines);
                }
            }
            Some(End::Lost) if self.at.reach(stands.sizes) => {
                self.is_over = true;
                lines.push(Line { cursor: self.place, event: Event::Lost });
            }
            Some(End::Lost) => self.is_behind = true,
            None => self.is_behind |= !self.at.reach(stands.sizes),
        }
        (self.quiet, self.wait) = match lines.is_empty() {
            true => (self.quiet + 1, (self.wait * 2).min(WAIT.1)),
            false => (0, WAIT.0),
        };
        if self.quiet >= QUIET {
            self.quiet = 0;
            lines.push(Line { cursor: self.place, event: Event::Alive });
        }
    }

    fn end(&mut self, exit: &line::Exit, lines: &mut Vec<Line>) {
        self.is_over = true;
        // A place behind the output is behind what was dropped.
        let is_told = !exit.sizes.reach(self.at);
        for bytes in exit.dropped.into_iter().filter(|it| *it > 0 && !is_told) {
            self.place = self.place.saturating_add(bytes);
            lines.push(Line { cursor: self.place, event: Event::Gap { bytes } });
        }
        lines.push(Line { cursor: self.place, event: Event::Exit(told(exit)) });
    }
}

/// How a process ended, as the protocol tells it.
pub(super) fn told(exit: &line::Exit) -> Exit {
    let error = match exit.why.as_deref() {
        Some("user") => Some("there is no such user".to_owned()),
        Some("cwd") => Some("the working directory is not there, or the user may not enter it".to_owned()),
        Some("full") => Some("there was no space left for the output in the sandbox: it is cut".to_owned()),
        _ => None,
    };
    let timed_out = exit.why.as_deref() == Some("timeout");
    Exit { exit_code: exit.code, signal: None, timed_out, oom_killed: false, error }
}
