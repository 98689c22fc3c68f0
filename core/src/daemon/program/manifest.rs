//! The manifest: the version of the programs that a deployment hands out, and their digests.

use std::{fmt, str::FromStr};

use serde::Deserialize;
use sha2::{Digest, Sha256};

/// Path of the manifest among the deployment's files.
pub(crate) const PATH: &str = "/manifest.json";

/// Manifest, as `guest/build` writes it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    /// Version of the programs, which ends with a hash of them.
    pub(crate) version: String,
    x86_64: Program,
    aarch64: Program,
}

/// One program.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Program {
    /// SHA-256, as 64 hexadecimal digits in lower case.
    pub(crate) sha256: String,
    /// Size.
    pub(crate) bytes: u64,
}

/// Processor that a program is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arch {
    X86_64,
    Aarch64,
}

impl Manifest {
    /// Reads a manifest; an error says what is wrong with it.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let wrong = |why: &dyn fmt::Display| format!("the manifest of the daemon for guests is wrong: {why}");
        let manifest: Self = serde_json::from_slice(bytes).map_err(|error| wrong(&error))?;
        let is_plain = |it: u8| it.is_ascii_alphanumeric() || matches!(it, b'.' | b'-' | b'+');
        let is_digest = |it: &Program| it.sha256.len() == 64 && it.sha256.bytes().all(is_lower_hex);
        if !manifest.version.starts_with(|it: char| it.is_ascii_digit())
            || !manifest.version.bytes().all(is_plain)
        {
            return Err(wrong(&"its version"));
        }
        if ![&manifest.x86_64, &manifest.aarch64].into_iter().all(is_digest) {
            return Err(wrong(&"a digest"));
        }
        Ok(manifest)
    }

    pub(crate) fn program(&self, arch: Arch) -> &Program {
        match arch {
            Arch::X86_64 => &self.x86_64,
            Arch::Aarch64 => &self.aarch64,
        }
    }

    /// Path of a program among the deployment's files.
    pub(crate) fn path(&self, arch: Arch) -> String {
        format!("/{}/{arch}", self.version)
    }
}

impl Program {
    /// Whether these are its bytes.
    pub(crate) fn is(&self, bytes: &[u8]) -> bool {
        hex::encode(Sha256::digest(bytes)) == self.sha256
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        })
    }
}

impl FromStr for Arch {
    type Err = &'static str;

    /// Reads a processor's name, as `uname -m` says it.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "x86_64" => Ok(Self::X86_64),
            "aarch64" => Ok(Self::Aarch64),
            _ => Err("x86_64 or aarch64"),
        }
    }
}

fn is_lower_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_could_not_stand_in_a_script_or_a_path_is_refused() {
        let of = |version: &str, digest: &str| {
            let program = format!("{{\"sha256\": \"{digest}\", \"bytes\": 1}}");
            Manifest::parse(
                format!("{{\"version\": \"{version}\", \"x86_64\": {program}, \"aarch64\": {program}}}")
                    .as_bytes(),
            )
        };
        let digest = "0123456789abcdef".repeat(4);
        assert_eq!(
            of("0.1.0-abc", &digest).map(|it| it.path(Arch::Aarch64)),
            Ok("/0.1.0-abc/aarch64".to_owned())
        );
        for version in ["", "..", "a", "1/..", "1 b", "1'b"] {
            assert!(of(version, &digest).is_err(), "{version}");
        }
        for digest in ["", "0", &digest.to_uppercase()] {
            assert!(of("1", digest).is_err(), "{digest}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Manifest::parse(&bytes);
        }
    }
}
