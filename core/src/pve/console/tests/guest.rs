//! What is in the terminal: a shell, the reader that replaces it, or the hub, as far as their clients notice.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use sha2::{Digest, Sha256};

use super::{
    super::{hub::version, line::sum},
    bus::Faults,
};

/// Time that the hub takes for a request that changes something, and for a question.
const CHANGE: Duration = Duration::from_millis(25);
const QUESTION: Duration = Duration::from_millis(10);
/// Time after which a process has a number, and after which it has ended.
const BEGUN: Duration = Duration::from_millis(30);
const ENDED: Duration = Duration::from_millis(45);

/// What a guest has told, and when it has something to do again.
#[derive(Default)]
pub(super) struct Told {
    pub(super) shown: Vec<Vec<u8>>,
    pub(super) again: Vec<Duration>,
}

pub(super) struct Guest {
    within: Within,
    line: Vec<u8>,
    /// Requests that wait, and until when the hub works on the first one.
    waiting: VecDeque<String>,
    busy: Option<Duration>,
    processes: BTreeMap<String, Process>,
    questions: Vec<Question>,
    faults: Faults,
    /// Lines that were whole, and that were not.
    pub(super) whole: usize,
    pub(super) broken: usize,
    /// Requests that were served before.
    pub(super) again: usize,
}

enum Within {
    Shell,
    /// A reader of this name, which wants a script of this digest.
    Reader(String, String),
    Hub,
}

#[derive(Default)]
struct Process {
    script: Vec<u8>,
    pieces: Vec<String>,
    begun: Option<Duration>,
}

struct Question {
    process: String,
    follower: String,
    number: String,
    from: usize,
    frames: usize,
    until: Duration,
}

impl Guest {
    pub(super) fn new(faults: Faults) -> Self {
        Self {
            within: if faults.is_shell { Within::Shell } else { Within::Hub },
            line: Vec::new(),
            waiting: VecDeque::new(),
            busy: None,
            processes: BTreeMap::new(),
            questions: Vec::new(),
            faults,
            whole: 0,
            broken: 0,
            again: 0,
        }
    }

    /// Whether nothing has replaced the shell.
    pub(super) fn is_shell(&self) -> bool {
        matches!(self.within, Within::Shell)
    }

    /// The scripts that were run.
    pub(super) fn ran(&self) -> Vec<&[u8]> {
        self.processes.values().filter(|it| it.begun.is_some()).map(|it| &*it.script).collect()
    }

    /// A packet comes.
    pub(super) fn typed(&mut self, packet: &[u8], now: Duration) -> Told {
        let mut told = Told::default();
        if matches!(self.within, Within::Shell) {
            told.shown.push(packet.to_vec());
        }
        for byte in packet {
            if *byte != b'\n' {
                self.line.push(*byte);
                continue;
            }
            let line = String::from_utf8(std::mem::take(&mut self.line)).expect("text");
            if matches!(self.within, Within::Hub) {
                self.waiting.push_back(line);
            } else {
                told.shown.extend(self.read(&line));
            }
        }
        if self.busy.is_none() {
            self.serve(now, &mut told);
        }
        told
    }

    /// Something is to be done now.
    pub(super) fn turn(&mut self, now: Duration) -> Told {
        let mut told = Told::default();
        if self.busy.is_some_and(|it| it <= now) {
            self.busy = None;
            if let Some(line) = self.waiting.pop_front() {
                told.shown.extend(self.reply(&line, now, &mut told.again));
            }
            self.serve(now, &mut told);
        }
        let (due, waiting) = std::mem::take(&mut self.questions)
            .into_iter()
            .partition(|it| it.until <= now || self.has_more(it, now));
        self.questions = waiting;
        told.shown.extend(Vec::into_iter(due).flat_map(|it: Question| self.answer(&it, now)));
        told
    }

    /// Begins with the next request.
    fn serve(&mut self, now: Duration, told: &mut Told) {
        let Some(line) = self.waiting.front() else { return };
        let takes = match line.split(' ').nth(1) {
            Some("put" | "run") => CHANGE,
            _ => QUESTION,
        };
        self.busy = Some(now + takes);
        told.again.push(now + takes);
    }

    /// What a shell, or a reader, does with a line.
    fn read(&mut self, line: &str) -> Option<Vec<u8>> {
        match &self.within {
            Within::Shell => {
                if let Some(proof) = line.strip_prefix(" sh -c 'printf \"\\137%s\\n\" ") {
                    let (user, address) = self.faults.stands_in.unwrap_or((0, "bc:24:11:aa:00:01"));
                    let name = proof.strip_suffix("$(id -u) $(cat /sys/class/net/*/address)'")?;
                    let told = format!("_{name}{user}\r\n_{address}\r\n_00:00:00:00:00:00\r\n");
                    return (name.len() == 6).then(|| told.into_bytes());
                }
                let (_, name) = line.strip_prefix(" exec sh -c ")?.split_once("\\137")?;
                let (name, (_, digest)) = (name.get(..6)?.to_owned(), line.split_once("\" = \"")?);
                let shown = format!("_{name} ").into_bytes();
                self.within = Within::Reader(name, digest.get(..64)?.to_owned());
                Some(shown)
            }
            Within::Reader(name, _) if line.starts_with('#') => Some(format!("_{name} ").into_bytes()),
            Within::Reader(name, digest) => {
                let script = line.strip_prefix(&**name)?;
                if hex::encode(Sha256::digest(script)) != *digest {
                    self.broken += 1;
                    return None;
                }
                self.within = Within::Hub;
                let ready = said(&format!("- ready {} {}", version(), boot()));
                let lacks = if self.faults.lacks { said("- lacks fold") } else { Vec::new() };
                Some([lacks, ready].concat())
            }
            Within::Hub => None,
        }
    }

