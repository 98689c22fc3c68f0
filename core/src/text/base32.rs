//! Base32 in lower case, without padding (RFC 4648): PVE's tags, which become lower case, keep it unchanged.

use base32::Alphabet;

const ALPHABET: Alphabet = Alphabet::Rfc4648Lower { padding: false };

/// Writes bytes as base32 in lower case.
pub(crate) fn base32(bytes: &[u8]) -> String {
    base32::encode(ALPHABET, bytes)
}

/// Reads the bytes of a base32 text, in upper or lower case.
pub(crate) fn from_base32(text: &str) -> Option<Vec<u8>> {
    base32::decode(ALPHABET, &text.to_ascii_lowercase())
}
