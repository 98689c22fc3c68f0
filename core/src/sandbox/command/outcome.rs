//! The outcome of a command: all of its output, and how it ended.

use base64::{Engine, engine::general_purpose::STANDARD};
use futures_util::{Stream, StreamExt};
use pve_edge_guest_protocol::Unique;
use serde::Serialize;

use super::cut;
use crate::{
    error::Error,
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
    /// Collects the events of a command; of each stream at most `cap` bytes are kept. Events without an end are no
    /// outcome.
    pub(crate) async fn collect(
        mut events: impl Stream<Item = Result<Vec<Event>, Error>> + Unpin,
        cap: usize,
    ) -> Result<Self, Error> {
        let mut outcome = Self::default();
        let (mut stdout, mut stderr) = (Kept::new(cap), Kept::new(cap));
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

/// Output of one stream, as far as it is kept.
struct Kept {
    bytes: Vec<u8>,
    cap: usize,
    is_text: bool,
}

impl Kept {
    fn new(cap: usize) -> Self {
        Self { bytes: Vec::new(), cap, is_text: true }
    }

    /// Appends what fits; text at a character's boundary. Tells whether all did.
    fn push(&mut self, data: &Data) -> bool {
        let (bytes, end) = match data {
            Data::Text(text) => (text.as_bytes(), text.floor_char_boundary(self.cap - self.bytes.len())),
            Data::Bytes(bytes) => {
                self.is_text = false;
                // Base64 makes four characters of three bytes.
                (bytes.as_slice(), (self.cap / 4 * 3).saturating_sub(self.bytes.len()))
            }
        };
        let kept = bytes.get(..end).unwrap_or(bytes);
        self.bytes.extend_from_slice(kept);
        kept.len() == bytes.len()
    }

    fn text(self) -> String {
        match self.is_text {
            true => String::from_utf8(self.bytes).unwrap_or_default(),
            false => STANDARD.encode(self.bytes),
        }
    }
}
