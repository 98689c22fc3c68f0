//! What a team may take, counted from the listing: no other store knows.
//!
//! A team can overshoot by the creations that are between their listing and
//! their commit. Creations per minute see only sandboxes that still exist.

use time::OffsetDateTime;

use crate::{
    auth::Caller,
    edge::Invocation,
    error::{Code, Error},
    inventory::{Guest, Inventory},
    io::Io,
    lifetime::{self, Time},
    marks::{Mark, Sizes, Want},
    preset,
    settings::Limits,
};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// A limiter of Workers counts in periods of 10 or 60 s, and does not tell in which.
const PLATFORM_PERIOD: u32 = 60;

/// Refuses what the platform's own limiter does, before PVE or Morph is asked anything.
/// It counts attempts, and so sees what a listing cannot: sandboxes that are gone.
pub async fn admitted<I: Io>(invocation: &Invocation<'_, I>, caller: &Caller) -> Result<(), Error> {
    let team = caller.team.as_str();
    let deployment = &*invocation.settings.deployment;
    if invocation.io.admits(format!("create {deployment} {team}")).await {
        return Ok(());
    }
    let text = format!(
        "team {team} has used up the creations that the platform's limiter (binding CREATES) admits in its \
         period, which is at most {PLATFORM_PERIOD} s"
    );
    Err(Error::new(Code::RateLimited, text)
        .member("periodSeconds", PLATFORM_PERIOD)
        .retry_after(PLATFORM_PERIOD))
}

/// What a team has.
#[derive(Clone, Debug, Default)]
pub struct Used {
    /// Cores of all its sandboxes.
    pub vcpus: u64,
    /// MiB of all of them.
    pub memory: u64,
    /// GiB of all of their disks.
    pub disk: u64,
    /// Seconds since the birth of each.
    pub ages: Vec<i64>,
}

/// Refuses what the team's quotas do not allow; `asked` is what the new sandbox would take.
pub fn check(
    inventory: &Inventory,
    team: &str,
    asked: Sizes,
    limits: &Limits,
    now: OffsetDateTime,
) -> Result<(), Error> {
    let mut used = Used::default();
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
    allow(&used, team, asked, limits)
}

/// Refuses what does not fit beside what the team has.
pub fn allow(used: &Used, team: &str, asked: Sizes, limits: &Limits) -> Result<(), Error> {
    let rows = [
        ("sandboxes", limits.max_sandboxes, used.ages.len() as u64, 1),
        ("vCPUs", limits.max_vcpus, used.vcpus, u64::from(asked.cpu.unwrap_or(1))),
        ("MiB of memory", limits.max_memory_mib, used.memory, u64::from(asked.memory.unwrap_or(0))),
        ("GiB of disk", limits.max_disk_gib, used.disk, u64::from(asked.disk.unwrap_or(0))),
    ];
    for (what, most, used, more) in rows {
        let Some(most) = most.map(u64::from).filter(|most| used + more > *most) else { continue };
        let text = format!("team {team} uses {used} of {most} {what}, and {more} more are asked for");
        return Err(Error::new(Code::QuotaExceeded, text)
            .member("used", used)
            .member("limit", most)
            .retry_after(60));
    }
    per_minute(used, team, limits.creates_per_minute)
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

/// What the new sandbox of this template would take, where neither the request nor the preset says.
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

fn per_minute(used: &Used, team: &str, most: Option<u32>) -> Result<(), Error> {
    let ages: Vec<i64> = used.ages.iter().copied().filter(|it| *it < 60).collect();
    let Some(most) = most.filter(|most| ages.len() as u64 >= u64::from(*most)) else { return Ok(()) };
    let oldest = ages.iter().copied().max().unwrap_or(0).clamp(0, 59);
    let text = format!("team {team} made {} of {most} sandboxes in the last minute", ages.len());
    Err(Error::new(Code::RateLimited, text)
        .member("used", ages.len() as u64)
        .member("limit", most)
        .retry_after(u32::try_from(60 - oldest).unwrap_or(60)))
}

/// Tags that may be a snapshot's tell no time.
fn is_live(mark: &Mark, now: OffsetDateTime, kept: u32) -> bool {
    mark.want != Want::Gone && (mark.doing.is_some() || lifetime::time(mark, now, kept) != Time::Over)
}

/// A new guest has no numbers in the listing yet; its preset's name has.
fn preset(mark: &Mark) -> Option<preset::Sizes> {
    mark.snapshot.as_ref()?.preset()?.preset.sizes()
}
