//! Text that comes as bytes, piece by piece.

/// Text of some bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Decoded<'a> {
    /// Text, with U+FFFD for each byte that is no part of a character.
    pub(crate) text: String,
    /// Whether there was such a byte.
    pub(crate) is_lossy: bool,
    /// Bytes at the end with which a character begins that is not complete.
    pub(crate) rest: &'a [u8],
}

/// Decodes bytes as UTF-8.
pub(crate) fn decode(bytes: &[u8]) -> Decoded<'_> {
    let mut decoded = Decoded { text: String::with_capacity(bytes.len()), is_lossy: false, rest: &[] };
    let mut chunks = bytes.utf8_chunks().peekable();
    while let Some(chunk) = chunks.next() {
        decoded.text.push_str(chunk.valid());
        if chunks.peek().is_none() && is_begun(chunk.invalid()) {
            decoded.rest = chunk.invalid();
        } else {
            decoded.is_lossy |= !chunk.invalid().is_empty();
            decoded.text.push_str(&replaced(chunk.invalid()));
        }
    }
    decoded
}

/// Whether a character begins with these bytes, and is not complete.
pub(crate) fn is_begun(bytes: &[u8]) -> bool {
    !bytes.is_empty()
        && std::str::from_utf8(bytes).is_err_and(|it| it.error_len().is_none() && it.valid_up_to() == 0)
}

/// The characters that stand for bytes which are no text.
pub(crate) fn replaced(bytes: &[u8]) -> String {
    bytes.iter().map(|_| char::REPLACEMENT_CHARACTER).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_byte_that_is_no_text_is_replaced_and_a_begun_character_is_left() {
        let decoded = decode(b"gr\xc3\xbcn \xff\xfe \xe2\x86 end \xf0\x9f\x98");
        assert_eq!(decoded.text, "grün \u{fffd}\u{fffd} \u{fffd}\u{fffd} end ");
        assert!(decoded.is_lossy);
        assert_eq!(decoded.rest, b"\xf0\x9f\x98");
        assert_eq!(decode("grün".as_bytes()), Decoded { text: "grün".into(), is_lossy: false, rest: &[] });
    }

    proptest! {
        /// Output may be cut anywhere: the text is the same.
        #[test]
        fn pieces_do_not_matter(
            bytes in prop::collection::vec(prop_oneof![
                any::<u8>(), Just(0xe2), Just(0x86), Just(0x92), Just(0xf0), Just(0x9f)
            ], 0..40),
            size in 1_usize..5,
        ) {
            let (mut text, mut rest) = (String::new(), Vec::new());
            for piece in bytes.chunks(size) {
                let joined = [&rest, piece].concat();
                let decoded = decode(&joined);
                text.push_str(&decoded.text);
                prop_assert!(decoded.rest.len() <= 3);
                rest = decoded.rest.to_vec();
            }
            let whole = decode(&bytes);
            prop_assert_eq!((text.as_str(), rest.as_slice()), (whole.text.as_str(), whole.rest));
        }
    }
}
