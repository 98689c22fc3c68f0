//! Reading sandboxes: one exactly, or all of them from one listing.

mod list;

use std::{collections::BTreeMap, fmt::Display};

use futures_util::future::join;
use time::OffsetDateTime;

pub(crate) use self::list::bad_cursor;
use self::list::{FRESH_SECONDS, item};
pub use self::list::{Filter, Page, list};
use crate::{
    auth::Caller,
    condition::{self, Condition},
    create::{self, Progress},
    edge::Edge,
    error::{Code, Error},
    inventory::Guest,
    io::Io,
    lifetime::{self, Time},
    marks::{Mark, OnExpiry, Phase, Sizes, Want},
    place::{Found, Place, find, not_found, was_destroyed},
    pve::{PveError, cluster::Resource, config::Config, task::Task},
    reach, rollback,
    sandbox::{
        Addresses, FINISH_SECONDS, Sandbox, SandboxId, State, is_coming_up, is_unproved, served, stamp, state,
    },
};

/// One sandbox, exactly, and the mark for its ETag. A sandbox that is still
/// coming up is carried on until `deadline`; what was stopped stays stopped.
pub async fn get<I: Io>(
    edge: &Edge<'_, I>,
    caller: &Caller,
    id: &SandboxId,
    deadline: OffsetDateTime,
) -> Result<(Sandbox, Option<Mark>), Error> {
    let (found, tasks) = join(find(edge, caller, id), tasks(edge, id)).await;
    let place = match found {
        Ok(Found::Here(place)) => *place,
        Ok(Found::Moved(place, row)) => {
            gone(edge, &place.mark, id)?;
            let seen = listed(edge, &place, &row).await?;
            return exact(edge, rollback::settle(edge, *place).await?, seen, deadline).await;
        }
        Ok(Found::NotYet) => return Ok((nothing_yet(edge, caller, id), None)),
        Ok(Found::Offline(guest)) => return Ok((offline(edge, &guest, id)?, None)),
        Err(error) if error.code() == Code::StillCreating => {
            return Ok((nothing_yet(edge, caller, id), None));
        }
        Err(error) => return Err(error),
    };
    gone(edge, &place.mark, id)?;
    let (kind, vmid) = (place.mark.kind, place.mark.vmid);
    let seen = match tasks {
        _ if !place.committed => Condition::Stopped,
        Some(tasks) => condition::beside(edge, tasks, &place.node, kind, vmid).await?,
        None => condition::condition(edge, &place.node, kind, vmid).await?,
    };
    exact(edge, rollback::settle(edge, place).await?, seen, deadline).await
}

/// A sandbox whose mark was just changed.
pub async fn changed<I: Io>(edge: &Edge<'_, I>, place: Place) -> Result<(Sandbox, Option<Mark>), Error> {
    let seen = condition::condition(edge, &place.node, place.mark.kind, place.mark.vmid).await?;
    exact(edge, place, seen, edge.now()).await
}

/// What one does that was found by a listing: as that says, which may be late by some seconds, unless
/// it was started or stopped a moment ago.
async fn listed<I: Io>(edge: &Edge<'_, I>, place: &Place, row: &Resource) -> Result<Condition, Error> {
    let mark = &place.mark;
    Ok(match row.status.as_str() {
        _ if !place.committed => Condition::Stopped,
        "running" if mark.settled_for(edge.now()) >= FRESH_SECONDS => Condition::Running,
        "stopped" if mark.settled_for(edge.now()) >= FRESH_SECONDS => Condition::Stopped,
        _ => condition::condition(edge, &place.node, mark.kind, mark.vmid).await?,
    })
}

/// What works on a sandbox, asked while its config is read, where the id tells on which node.
async fn tasks<I: Io>(edge: &Edge<'_, I>, id: &SandboxId) -> Option<Result<Vec<Task>, PveError>> {
    if id.node.is_empty() {
        return None;
    }
    Some(edge.send(edge.pve.active_on(&id.node, id.vmid)).await)
}

