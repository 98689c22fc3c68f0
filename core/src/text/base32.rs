//! Base32 in lower case, without padding (RFC 4648): what tags of PVE keep as it is.

use base32::Alphabet;

const ALPHABET: Alphabet = Alphabet::Rfc4648Lower { padding: false };

/// Lower-case base32.
pub(crate) fn base32(bytes: &[u8]) -> String {
    base32::encode(ALPHABET, bytes)
}

/// Reads [`base32`], in any case.
pub(crate) fn from_base32(text: &str) -> Option<Vec<u8>> {
    base32::decode(ALPHABET, &text.to_ascii_lowercase())
}
