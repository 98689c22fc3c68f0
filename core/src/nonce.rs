//! The part of an id that no other guest ever had.

use std::{fmt, str::FromStr};

use base32::Alphabet;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::OffsetDateTime;

const ALPHABET: Alphabet = Alphabet::Rfc4648Lower { padding: false };

/// Birth second and 40 random bits, as 16 letters and digits that PVE's
/// lower-casing of tags leaves alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nonce([u8; 10]);

impl Nonce {
    /// A new one; `dice` are random.
    pub fn new(birth: OffsetDateTime, dice: [u8; 5]) -> Self {
        let [_, _, _, a, b, c, d, e] = birth.unix_timestamp().to_be_bytes();
        let [p, q, r, s, t] = dice;
        Self([a, b, c, d, e, p, q, r, s, t])
    }

    /// When it was drawn, to the second.
    pub fn birth(self) -> OffsetDateTime {
        let [a, b, c, d, e, ..] = self.0;
        let seconds = i64::from_be_bytes([0, 0, 0, a, b, c, d, e]);
        OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }
}

/// Lower-case base32.
pub(crate) fn base32(bytes: &[u8]) -> String {
    base32::encode(ALPHABET, bytes)
}

/// Reads [`base32`], in any case.
pub(crate) fn from_base32(text: &str) -> Option<Vec<u8>> {
    base32::decode(ALPHABET, &text.to_ascii_lowercase())
}

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base32(&self.0))
    }
}

impl FromStr for Nonce {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = from_base32(text).ok_or("a nonce is base32")?;
        bytes.try_into().map(Self).map_err(|_| "a nonce is 16 characters")
    }
}

impl Serialize for Nonce {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Nonce {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
