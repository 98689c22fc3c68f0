//! The quotas of a team, counted from the listing: no other store knows (rule S9.1).
//!
//! A team can overshoot by the creations that are between their listing and their commit (rule S9.1).
//! Creations per minute see only sandboxes that still exist.

use time::OffsetDateTime;

use super::{
    inventory::{Guest, Inventory},
    marks::{
        Mark, Want,
        lifetime::{self, Time},
    },
};
use crate::{
    error::Error,
    sandbox::{
        Sizes, preset,
        quota::{self, Limits, Usage},
    },
};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Refuses what the team's quotas do not allow; `asked` is what the new sandbox would take.
pub fn check(
    inventory: &Inventory,
    team: &str,
    asked: Sizes,
    limits: &Limits,
    now: OffsetDateTime,
) -> Result<(), Error> {
    let mut used = Usage::default();
    for guest in &inventory.guests {
        let Some(mark) = guest.ours.as_ref().map(|it| &it.mark) else { continue };
        if mark.team != team || !is_live(mark, now, limits.stopped_max_seconds) {
            continue;
        }
        used.vcpus += guest.row.maxcpu.or(preset(mark).map(|it| it.cores.into())).unwrap_or(1);
        used.memory += memory(guest, mark) / MIB;
        used.disk += disk(guest, mark);
        used.ages.push(mark.age(now));
    }
    quota::ensure_within_quota(&used, team, asked, limits)
}

/// Bytes of a guest's memory.
pub(crate) fn memory(guest: &Guest, mark: &Mark) -> u64 {
    guest.row.maxmem.or(preset(mark).map(|it| u64::from(it.memory_mib) * MIB)).unwrap_or(0)
}

/// GiB of a guest's disk. What grows is shown with its old size for a while: the larger one counts.
fn disk(guest: &Guest, mark: &Mark) -> u64 {
    let listed = guest.row.maxdisk.map(|it| it.div_ceil(GIB));
    listed.max(preset(mark).map(|it| u64::from(it.disk_gib))).unwrap_or(0)
}

/// The sizes of a new sandbox of this template, where neither the request nor the preset says.
pub fn filled(asked: Sizes, template: Option<&Guest>) -> Sizes {
    let of = |bytes: Option<u64>, unit| bytes.and_then(|it| u32::try_from(it.div_ceil(unit)).ok());
    let row = template.map(|it| &it.row);
    Sizes {
        cpu: asked.cpu.or(of(row.and_then(|it| it.maxcpu), 1)),
        memory: asked.memory.or(of(row.and_then(|it| it.maxmem), MIB)),
        // A disk only grows.
        disk: asked.disk.max(of(row.and_then(|it| it.maxdisk), GIB)),
    }
}

/// Tags that may be a snapshot's tell no time.
fn is_live(mark: &Mark, now: OffsetDateTime, kept: u32) -> bool {
    mark.want != Want::Gone && (mark.doing.is_some() || lifetime::time(mark, now, kept) != Time::Over)
}

/// A new guest has no numbers in the listing yet; its preset's name has.
fn preset(mark: &Mark) -> Option<preset::Sizes> {
    mark.snapshot.as_ref()?.preset()?.preset.sizes()
}