    /// What the hub says to a request.
    fn reply(&mut self, line: &str, now: Duration, again: &mut Vec<Duration>) -> Option<Vec<u8>> {
        let is_summed =
            line.rsplit_once(' ').is_some_and(|(it, sum)| self::sum(format!("{it}\n").as_bytes()) == sum);
        let is_doubled =
            line.strip_prefix('#').and_then(|it| it.split_once(" . ")).is_some_and(|(a, b)| a == b);
        if !is_summed && !is_doubled {
            self.broken += usize::from(!line.is_empty());
            return None;
        }
        self.whole += 1;
        let words: Vec<_> = line.strip_prefix('#')?.split(' ').collect();
        match words[..] {
            [name, "hi", ..] => Some(said(&format!("{name} hi {} {}", version(), boot()))),
            [name, "put", ..] if self.faults.is_full => Some(said(&format!("{name} full"))),
            [_, "put", ..] if self.faults.lost_puts > 0 => {
                self.faults.lost_puts -= 1;
                None
            }
            [name, "put", file, number, piece, _] => {
                let process = self.processes.entry(name.to_owned()).or_default();
                if process.pieces.iter().any(|it| it == number) {
                    self.again += 1;
                } else if process.begun.is_none() {
                    process.pieces.push(number.to_owned());
                    process.script.extend(STANDARD.decode(piece).expect("base64"));
                }
                Some(said(&format!("{name} put {file} {number}")))
            }
            [name, "run", ..] => {
                let process = self.processes.entry(name.to_owned()).or_default();
                let is_new = process.begun.is_none();
                self.again += usize::from(!is_new);
                if is_new {
                    process.begun = Some(now);
                    again.extend([now + BEGUN, now + self.lasts()]);
                }
                Some(said(&format!("{name} run {}", if is_new { "new" } else { "old" })))
            }
            [name, "turn", requests, ..] => Some(said(&format!("{name} turn {requests}"))),
            [name, "p", follower, number, from, frames, _, _, ms, ..] => {
                let until = now + Duration::from_millis(ms.parse().expect("a number"));
                let (from, frames) = (from.parse().expect("a number"), frames.parse().expect("a number"));
                let (process, follower) = (name.to_owned(), follower.to_owned());
                self.questions.retain(|it| (&it.process, &it.follower) != (&process, &follower));
                let number = number.to_owned();
                self.questions.push(Question { process, follower, number, from, frames, until });
                again.push(until);
                None
            }
            _ => None,
        }
    }

    fn lasts(&self) -> Duration {
        self.faults.lasts.unwrap_or(ENDED)
    }

    fn has_more(&self, question: &Question, now: Duration) -> bool {
        let begun = self.processes.get(&question.process).and_then(|it| it.begun);
        let wanted = if question.frames == 0 { BEGUN } else { self.lasts() };
        begun.is_none_or(|it| now >= it + wanted)
    }

    /// Output, which is the script, and how the process stands.
    fn answer(&self, question: &Question, now: Duration) -> Vec<Vec<u8>> {
        let Question { process: id, number, from, frames, .. } = question;
        let Some((begun, script)) = self.processes.get(id).and_then(|it| Some((it.begun?, &it.script)))
        else {
            return vec![said(&format!("{id} none"))];
        };
        let age = now - begun;
        let (pid, is_over) = (if age >= BEGUN { 7 } else { 0 }, age >= self.lasts());
        let there = if is_over { script.len() } else { 0 };
        if self.faults.promises {
            return vec![said(&format!("{id} s {number} {pid} 0 0 0 4 0 - 0 0"))];
        }
        let end = if is_over { format!("0 {there} 0 - 0 0") } else { "+".to_owned() };
        let rest = script.get(*from..there).unwrap_or_default();
        let mut at = *from;
        let mut lines = Vec::new();
        for frame in rest.chunks(3000).take(*frames) {
            let (length, data) = (frame.len(), STANDARD.encode(frame));
            lines.push(format!("@{id} o {at} {length} {data} {id}.o.{at}.{length}\r\n").into_bytes());
            at += length;
        }
        lines.push(said(&format!("{id} s {number} {pid} {there} 0 {end}")));
        lines
    }
}

fn boot() -> String {
    "01".repeat(16)
}

fn said(text: &str) -> Vec<u8> {
    format!("@{text} . {text}\r\n").into_bytes()
}
