//! The decoder of what the daemon tells of a process that is followed.

use pve_edge_guest_protocol::{
    Unique,
    process::{self, Line, Stream},
};

use super::{
    After, Cursor, Encoding, Place,
    event::{Data, Event, Exit, Gap, Started, Told},
};
use crate::{
    sandbox::command::Lines,
    text::utf8::{decode, replaced},
};

/// Line of the daemon, or that something else came in its place.
pub(crate) type Heard = Result<Line, Foreign>;

/// Error of an answer that the daemon would not give: the guest's owner, or somebody in its place, has made it up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Foreign;

/// End of a process, as it was heard.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum End {
    /// It has ended.
    Exit(Exit),
    /// Its keeper is gone: it is not known how it ended.
    Lost,
}

/// Decoder of one process's output, from some place on.
#[derive(Clone, Debug)]
pub(crate) struct Decoder {
    process: Unique,
    encoding: Encoding,
    /// Behind the last event; `None` until the daemon has told where the output's end is.
    cursor: Option<Cursor>,
    /// Whether its start is not told any more: the daemon says it first, wherever a client begins.
    was_started: bool,
}

impl Decoder {
    pub(crate) fn new(process: Unique, encoding: Encoding, after: &After) -> Self {
        let cursor = match after {
            After::Start => Some(Cursor::default()),
            After::End => None,
            After::Cursor(cursor) => Some(cursor.clone()),
        };
        Self { process, encoding, cursor, was_started: *after != After::Start }
    }

    /// Splitter of the daemon's answer into lines.
    pub(crate) fn lines() -> Lines<Heard> {
        Lines::new(parse, || Err(Foreign))
    }

    /// Where the daemon is to go on.
    pub(crate) fn after(&self) -> process::After {
        self.cursor.as_ref().map_or(process::After::End, |it| process::After::Cursor(it.place().all))
    }

    /// The place where it is; `None` for the end of what has come.
    pub(crate) fn place(&self) -> Option<Place> {
        self.cursor.as_ref().map(Cursor::place)
    }

    /// Place behind the last event.
    pub(crate) fn cursor(&self) -> Cursor {
        self.cursor.clone().unwrap_or_default()
    }

    /// Takes a line, and adds the events that it makes. Returns the end, if the line tells it.
    pub(crate) fn take(&mut self, line: Line, events: &mut Vec<Event>) -> Result<Option<End>, Foreign> {
        let bytes = match &line.event {
            process::Event::Out { data, .. } => data.0.len() as u64,
            process::Event::Gap { bytes } => *bytes,
            _ => 0,
        };
        let before = line.cursor.checked_sub(bytes).ok_or(Foreign)?;
        let cursor = self.cursor.get_or_insert_with(|| Cursor::at(Place { all: before, stderr: 0 }));
        if bytes > 0 && cursor.place().all != before {
            return Err(Foreign);
        }
        match line.event {
            process::Event::Started { pid } if !self.was_started => {
                self.was_started = true;
                events.push(Event::at(Told::Started(Started { process: self.process, pid }), cursor));
            }
            process::Event::Out { stream, data } => events.extend(out(cursor, self.encoding, stream, data.0)),
            process::Event::Gap { bytes } => {
                flush(cursor, self.encoding, events);
                cursor.pass(None, bytes);
                events.push(Event::at(Told::Gap(Gap { bytes }), cursor));
            }
            process::Event::Started { .. } | process::Event::Alive => {}
            process::Event::Exit(exit) => {
                flush(cursor, self.encoding, events);
                let exit = Exit::from(exit);
                events.push(Event::at(Told::Exit(exit.clone()), cursor));
                return Ok(Some(End::Exit(exit)));
            }
            process::Event::Lost => {
                flush(cursor, self.encoding, events);
                return Ok(Some(End::Lost));
            }
        }
        Ok(None)
    }
}

/// The event of some output: none while all of it is the beginning of a character.
fn out(cursor: &mut Cursor, encoding: Encoding, stream: Stream, data: Vec<u8>) -> Option<Event> {
    cursor.pass(Some(stream), data.len() as u64);
    let begun = cursor.begun(stream);
    let bytes = if begun.is_empty() { data } else { [std::mem::take(begun), data].concat() };
    let (data, lossy) = match encoding {
        Encoding::Base64 if bytes.is_empty() => return None,
        Encoding::Base64 => (Data::Bytes(bytes), false),
        Encoding::Text => {
            let decoded = decode(&bytes);
            *begun = decoded.rest.to_vec();
            if decoded.text.is_empty() {
                return None;
            }
            (Data::Text(decoded.text), decoded.is_lossy)
        }
    };
    Some(Event::at(Told::written(stream, data, lossy), cursor))
}