/// The state of a guest whose config is at hand.
async fn exact<I: Io>(
    edge: &Edge<'_, I>,
    place: Place,
    seen: Condition,
    deadline: OffsetDateTime,
) -> Result<(Sandbox, Option<Mark>), Error> {
    let Place { node, config, mark, committed } = &place;
    let locked_by_creation = matches!(config.lock.as_deref(), Some("create" | "clone"));
    let given_up = !committed && mark.age(edge.now()) >= FINISH_SECONDS;
    if !given_up && (locked_by_creation || (!committed && config.lock.is_some())) {
        let at = reach::addresses(edge.settings, mark.vmid, None, None);
        let sandbox = shown(edge, mark, node, State::Creating, at, sizes(mark, config));
        return Ok((sandbox, Some(mark.clone())));
    }
    let now = edge.now();
    // A guest that PVE works on may answer nobody, and whoever does not wait is told so at once.
    if let Condition::Working(task) = &seen
        && is_coming_up(mark, now)
        && now >= deadline
    {
        let at = known(edge, config, mark);
        let mut sandbox = shown(edge, mark, node, State::Creating, at, sizes(mark, config));
        sandbox.problem.get_or_insert_with(|| format!("PVE works on it ({})", task.kind));
        return Ok((sandbox, Some(mark.clone())));
    }
    // While PVE works on one that runs, it can be asked whether it is up.
    let unproved = is_coming_up(mark, now) || (*committed && is_unproved(mark, now));
    if (seen.is_running() || config.lock.is_none()) && unproved {
        // A late clone may have brought back what its owner has deleted: the sweep removes that.
        if !committed && was_destroyed(edge, node, mark).await? {
            return Err(not_found(SandboxId::of(mark)));
        }
        let progress = create::carry_on(edge, place, seen, false, deadline).await?;
        let mark = progress.mark.clone();
        return Ok((progressed(edge, progress).await, Some(mark)));
    }
    // While PVE works on it, it is what it shall be.
    let is_working = matches!(seen, Condition::Working(_));
    let running = seen.is_running() || (is_working && mark.want == Want::On);
    let at = match is_working {
        true => known(edge, config, mark),
        false => reach::live_addresses(edge, node, config, mark, running).await,
    };
    let state = if config.is_suspended() { State::Paused } else { state(mark, running, now) };
    let mut sandbox = shown(edge, mark, node, state, at, sizes(mark, config));
    if !committed {
        sandbox.state = State::Error;
        sandbox.problem = Some(match &config.lock {
            None => "its creation was given up before it was finished; the sweep removes it".into(),
            Some(lock) => format!(
                "its creation has crashed and left it locked ({lock}); on node {node} run: {} unlock {}",
                mark.kind.tool(),
                mark.vmid
            ),
        });
    }
    Ok((sandbox, Some(mark.clone())))
}

/// A sandbox as its creation left it.
pub async fn progressed<I: Io>(edge: &Edge<'_, I>, progress: Progress) -> Sandbox {
    let Progress { mark, node, config, running, ready, problem } = progress;
    let now = edge.now();
    let at = match &config {
        Some(config) if ready => reach::live_addresses(edge, &node, config, &mark, true).await,
        Some(config) => known(edge, config, &mark),
        None => reach::addresses(edge.settings, mark.vmid, None, None),
    };
    let state = match (ready, mark.phase) {
        (_, Phase::Error) => State::Error,
        (true, _) => State::Running,
        (false, _) if is_coming_up(&mark, now) => State::Creating,
        (false, _) => state(&mark, running, now),
    };
    let sizes = config.as_ref().map_or(mark.sizes, |config| sizes(&mark, config));
    Sandbox { problem, ..shown(edge, &mark, &node, state, at, sizes) }
}

/// Where it is reached, as far as its config tells: what it has been given at its commit.
fn known<I: Io>(edge: &Edge<'_, I>, config: &Config, mark: &Mark) -> Addresses {
    let ip = config.address().filter(|_| mark.phase != Phase::Claimed);
    reach::addresses(edge.settings, mark.vmid, config.searchdomain.as_deref(), ip)
}

