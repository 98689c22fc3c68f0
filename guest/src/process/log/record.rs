//! One record of a log: a byte for the stream, three for the length in little endian, and the bytes that were written.

use pve_edge_guest_protocol::process::Stream;

/// Bytes that a record holds at most.
pub(crate) const LARGEST: usize = 64 << 10;

/// Bytes before a record's data.
pub(super) const HEAD: usize = 4;

/// Record at the beginning of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record<'a> {
    pub(super) stream: Stream,
    pub(super) data: &'a [u8],
}

/// The bytes before a record's data.
pub(super) fn head(stream: Stream, length: usize) -> [u8; HEAD] {
    let [low, middle, high, ..] = (length as u64).to_le_bytes();
    let stream = match stream {
        Stream::Stdout => 1,
        Stream::Stderr => 2,
    };
    [stream, low, middle, high]
}

impl<'a> Record<'a> {
    /// Reads the record at the beginning, and returns it with the bytes behind it; `None` if it is not whole, or is none.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (&[stream, low, middle, high], rest) = bytes.split_first_chunk()?;
        let stream = match stream {
            1 => Stream::Stdout,
            2 => Stream::Stderr,
            _ => return None,
        };
        let length = u32::from_le_bytes([low, middle, high, 0]) as usize;
        let (data, rest) = rest.split_at_checked(length)?;
        (1..=LARGEST).contains(&length).then_some((Self { stream, data }, rest))
    }
}

/// Bytes of output in the whole records at the beginning of some bytes.
pub(super) fn count(mut bytes: &[u8]) -> u64 {
    let mut count = 0;
    while let Some((record, rest)) = Record::parse(bytes) {
        count += record.data.len() as u64;
        bytes = rest;
    }
    count
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic_and_print_back(
            start in prop_oneof![Just(vec![]), Just(vec![1, 5, 0, 0]), Just(vec![2, 0, 0, 1]), Just(vec![1, 1, 0, 1])],
            more in prop::collection::vec(any::<u8>(), 0..70_000),
        ) {
            let bytes = [start, more].concat();
            if let Some((record, rest)) = Record::parse(&bytes) {
                prop_assert!((1..=LARGEST).contains(&record.data.len()));
                let head = head(record.stream, record.data.len());
                prop_assert!([&head, record.data, rest].concat() == bytes);
                let whole = &bytes[..bytes.len() - rest.len()];
                prop_assert_eq!(Record::parse(&whole[..whole.len() - 1]), None);
            }
            prop_assert!(count(&bytes) <= bytes.len() as u64);
        }
    }
}