/// Tells the begun characters, which nothing will complete.
fn flush(cursor: &mut Cursor, encoding: Encoding, events: &mut Vec<Event>) {
    for stream in [Stream::Stdout, Stream::Stderr] {
        let begun = std::mem::take(cursor.begun(stream));
        let (data, lossy) = match encoding {
            _ if begun.is_empty() => continue,
            Encoding::Text => (Data::Text(replaced(&begun)), true),
            Encoding::Base64 => (Data::Bytes(begun), false),
        };
        events.push(Event::at(Told::written(stream, data, lossy), cursor));
    }
}

/// Parses a line of the daemon. Blank lines, and events that a newer daemon adds, are left out.
fn parse(line: &[u8]) -> Option<Heard> {
    if line.iter().all(u8::is_ascii_whitespace) {
        return None;
    }
    match serde_json::from_slice::<Line>(line) {
        Ok(line) => Some(Ok(line)),
        Err(_) => {
            const KNOWN: [&str; 6] = ["started", "out", "gap", "alive", "exit", "lost"];
            let value: Option<serde_json::Value> = serde_json::from_slice(line).ok();
            let event = value.as_ref().and_then(|it| it.get("event")?.as_str());
            if event.is_some_and(|it| !KNOWN.contains(&it)) { None } else { Some(Err(Foreign)) }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use pve_edge_guest_protocol::process::Bytes;

    use super::*;

    const PROCESS: Unique = Unique([7; 16]);

    /// A daemon's lines for this output, in pieces of this size.
    fn lines(output: &[(Stream, Vec<u8>)], from: u64, size: usize) -> Vec<Line> {
        let (mut place, mut lines) = (0, Vec::new());
        for (stream, data) in output {
            for piece in data.chunks(size) {
                let end = place + piece.len() as u64;
                let skip = usize::try_from(from.saturating_sub(place)).unwrap().min(piece.len());
                place = end;
                let data = Bytes(piece[skip..].to_vec());
                if !data.0.is_empty() {
                    lines.push(Line { cursor: end, event: process::Event::Out { stream: *stream, data } });
                }
            }
        }
        lines.push(Line { cursor: place, event: process::Event::Exit(process::Exit::default()) });
        lines
    }

    fn told(decoder: &mut Decoder, lines: &[Line]) -> Vec<Event> {
        let mut events = Vec::new();
        for line in lines {
            decoder.take(line.clone(), &mut events).unwrap();
        }
        events
    }

    /// All that was told of both streams.
    fn joined(events: &[Event]) -> [Vec<u8>; 2] {
        let mut all = [Vec::new(), Vec::new()];
        for event in events {
            let (at, written) = match &event.told {
                Told::Stdout(written) => (0, written),
                Told::Stderr(written) => (1, written),
                _ => continue,
            };
            match &written.data {
                Data::Text(text) => all[at].extend(text.as_bytes()),
                Data::Bytes(bytes) => all[at].extend(bytes),
            }
        }
        all
    }

    fn output() -> impl Strategy<Value = Vec<(Stream, Vec<u8>)>> {
        let stream = prop_oneof![Just(Stream::Stdout), Just(Stream::Stderr)];
        let piece = prop_oneof![
            any::<u8>().prop_map(|it| vec![it]),
            "\\PC{1,3}".prop_map(String::into_bytes),
            Just(vec![0xf0, 0x9f]),
        ];
        prop::collection::vec((stream, piece), 0..16)
    }

    proptest! {
        /// A client may be cut behind any event, in any encoding, and goes on by its cursor: it has the same as one
        /// that was never cut.
        #[test]
        fn an_output_that_is_resumed_is_the_same(output in output(), size in 1_usize..4, cut in any::<prop::sample::Index>()) {
            for encoding in [Encoding::Text, Encoding::Base64] {
                let whole = told(&mut Decoder::new(PROCESS, encoding, &After::Start), &lines(&output, 0, size));
                let mut before: Vec<Event> = whole.clone();
                before.truncate(cut.index(whole.len()));
                let text = before.last().and_then(|it| it.cursor.as_ref()).map_or("start".into(), Cursor::to_string);
                let after = text.parse::<After>().unwrap();
                let mut decoder = Decoder::new(PROCESS, encoding, &after);
                let from = match decoder.after() { process::After::Cursor(place) => place, other => panic!("{other:?}") };
                before.extend(told(&mut decoder, &lines(&output, from, size)));
                prop_assert_eq!(joined(&before), joined(&whole));
                if encoding == Encoding::Base64 {
                    let bytes = |stream| output.iter().filter(|it| it.0 == stream).flat_map(|it| it.1.clone()).collect::<Vec<_>>();
                    prop_assert_eq!(joined(&whole), [bytes(Stream::Stdout), bytes(Stream::Stderr)]);
                }
            }
        }

        /// Whatever a guest answers: an event is made of what it says, or it is foreign.
        #[test]
        fn anything_may_be_answered(text in prop_oneof![
            "\\PC{0,60}",
            "\\{\"cursor\":[0-9]{1,20},\"event\":\"(out|gap|exit|started|lost|alive|new)\"(,\"(bytes|pid|exitCode)\":-?[0-9]{1,20})?(,\"stream\":\"(stdout|both)\",\"data\":\"[A-Za-z=]{0,8}\")?\\}"
        ], place in any::<u64>()) {
            let mut lines = Decoder::lines();
            let mut decoder = Decoder::new(PROCESS, Encoding::Text, &After::Cursor(Cursor::at(Place { all: place, stderr: 0 })));
            let mut events = Vec::new();
            for heard in lines.push(format!("{text}\n").as_bytes()).into_iter().flatten() {
                let _ = decoder.take(heard, &mut events);
            }
            for event in events {
                prop_assert!(serde_json::to_string(&event).is_ok());
                let cursor = event.cursor.unwrap();
                prop_assert_eq!(cursor.to_string().parse::<Cursor>(), Ok(cursor));
            }
        }
    }

    #[test]
    fn a_place_that_does_not_follow_is_foreign() {
        let mut decoder = Decoder::new(PROCESS, Encoding::Text, &After::Start);
        let out = |cursor, data: &str| {
            let data = Bytes(data.into());
            Line { cursor, event: process::Event::Out { stream: Stream::Stdout, data } }
        };
        let mut events = Vec::new();
        assert_eq!(decoder.take(out(2, "ab"), &mut events), Ok(None));
        assert_eq!(decoder.take(out(2, "ab"), &mut events), Err(Foreign));
        assert_eq!(decoder.take(out(1, "ab"), &mut events), Err(Foreign));
        let gap = Line { cursor: 9, event: process::Event::Gap { bytes: 7 } };
        assert_eq!(decoder.take(gap, &mut events), Ok(None));
        assert_eq!(decoder.cursor().to_string(), "9");
        assert_eq!(events.len(), 2);
    }

    #[test]
    fn where_the_end_is_the_first_line_tells() {
        let mut decoder = Decoder::new(PROCESS, Encoding::Text, &After::End);
        assert_eq!(decoder.after(), process::After::End);
        let mut events = Vec::new();
        let alive = Line { cursor: 7, event: process::Event::Alive };
        assert_eq!(decoder.take(alive, &mut events), Ok(None));
        assert_eq!(decoder.after(), process::After::Cursor(7));
    }

    #[test]
    fn a_process_is_told_to_have_started_once() {
        let mut decoder = Decoder::new(PROCESS, Encoding::Text, &After::Start);
        let started = Line { cursor: 0, event: process::Event::Started { pid: 7 } };
        assert_eq!(told(&mut decoder, &[started.clone(), started]).len(), 1);
    }

    #[test]
    fn half_a_character_before_a_gap_or_the_end_is_told() {
        let half = |stream| process::Event::Out { stream, data: Bytes(vec![0xe2, 0x86]) };
        let lines = [
            Line { cursor: 2, event: half(Stream::Stdout) },
            Line { cursor: 5, event: process::Event::Gap { bytes: 3 } },
            Line { cursor: 7, event: half(Stream::Stderr) },
            Line { cursor: 7, event: process::Event::Exit(process::Exit::default()) },
        ];
        let events = told(&mut Decoder::new(PROCESS, Encoding::Text, &After::Start), &lines);
        let names: Vec<_> = events.iter().map(|it| it.event).collect();
        assert_eq!(names, ["stdout", "gap", "stderr", "exit"]);
        let [stdout, stderr] = joined(&events);
        assert_eq!([stdout, stderr], ["\u{fffd}\u{fffd}"; 2].map(|it| it.as_bytes().to_vec()));
    }
}
