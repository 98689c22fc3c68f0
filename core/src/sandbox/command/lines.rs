//! The splitter of a command's output into lines, from bytes as they come.

use serde_json::Value;

/// Length of a line from which on it is left out: a command decides how long its lines are, and all requests of a Worker
/// share 128 MB.
const LONGEST: usize = 8 << 20;

/// Line of a command's output, or its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// Line of the output, with its newline.
    Stdout(String),
    /// Line of the output of errors, with its newline.
    Stderr(String),
    /// Message of the daemon itself.
    Error(String),
    /// Place of a line that was too long, and is left out.
    TooLong,
    /// Exit code of the command; no line comes after it.
    Exit(i32),
}

/// Splitter of bytes into lines; a line and a character may span any number of chunks.
#[derive(Debug)]
pub struct Lines<T = Line> {
    parse: fn(&[u8]) -> Option<T>,
    too_long: fn() -> T,
    partial: Vec<u8>,
    is_too_long: bool,
}

impl Default for Lines {
    fn default() -> Self {
        Self::with_parser(parse_daemon_line)
    }
}

impl Lines {
    /// A splitter for lines that another parser than the daemon's reads.
    pub(crate) fn with_parser(parse: fn(&[u8]) -> Option<Line>) -> Self {
        Self::new(parse, || Line::TooLong)
    }
}

impl<T> Lines<T> {
    /// A splitter for lines that `parse` reads; `too_long` stands for one that is left out.
    pub(crate) fn new(parse: fn(&[u8]) -> Option<T>, too_long: fn() -> T) -> Self {
        Self { parse, too_long, partial: Vec::new(), is_too_long: false }
    }

    /// Takes bytes, and returns the lines that they complete. Kinds of lines that a newer daemon adds are left out.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<T> {
        let mut found = Vec::new();
        let mut rest = bytes;
        while let Some(at) = rest.iter().position(|it| *it == b'\n') {
            let (head, tail) = rest.split_at(at);
            self.keep(head);
            found.extend(if self.is_too_long {
                Some((self.too_long)())
            } else {
                (self.parse)(&self.partial)
            });
            self.partial.clear();
            self.is_too_long = false;
            rest = tail.get(1..).unwrap_or_default();
        }
        self.keep(rest);
        found
    }

    /// Whether the beginning of a line has come, and not its end.
    pub(crate) fn is_within(&self) -> bool {
        self.is_too_long || !self.partial.is_empty()
    }

    /// Keeps bytes of a line that is not complete.
    fn keep(&mut self, bytes: &[u8]) {
        self.is_too_long |= self.partial.len() + bytes.len() > LONGEST;
        if self.is_too_long {
            self.partial = Vec::new();
        } else {
            self.partial.extend_from_slice(bytes);
        }
    }
}

/// Parses a line of the daemon, which is a JSON object.
fn parse_daemon_line(line: &[u8]) -> Option<Line> {
    let mut line: Value = serde_json::from_slice(line).ok()?;
    let kind = line.get("type")?.as_str()?.to_owned();
    let mut text = |name| match line.get_mut(name).map(Value::take) {
        None => Some(String::new()),
        Some(Value::String(text)) => Some(text),
        Some(_) => None,
    };
    // The daemon sends lines without their end.
    match kind.as_str() {
        "stdout" => Some(Line::Stdout(text("data")? + "\n")),
        "stderr" => Some(Line::Stderr(text("data")? + "\n")),
        "error" => Some(Line::Error(text("message")?)),
        "exit" => Some(Line::Exit(line.get("code").map_or(Some(0), |it| it.as_i64()?.try_into().ok())?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn blank_lines_unknown_kinds_and_a_cut_line() {
        let mut lines = Lines::default();
        let text = "{\"type\":\"stdout\",\"data\":\"\"}\r\n\n{\"type\":\"pid\",\"pid\":7}\n{\"type\":\"exit\",\"code\":3}\n{\"ty";
        assert_eq!(lines.push(text.as_bytes()), [Line::Stdout("\n".into()), Line::Exit(3)]);
    }

    #[test]
    fn a_line_of_three_megabytes() {
        let long = "ä".repeat(1_500_000);
        let text = format!("{}\n", serde_json::json!({"type": "stderr", "data": long}));
        let mut lines = Lines::default();
        let found: Vec<Line> = text.as_bytes().chunks(16_384).flat_map(|it| lines.push(it)).collect();
        assert_eq!(found, [Line::Stderr(long + "\n")]);
    }

    #[test]
    fn a_line_without_end_is_left_out_and_not_kept() {
        let mut lines = Lines::default();
        let chunk = vec![b'x'; 1 << 20];
        for _ in 0..64 {
            assert_eq!(lines.push(&chunk), []);
            assert!(lines.partial.capacity() <= 2 * LONGEST);
        }
        let found = lines.push(b"\n{\"type\":\"exit\",\"code\":0}\n");
        assert_eq!(found, [Line::TooLong, Line::Exit(0)]);
    }

    proptest! {
        #[test]
        fn chunks_do_not_matter(data in prop::collection::vec("[^\n]{0,12}", 0..20), size in 1_usize..9) {
            let text: String = data.iter()
                .map(|it| format!("{}\n", serde_json::json!({"type": "stdout", "data": it}))).collect();
            let mut lines = Lines::default();
            let found: Vec<Line> = text.as_bytes().chunks(size).flat_map(|it| lines.push(it)).collect();
            let wanted: Vec<Line> = data.iter().map(|it| Line::Stdout(format!("{it}\n"))).collect();
            prop_assert_eq!(found, wanted);
        }
    }
}
