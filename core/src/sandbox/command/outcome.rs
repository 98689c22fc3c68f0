//! The outcome of a command: all of its output, and how it ended.

use base64::{Engine, engine::general_purpose::STANDARD};
use futures_util::{Stream, StreamExt};
use pve_edge_guest_protocol::Unique;
use serde::Serialize;

use super::cut;
use crate::{
    error::Error,
    io::Platform,
    sandbox::process::{
        Cursor, Event, Exit,
        event::{Data, Told, Written},
    },
};

/// Outcome of a command that has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// Exit code; of a command that a signal has ended, 128 and its number. 127: there is no such program; 126: it could not be started for another reason. 124: it took
    /// too long, where the sandbox has no pve-edge-guest.
    pub exit_code: i32,
    /// Name of the signal that has ended it, without `SIG`, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "contract", schemars(with = "String"))]
    pub signal: Option<String>,
    /// Output of the command, as `encoding` says; by cmux-execd, whole lines.
    pub stdout: String,
    /// Output of errors, as `encoding` says; by cmux-execd, whole lines.
    pub stderr: String,
    /// Whether the command was ended because its time was over.
    pub timed_out: bool,
    /// Whether something of it was killed for want of memory.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[cfg_attr(feature = "contract", schemars(extend("const" = true)))]
    pub oom_killed: bool,
    /// Message of the exec daemon, that the command's time was over, or why it could not be started.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "contract", schemars(with = "String"))]
    pub error: Option<String>,
    /// Whether output was left out, because there was more than the platform lets through, or than the sandbox keeps;
    /// streamed output is complete.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[cfg_attr(feature = "contract", schemars(extend("const" = true)))]
    pub truncated: bool,
    /// Whether U+FFFD stands for bytes that are no UTF-8.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[cfg_attr(feature = "contract", schemars(extend("const" = true)))]
    pub lossy: bool,
    /// Name of the process, by which what it has left in the background can be followed; needs pve-edge-guest.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "contract", schemars(with = "crate::sandbox::process::ProcessId"))]
    pub process: Option<Unique>,
    /// Place behind its output; needs pve-edge-guest.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "contract", schemars(with = "Cursor"))]
    pub cursor: Option<Cursor>,
}

impl Outcome {
    /// Collects the events of a command; of each stream is kept what has room. Events without an end are no outcome.
    pub(crate) async fn collect(
        mut events: impl Stream<Item = Result<Vec<Event>, Error>> + Unpin,
        room: OutputRoom,
    ) -> Result<Self, Error> {
        let mut outcome = Self::default();
        let (mut stdout, mut stderr) = (Kept::new(room), Kept::new(room));
        while let Some(piece) = events.next().await {
            for Event { told, cursor, .. } in piece? {
                outcome.cursor = cursor;
                match told {
                    Told::Started(started) => outcome.process = Some(started.process),
                    Told::Stdout(written) => outcome.keep(&mut stdout, &written),
                    Told::Stderr(written) => outcome.keep(&mut stderr, &written),
                    Told::Gap(_) | Told::TooLong => outcome.truncated = true,
                    Told::Message(it) => {
                        outcome.timed_out |= it.message.starts_with("timeout");
                        outcome.error = Some(it.message);
                    }
                    Told::Exit(exit) => {
                        (outcome.stdout, outcome.stderr) = (stdout.text(), stderr.text());
                        return Ok(outcome.ended(exit));
                    }
                }
            }
        }
        Err(cut())
    }

    fn keep(&mut self, kept: &mut Kept, written: &Written) {
        self.lossy |= written.lossy;
        self.truncated |= !kept.push(&written.data);
    }

    fn ended(self, exit: Exit) -> Self {
        let Exit { exit_code, signal, timed_out, oom_killed, error } = exit;
        let timed_out = self.timed_out || timed_out;
        Self { exit_code, signal, timed_out, oom_killed, error: self.error.or(error), ..self }
    }
}

/// Room for one stream of output in a JSON answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OutputRoom {
    bytes: usize,
    /// Whether the answer is a string in the platform's own JSON, as one of Lambda is that does not stream.
    is_in_json: bool,
}

impl OutputRoom {
    /// Room for so many bytes.
    pub(crate) fn new(bytes: usize) -> Self {
        Self { bytes, is_in_json: false }
    }

    /// The room on a platform.
    pub(crate) fn of(platform: &Platform) -> Self {
        Self { bytes: platform.answer_bytes, is_in_json: !platform.streams }
    }

    /// Bytes that a character takes.
    fn taken_by(self, it: char) -> usize {
        match it {
            _ if !self.is_in_json => it.len_utf8(),
            '"' | '\\' => 4,
            '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 3,
            '\0'..='\u{1f}' => 7,
            _ => it.len_utf8(),
        }
    }
}

/// Output of one stream, as far as it is kept.
struct Kept {
    bytes: Vec<u8>,
    room: OutputRoom,
    /// Bytes that are left of the room for text.
    left: usize,
    is_text: bool,
}

impl Kept {
    fn new(room: OutputRoom) -> Self {
        Self { bytes: Vec::new(), room, left: room.bytes, is_text: true }
    }

    /// Appends what fits; text at a character's boundary. Tells whether all did.
    fn push(&mut self, data: &Data) -> bool {
        let (bytes, end) = match data {
            Data::Text(text) => (text.as_bytes(), self.fitting(text)),
            Data::Bytes(bytes) => {
                self.is_text = false;
                // Base64 makes four characters of three bytes.
                (bytes.as_slice(), (self.room.bytes / 4 * 3).saturating_sub(self.bytes.len()))
            }
        };
        let kept = bytes.get(..end).unwrap_or(bytes);
        self.bytes.extend_from_slice(kept);
        kept.len() == bytes.len()
    }

    /// Takes room for a text, and tells how many bytes of it have it.
    fn fitting(&mut self, text: &str) -> usize {
        for (at, it) in text.char_indices() {
            let Some(left) = self.left.checked_sub(self.room.taken_by(it)) else {
                // What comes behind it is left out too.
                self.left = 0;
                return at;
            };
            self.left = left;
        }
        text.len()
    }

    fn text(self) -> String {
        match self.is_text {
            true => String::from_utf8(self.bytes).unwrap_or_default(),
            false => STANDARD.encode(self.bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(room: OutputRoom, text: &str, times: usize) -> (String, bool) {
        let mut kept = Kept::new(room);
        let pushed: Vec<_> = (0..times).map(|_| kept.push(&Data::Text(text.into()))).collect();
        (kept.text(), !pushed.contains(&false))
    }

    /// A buffered answer of Lambda is a string in JSON, and its body is JSON already.
    #[test]
    fn what_is_kept_fits_into_an_answer_that_is_escaped_twice() {
        let room = OutputRoom { bytes: 1000, is_in_json: true };
        for text in ["\"a\",\n", "\u{1b}[0m", "\0", "plain\n", "\\\t\u{8}\r", "\u{e4}\u{7f}\u{2028}"] {
            let (kept, all) = kept(room, text, 500);
            let body = serde_json::to_string(&kept).unwrap();
            let sent = serde_json::to_string(&body).unwrap().len();
            // The quotes of both.
            assert!((980..=1000 + 6).contains(&sent) && !all, "{text:?}: {sent}");
        }
        assert_eq!(kept(OutputRoom::new(10), "\n\"", 20), ("\n\"".repeat(5), false));
        assert_eq!(kept(OutputRoom::new(40), "\n\"", 20), ("\n\"".repeat(20), true));
    }
}
