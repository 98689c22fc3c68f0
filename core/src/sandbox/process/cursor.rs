//! Cursors: places in the output of a process, from which a client goes on.

use std::{fmt, str::FromStr};

use pve_edge_guest_protocol::process::Stream;
use serde::{Serialize, Serializer};

use crate::text::utf8::is_begun;

/// Place in the output of a process, behind an event that a client was told. A client sends it back as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// Bytes of output before it.
    place: Place,
    /// Bytes before it that were not told as text yet, because a character of their stream is not complete.
    begun: [Vec<u8>; 2],
}

/// Place in the output of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Bytes before it, of both streams together, and of what was dropped.
    pub all: u64,
    /// Bytes of standard error among them. pve-edge-guest does not need to know it.
    pub stderr: u64,
}

/// Place at which a client wants output to begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum After {
    /// Before the first byte.
    Start,
    /// Behind the last byte that has come.
    End,
    /// Behind an event that was told.
    Cursor(Cursor),
}

impl Cursor {
    /// Place of it.
    pub fn place(&self) -> Place {
        self.place
    }

    /// The cursor at this place, when all before it was told.
    pub fn at(place: Place) -> Self {
        Self { place, begun: Default::default() }
    }

    /// Moves it behind so many bytes more, of a stream or dropped ones.
    pub(super) fn pass(&mut self, stream: Option<Stream>, bytes: u64) {
        self.place.all = self.place.all.saturating_add(bytes);
        if stream == Some(Stream::Stderr) {
            self.place.stderr = self.place.stderr.saturating_add(bytes);
        }
    }

    /// The begun character of a stream.
    pub(super) fn begun(&mut self, stream: Stream) -> &mut Vec<u8> {
        let [stdout, stderr] = &mut self.begun;
        if stream == Stream::Stdout { stdout } else { stderr }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [stdout, stderr] = &self.begun;
        write!(f, "{}", self.place.all)?;
        if self.place.stderr > 0 {
            write!(f, ".{}", self.place.stderr)?;
        }
        if stdout.is_empty() && stderr.is_empty() {
            return Ok(());
        }
        write!(f, "-{}-{}", hex::encode(stdout), hex::encode(stderr))
    }
}

impl FromStr for Cursor {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const BAD: &str = "must be start, end, or the cursor of an event";
        let mut parts = text.splitn(3, '-');
        let place = parts.next().and_then(place).ok_or(BAD)?;
        let mut begun = || match parts.next() {
            None | Some("") => Some(Vec::new()),
            Some(digits) => {
                let mut bytes = vec![0; digits.len() / 2];
                hex::decode_to_slice(digits, &mut bytes).ok().filter(|()| is_begun(&bytes))?;
                Some(bytes)
            }
        };
        let cursor = Self { place, begun: [begun().ok_or(BAD)?, begun().ok_or(BAD)?] };
        let [stdout, stderr] = &cursor.begun;
        let is_possible = place.all >= place.stderr && place.all >= (stdout.len() + stderr.len()) as u64;
        // A cursor has one spelling.
        if is_possible && cursor.to_string() == text { Ok(cursor) } else { Err(BAD) }
    }
}

fn place(text: &str) -> Option<Place> {
    let (all, stderr) = text.split_once('.').unwrap_or((text, "0"));
    Some(Place { all: all.parse().ok()?, stderr: stderr.parse().ok()? })
}

impl FromStr for After {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "start" => Self::Start,
            "end" => Self::End,
            cursor => Self::Cursor(cursor.parse()?),
        })
    }
}

impl Serialize for Cursor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(feature = "contract")]
schema!(Cursor {
    "type": "string",
    "description": "Place in the output of a process, to be sent back as it is.",
    "pattern": "^[0-9]{1,20}([.][0-9]{1,20})?(-[0-9a-f]{0,6}-[0-9a-f]{0,6})?$"
});

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_cursor_has_one_spelling() {
        for right in [
            "0",
            "7.3",
            "9.9-e282-",
            "18446744073709551615",
            "3-e282-",
            "2--c3",
            "6-f09f98-f09f98",
            "start",
            "end",
        ] {
            assert!(right.parse::<After>().is_ok(), "{right}");
        }
        for wrong in [
            "",
            "-",
            "00",
            "01",
            "+1",
            " 1",
            "1 ",
            "1-",
            "1.",
            "1.0",
            "1.2",
            "3.1.1",
            ".1",
            "1--",
            "1-c3",
            "1-C3-",
            "1-c3-c3",
            "9-41-",
            "9-e28292-",
            "9-ff-",
            "9-c-",
            "9-c3--",
            "9-c3-c3-",
            "18446744073709551616",
            "Start",
            "9-cüc-",
            "9-41c3-",
        ] {
            assert!(wrong.parse::<After>().is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn what_is_accepted_prints_back(text in "[0-9a-f-]{0,24}|[0-9]{1,3}(-(c3|e282|f09f|f09f98)?){2}|\\PC{0,12}") {
            if let Ok(cursor) = text.parse::<Cursor>() {
                prop_assert_eq!(cursor.to_string(), text);
            }
        }
    }
}
