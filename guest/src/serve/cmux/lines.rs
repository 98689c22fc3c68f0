//! Lines of cmux's protocol, made of what happens to a process.

use std::io;

use pve_edge_guest_protocol::process::{Event, Exit, Stream};
use serde_json::{Value, json};

/// Bytes after which a line is told though it has not ended.
const LONGEST_LINE: usize = 1 << 20;

/// What was told of a process so far.
#[derive(Default)]
pub(super) struct Lines {
    timeout_ms: u64,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    /// Whether the exit was told, which is the last line.
    pub(super) is_over: bool,
}

impl Lines {
    /// Nothing was told yet; `timeout_ms` is what the client has asked for.
    pub(super) fn new(timeout_ms: u64) -> Self {
        Self { timeout_ms, ..Self::default() }
    }

    /// The lines for an event, each with its end. An error ends the answer without an exit.
    pub(super) fn tell(&mut self, event: Event) -> io::Result<Vec<u8>> {
        let mut told = Vec::new();
        match event {
            Event::Started { .. } | Event::Alive => {}
            Event::Out { stream, data } => self.split(stream, &data.0, &mut told),
            Event::Gap { bytes } => {
                let message = format!("{bytes} bytes of output were dropped");
                push(&mut told, &json!({"type": "error", "message": message}));
            }
            Event::Exit(exit) => self.end(&exit, &mut told),
            Event::Lost => return Err(io::Error::other("the process is lost")),
        }
        Ok(told)
    }

    /// The lines for a process that could not be started.
    pub(super) fn fail(&mut self, why: String) -> Vec<u8> {
        let mut told = Vec::new();
        self.end(&Exit { exit_code: 127, error: Some(why), ..Exit::default() }, &mut told);
        told
    }

    fn split(&mut self, stream: Stream, data: &[u8], told: &mut Vec<u8>) {
        let (kind, rest) = match stream {
            Stream::Stdout => ("stdout", &mut self.stdout),
            Stream::Stderr => ("stderr", &mut self.stderr),
        };
        for part in data.split_inclusive(|byte| *byte == b'\n') {
            rest.extend_from_slice(part);
            if rest.ends_with(b"\n") || rest.len() >= LONGEST_LINE {
                push_line(told, kind, rest);
            }
        }
    }

    fn end(&mut self, exit: &Exit, told: &mut Vec<u8>) {
        for (kind, rest) in [("stdout", &mut self.stdout), ("stderr", &mut self.stderr)] {
            if !rest.is_empty() {
                push_line(told, kind, rest);
            }
        }
        let late = exit.timed_out.then(|| format!("timeout after {}ms", self.timeout_ms));
        if let Some(message) = late.or_else(|| exit.error.clone()) {
            push(told, &json!({"type": "error", "message": message}));
        }
        let code = if exit.timed_out { 124 } else { exit.exit_code };
        push(told, &json!({"type": "exit", "code": code}));
        self.is_over = true;
    }
}

/// Adds a line of output, without the end that it had.
fn push_line(told: &mut Vec<u8>, kind: &str, line: &mut Vec<u8>) {
    let text = line.strip_suffix(b"\n").unwrap_or(line);
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    push(told, &json!({"type": kind, "data": String::from_utf8_lossy(text)}));
    line.clear();
}

fn push(told: &mut Vec<u8>, value: &Value) {
    told.extend_from_slice(value.to_string().as_bytes());
    told.push(b'\n');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use pve_edge_guest_protocol::process::Bytes;

    use super::*;

    fn out(stream: Stream, data: &[u8]) -> Event {
        Event::Out { stream, data: Bytes(data.to_vec()) }
    }

    fn told(lines: &mut Lines, events: impl IntoIterator<Item = Event>) -> Vec<Value> {
        let told: Vec<_> = events.into_iter().flat_map(|it| lines.tell(it).unwrap()).collect();
        let told = told.split_inclusive(|byte| *byte == b'\n');
        told.map(|line| serde_json::from_slice(line).unwrap()).collect()
    }

    #[test]
    fn output_is_told_line_by_line_and_the_exit_last() {
        let mut lines = Lines::default();
        let exit = Exit { exit_code: 3, ..Exit::default() };
        let events = [
            Event::Started { pid: 1 },
            out(Stream::Stdout, b"a\n\nb"),
            out(Stream::Stderr, b"x\r\n"),
            out(Stream::Stdout, b"c"),
            Event::Alive,
            Event::Gap { bytes: 7 },
            Event::Exit(exit),
        ];
        assert_eq!(
            told(&mut lines, events),
            [
                json!({"type": "stdout", "data": "a"}),
                json!({"type": "stdout", "data": ""}),
                json!({"type": "stderr", "data": "x"}),
                json!({"type": "error", "message": "7 bytes of output were dropped"}),
                json!({"type": "stdout", "data": "bc"}),
                json!({"type": "exit", "code": 3}),
            ]
        );
        assert!(lines.is_over);
    }

    #[test]
    fn an_end_by_time_is_124_and_no_end_is_none() {
        let mut lines = Lines::new(50);
        let exit = Exit { exit_code: 137, timed_out: true, ..Exit::default() };
        let late =
            [json!({"type": "error", "message": "timeout after 50ms"}), json!({"type": "exit", "code": 124})];
        assert_eq!(told(&mut lines, [Event::Exit(exit)]), late);
        let mut lines = Lines::default();
        assert!(lines.tell(Event::Lost).is_err());
        assert!(!lines.is_over);
    }

    proptest! {
        #[test]
        fn text_is_told_whole_however_it_comes(pieces in prop::collection::vec("(a|\u{fc}|\n){0,5}", 0..8)) {
            let mut lines = Lines::default();
            let events = pieces.iter().map(|it| out(Stream::Stdout, it.as_bytes()));
            let events = events.chain([Event::Exit(Exit::default())]);
            let told = told(&mut lines, events);
            let told: Vec<_> = told.iter().filter_map(|it| it["data"].as_str()).collect();
            let all = pieces.concat();
            prop_assert_eq!(told, all.split_terminator('\n').collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_line_without_an_end_is_not_held() {
        for size in [0, LONGEST_LINE - 1, LONGEST_LINE, 3 * LONGEST_LINE] {
            let mut lines = Lines::default();
            let _ = lines.tell(out(Stream::Stderr, &vec![0xff; size])).unwrap();
            assert!(lines.stderr.len() < LONGEST_LINE, "{size}");
        }
    }
}
