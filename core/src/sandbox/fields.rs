//! Fields that several requests have, and the checks of their values.

use std::{collections::BTreeMap, ops::RangeInclusive};

use serde::{Deserialize, Deserializer, de::Error as _};

use crate::error::Error;

const METADATA_ENTRIES: usize = 64;
const METADATA_KEY: usize = 128;
const METADATA_BYTES: usize = 4096;
const NAME: usize = 64;
/// Most cores of a sandbox.
pub(super) const CORES: u32 = 512;
/// Least and most MiB of memory of a sandbox.
pub(super) const MEMORY_MIB: RangeInclusive<u32> = 64..=4_194_304;
/// Most GiB of disk of a sandbox.
pub(super) const DISK_GIB: u32 = 16_384;

/// Name of a sandbox or a snapshot, in the contract.
#[cfg(feature = "contract")]
pub struct Name;

#[cfg(feature = "contract")]
schema!(Name {
    "type": "string",
    "minLength": 1,
    "maxLength": NAME,
    "pattern": r"^[^\u0000-\u001f\u007f-\u009f]*$"
});

/// Reads a field so that `null` (`Some(None)`) differs from an absent field (`None`).
pub fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::<T>::deserialize(deserializer).map(Some)
}

/// Reads seconds like [`present`]; `null` stands for no end.
pub fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<u64>>, D::Error> {
    present(deserializer)
        .map_err(|_| D::Error::custom("must be a whole number of seconds, at least 1, or null"))
}

/// Check of metadata against its bounds.
pub struct Metadata;

#[cfg(feature = "contract")]
schema!(Metadata {
    "type": "object",
    "description": "The owner's metadata; at most 4096 bytes as JSON. On Morph, keys that begin with `edge.` are refused.",
    "maxProperties": METADATA_ENTRIES,
    "propertyNames": {"minLength": 1, "maxLength": METADATA_KEY},
    "additionalProperties": {"type": "string"}
});

/// Changes of metadata, in the contract.
#[cfg(feature = "contract")]
pub struct MetadataPatch;

#[cfg(feature = "contract")]
schema!(MetadataPatch {
    "type": "object",
    "description": "Entries to set; a key with null is removed.",
    "maxProperties": METADATA_ENTRIES,
    "propertyNames": {"minLength": 1, "maxLength": METADATA_KEY},
    "additionalProperties": {"type": ["string", "null"]}
});

impl Metadata {
    /// Refuses metadata that is too much for a guest's description.
    pub fn check(metadata: &BTreeMap<String, String>) -> Result<(), Error> {
        let mut errors = Vec::new();
        if metadata.len() > METADATA_ENTRIES {
            errors.push(("metadata".to_owned(), format!("at most {METADATA_ENTRIES} entries")));
        }
        errors.extend(key_error(metadata.keys()));
        let bytes = serde_json::to_string(metadata).map_or(0, |it| it.len());
        if bytes > METADATA_BYTES {
            let text =
                format!("{bytes} bytes as JSON, and a guest's description has room for {METADATA_BYTES}");
            errors.push(("metadata".to_owned(), text));
        }
        if errors.is_empty() { Ok(()) } else { Err(Error::fields(errors)) }
    }
}

/// Problem of metadata that has a wrong key, with its field.
pub fn key_error<'a>(mut keys: impl Iterator<Item = &'a String>) -> Option<(String, String)> {
    let bad = keys.any(|it| it.is_empty() || it.chars().count() > METADATA_KEY);
    bad.then(|| ("metadata".to_owned(), format!("keys have 1 to {METADATA_KEY} characters")))
}

/// Problems of cores, MiB of memory and GiB of disk that are out of bounds, each with its field.
pub fn size_errors(cpu: Option<u32>, memory: Option<u32>, disk: Option<u32>) -> Vec<(String, String)> {
    let bounds = [
        ("cpu", cpu, 1..=CORES, "1 to 512 cores"),
        ("memory", memory, MEMORY_MIB, "64 to 4194304 MiB"),
        ("disk", disk, 1..=DISK_GIB, "1 to 16384 GiB"),
    ];
    let wrong =
        bounds.into_iter().filter(|(_, asked, range, _)| asked.is_some_and(|it| !range.contains(&it)));
    wrong.map(|(field, _, _, fix)| (field.to_owned(), fix.to_owned())).collect()
}

/// Problems of a name, each with its field.
pub fn name_errors(name: &str) -> Vec<(String, String)> {
    let length = name.chars().count();
    let is_name = (1..=NAME).contains(&length) && !name.chars().any(char::is_control);
    if is_name {
        Vec::new()
    } else {
        vec![("name".to_owned(), format!("1 to {NAME} characters, none of them a control character"))]
    }
}
