//! VMIDs: the numbers by which a PVE cluster names its guests.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// VMID of a guest: 100 to 999999999 (pve-common `JSONSchema.pm`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Vmid(u32);

#[cfg(feature = "contract")]
schema!(Vmid {"type": "integer", "description": "PVE's number of a guest.", "minimum": 100, "maximum": 999_999_999});

impl TryFrom<u32> for Vmid {
    type Error = &'static str;

    fn try_from(number: u32) -> Result<Self, Self::Error> {
        if (100..=999_999_999).contains(&number) {
            Ok(Self(number))
        } else {
            Err("a VMID is 100 to 999999999")
        }
    }
}

impl From<Vmid> for u32 {
    fn from(vmid: Vmid) -> Self {
        vmid.0
    }
}

impl fmt::Display for Vmid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Vmid {
    type Err = &'static str;

    /// Parses a VMID, which has one spelling: digits only, no sign, no leading zeros.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let plain = text.bytes().all(|it| it.is_ascii_digit()) && !text.starts_with('0');
        text.parse::<u32>().ok().filter(|_| plain).ok_or("a VMID is 100 to 999999999")?.try_into()
    }
}

/// Range of VMIDs, such as `200000-999999`; both ends are in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VmidRange {
    first: Vmid,
    last: Vmid,
}

impl VmidRange {
    /// The range from `first` to `last`; `None` when it would be empty.
    pub fn new(first: Vmid, last: Vmid) -> Option<Self> {
        (first <= last).then_some(Self { first, last })
    }

    /// First VMID of the range.
    pub fn first(&self) -> Vmid {
        self.first
    }

    /// Last VMID of the range.
    pub fn last(&self) -> Vmid {
        self.last
    }

    /// Whether the VMID is in the range.
    pub fn contains(&self, vmid: Vmid) -> bool {
        (self.first..=self.last).contains(&vmid)
    }

    /// Whether the ranges have a VMID in common.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

impl FromStr for VmidRange {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const BAD: &str = "a range of VMIDs is FIRST-LAST, such as 200000-999999";
        let (first, last) = text.split_once('-').ok_or(BAD)?;
        let first = first.trim().parse().map_err(|_| BAD)?;
        let last = last.trim().parse().map_err(|_| BAD)?;
        Self::new(first, last).ok_or(BAD)
    }
}
