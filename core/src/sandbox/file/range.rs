//! Ranges of a file's bytes (RFC 9110, 14).

use std::fmt;

use pve_edge_guest_protocol::file::Range;

/// Reads the value of `Range`. Other units, several ranges and what is no range are ignored, as 14.2 has it: the file as a
/// whole is answered.
pub fn parse(text: &str) -> Option<Range> {
    let (unit, range) = text.trim().split_once('=')?;
    let (first, last) = range.trim().split_once('-').filter(|_| unit.eq_ignore_ascii_case("bytes"))?;
    match (number(first), number(last)) {
        (Some(first), None) if last.is_empty() => Some(Range::From { first, last: None }),
        (Some(first), Some(last)) if first <= last => Some(Range::From { first, last: Some(last) }),
        (None, Some(bytes)) if first.is_empty() => Some(Range::Last { bytes }),
        _ => None,
    }
}

/// A number of digits; one that is too large is the largest.
fn number(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u64::MAX))
}

/// Part of a file, which has at least one byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Offset of the first byte.
    pub first: u64,
    /// Offset of the last byte.
    pub last: u64,
    /// Bytes of the file.
    pub size: u64,
}

impl Part {
    /// The part that a range is of a file of this size; `None` if it begins behind the end.
    pub fn of(range: Range, size: u64) -> Option<Self> {
        let end = size.checked_sub(1)?;
        let (first, last) = match range {
            Range::From { first, last } => (first, last.map_or(end, |last| last.min(end))),
            Range::Last { bytes } => (size - bytes.min(size), end),
        };
        (first <= last).then_some(Self { first, last, size })
    }

    /// Number of bytes.
    pub fn length(self) -> u64 {
        self.last - self.first + 1
    }
}

/// The value of `Content-Range`.
impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, last, size } = self;
        write!(f, "bytes {first}-{last}/{size}")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_that_count_and_those_that_do_not() {
        let from = |first, last| Some(Range::From { first, last });
        for (text, range) in [
            ("bytes=0-", from(0, None)),
            ("bytes=2-5", from(2, Some(5))),
            ("BYTES = 2-2", None),
            ("Bytes=2-2", from(2, Some(2))),
            ("bytes=-7", Some(Range::Last { bytes: 7 })),
            ("bytes=99999999999999999999-", from(u64::MAX, None)),
            ("bytes=5-2", None),
            ("bytes=0-1,5-6", None),
            ("bytes=-", None),
            ("bytes=+1-2", None),
            ("lines=1-2", None),
            ("bytes", None),
            ("", None),
        ] {
            assert_eq!(parse(text), range, "{text}");
        }
    }

    #[test]
    fn parts_are_within_the_file() {
        let part = |text, size| parse(text).and_then(|it| Part::of(it, size)).map(|it| it.to_string());
        assert_eq!(part("bytes=0-", 3).as_deref(), Some("bytes 0-2/3"));
        assert_eq!(part("bytes=1-9", 3).as_deref(), Some("bytes 1-2/3"));
        assert_eq!(part("bytes=-9", 3).as_deref(), Some("bytes 0-2/3"));
        assert_eq!((part("bytes=3-", 3), part("bytes=0-", 0), part("bytes=-0", 3)), (None, None, None));
    }

    proptest! {
        #[test]
        fn a_part_has_bytes_of_the_file(
            text in "bytes=[0-9]{0,20}-[0-9]{0,20}",
            size in any::<u64>(),
            any in any::<String>(),
        ) {
            let _ = parse(&any);
            if let Some(part) = parse(&text).and_then(|it| Part::of(it, size)) {
                prop_assert!(part.first <= part.last && part.last < size && part.length() <= size);
            }
        }
    }
}
