//! Quotas: the limits of a team and of a guest, and the checks against them.

use super::Sizes;
use crate::{
    access::keys::{Caller, Label},
    error::{Code, Error},
    io::{Io, invocation::Invocation},
};

/// Limits of a team and of a guest.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of tags of a sandbox, from `EDGE_TAG_BUDGET`.
    pub tag_budget: usize,
    /// Sandboxes of a team, from `EDGE_MAX_SANDBOXES`.
    pub max_sandboxes: Option<u32>,
    /// Creations of a team in a minute, from `EDGE_CREATES_PER_MINUTE`.
    pub creates_per_minute: Option<u32>,
    /// Cores of a team's sandboxes together, from `EDGE_MAX_VCPUS`.
    pub max_vcpus: Option<u32>,
    /// MiB of memory of a team's sandboxes together, from `EDGE_MAX_MEMORY_MIB`.
    pub max_memory_mib: Option<u32>,
    /// GiB of disk of a team's sandboxes together, from `EDGE_MAX_DISK_GIB`.
    pub max_disk_gib: Option<u32>,
    /// Longest time to live in seconds, from `EDGE_MAX_TTL_SECONDS`.
    pub max_ttl_seconds: Option<u32>,
    /// Seconds that a stopped or paused sandbox is kept at least, from `EDGE_STOPPED_MAX_SECONDS`.
    pub stopped_max_seconds: u32,
    /// Requests that one sweep may send, from `EDGE_SWEEP_REQUESTS`.
    pub sweep_requests: u32,
}

/// Longest period of a limiter of Workers: 10 or 60 s, and it does not tell which.
const PLATFORM_PERIOD: u32 = 60;

/// Refuses a creation that the platform's own limiter refuses, before PVE or Morph is asked anything (rule S9.2). It counts
/// attempts, and so sees what a listing cannot: sandboxes that are gone.
pub async fn ensure_admitted<I: Io>(
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

/// Usage of its quotas by a team.
#[derive(Clone, Debug, Default)]
pub struct Usage {
    /// Cores of all its sandboxes.
    pub vcpus: u64,
    /// MiB of memory of all its sandboxes.
    pub memory: u64,
    /// GiB of disk of all its sandboxes.
    pub disk: u64,
    /// Seconds since the creation of each sandbox.
    pub ages: Vec<i64>,
}

/// Refuses a creation that does not fit into the team's quotas beside its usage.
pub fn ensure_within_quota(used: &Usage, team: &str, asked: Sizes, limits: &Limits) -> Result<(), Error> {
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
    ensure_within_rate(used, team, limits.creates_per_minute)
}

/// Refuses a creation when the team has made `most` sandboxes in the last minute.
fn ensure_within_rate(used: &Usage, team: &str, most: Option<u32>) -> Result<(), Error> {
    let ages: Vec<i64> = used.ages.iter().copied().filter(|it| *it < 60).collect();
    let Some(most) = most.filter(|most| ages.len() as u64 >= u64::from(*most)) else { return Ok(()) };
    let oldest = ages.iter().copied().max().unwrap_or(0).clamp(0, 59);
    let text = format!("team {team} made {} of {most} sandboxes in the last minute", ages.len());
    Err(Error::new(Code::RateLimited, text)
        .member("used", ages.len() as u64)
        .member("limit", most)
        .retry_after(u32::try_from(60 - oldest).unwrap_or(60)))
}