/// A sandbox as a power action left it: `finished` when it is what it shall be.
pub async fn after<I: Io>(edge: &Edge<'_, I>, place: &Place, finished: bool) -> Sandbox {
    let Place { node, config, mark, .. } = place;
    let running = finished && mark.want == Want::On;
    let at = match running {
        true => reach::live_addresses(edge, node, config, mark, true).await,
        false => known(edge, config, mark),
    };
    shown(edge, mark, node, state(mark, running, edge.now()), at, sizes(mark, config))
}

/// A sandbox that is asked about.
fn shown<I: Io>(
    edge: &Edge<'_, I>,
    mark: &Mark,
    node: &str,
    state: State,
    at: Addresses,
    sizes: Sizes,
) -> Sandbox {
    let mut sandbox = Sandbox::new(mark, node, state, at, edge.now());
    (sandbox.cpu, sandbox.memory, sandbox.disk) = (sizes.cpu, sizes.memory, sizes.disk);
    if matches!(state, State::Stopped | State::Paused) {
        let until = lifetime::ends(mark, edge.settings.limits.stopped_max_seconds);
        sandbox.kept_until = until.and_then(|it| OffsetDateTime::from_unix_timestamp(it).ok()).map(stamp);
    }
    sandbox
}

/// What its commit has written, or shall.
fn sizes(mark: &Mark, config: &Config) -> Sizes {
    let has = config.sizes();
    match mark.phase {
        Phase::Claimed => Sizes {
            cpu: mark.sizes.cpu.or(has.cpu),
            memory: mark.sizes.memory.or(has.memory),
            disk: mark.sizes.disk.max(has.disk),
        },
        // The config may be from before the commit; a disk grows after it.
        Phase::Committed if !mark.was_ready => {
            Sizes { cpu: mark.sizes.cpu.or(has.cpu), memory: mark.sizes.memory.or(has.memory), ..has }
        }
        _ => has,
    }
}

/// Refuses a sandbox that is over, or condemned.
pub fn gone<I: Io>(edge: &Edge<'_, I>, mark: &Mark, id: impl Display) -> Result<(), Error> {
    still_there(mark, edge.now(), edge.settings.limits.stopped_max_seconds, id)
}

/// As [`gone`]; `kept` is `EDGE_STOPPED_MAX_SECONDS`.
pub fn still_there(mark: &Mark, now: OffsetDateTime, kept: u32, id: impl Display) -> Result<(), Error> {
    let over = mark.want == Want::Gone || lifetime::time(mark, now, kept) == Time::Over;
    if over { Err(not_found(id)) } else { Ok(()) }
}

/// Claimed, and PVE shows nothing yet.
fn nothing_yet<I: Io>(edge: &Edge<'_, I>, caller: &Caller, id: &SandboxId) -> Sandbox {
    let now = edge.now();
    let at = reach::addresses(edge.settings, id.vmid, None, None);
    Sandbox {
        id: id.to_string(),
        provider: id.provider.name(),
        vmid: Some(id.vmid),
        node: Some(id.node.clone()),
        name: None,
        state: State::Creating,
        problem: None,
        state_may_be_stale: false,
        team: caller.team.to_string(),
        metadata: BTreeMap::new(),
        metadata_incomplete: true,
        created_at: stamp(id.nonce.birth().min(now)),
        expires_at: None,
        expired_at: None,
        kept_until: None,
        on_expiry: OnExpiry::Delete,
        cpu: None,
        memory: None,
        disk: None,
        snapshot_id: None,
        template_vmid: None,
        services: served(id.kind(), at.services),
        viewers: at.viewers,
    }
}

fn offline<I: Io>(edge: &Edge<'_, I>, guest: &Guest, id: &SandboxId) -> Result<Sandbox, Error> {
    let Some(listed) = &guest.ours else { return Err(not_found(id)) };
    gone(edge, &listed.mark, id)?;
    Ok(item(edge, guest, listed, true))
}
