//! What a team, and a guest, may take.

use super::Sizes;
use crate::{
    access::keys::{Caller, Label},
    error::{Code, Error},
    io::{Io, invocation::Invocation},
};

/// What a team, and a guest, may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// `EDGE_TAG_BUDGET`.
    pub tag_budget: usize,
    /// `EDGE_MAX_SANDBOXES`.
    pub max_sandboxes: Option<u32>,
    /// `EDGE_CREATES_PER_MINUTE`.
    pub creates_per_minute: Option<u32>,
    /// `EDGE_MAX_VCPUS`.
    pub max_vcpus: Option<u32>,
    /// `EDGE_MAX_MEMORY_MIB`.
    pub max_memory_mib: Option<u32>,
    /// `EDGE_MAX_DISK_GIB`.
    pub max_disk_gib: Option<u32>,
    /// `EDGE_MAX_TTL_SECONDS`.
    pub max_ttl_seconds: Option<u32>,
    /// `EDGE_STOPPED_MAX_SECONDS`.
    pub stopped_max_seconds: u32,
    /// `EDGE_SWEEP_REQUESTS`.
    pub sweep_requests: u32,
}

/// A limiter of Workers counts in periods of 10 or 60 s, and does not tell in which.
const PLATFORM_PERIOD: u32 = 60;

/// Refuses what the platform's own limiter does, before PVE or Morph is asked anything (rule S9.2). It counts
/// attempts, and so sees what a listing cannot: sandboxes that are gone.
pub async fn admitted<I: Io>(
    invocation: &Invocation<I>,
    deployment: &Label,
    caller: &Caller,
) -> Result<(), Error> {
    let team = caller.team.as_str();
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
