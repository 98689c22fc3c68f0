//! Reading sandboxes: one exactly, or all of them from one listing.

mod list;

use std::collections::BTreeMap;

use futures_util::future::join;
use time::OffsetDateTime;

pub use self::list::list;
use self::list::{FRESH_SECONDS, show_listed};
use super::{
    api::{PveError, cluster::Resource, config::Config, task::Task},
    cluster::Cluster,
    create::{self, Progress},
    guest::{
        Located,
        condition::{Condition, condition, condition_beside},
        copied::failed_copy,
        located::{Found, find, was_destroyed},
        needs::{Need, ensure_alive},
        reach, repair,
    },
    inventory::{Guest, Inventory},
    marks::{
        Mark, Phase, Want, lifetime,
        state::{is_coming_up, is_unproved, state},
    },
};
pub use crate::sandbox::listing::{Filter, Page};
use crate::{
    access::keys::Caller,
    error::{Code, Error},
    io::{Io, deadline::Deadline},
    sandbox::{
        Addresses, FINISH_SECONDS, OnExpiry, Sandbox, Service, Shown, Sizes, State,
        channel::Channel,
        id::{Kind, SandboxId, not_found},
        offer::Offer,
    },
    text::rfc3339::stamp,
};

/// One sandbox, exactly, and the mark for its ETag. A sandbox that is still
/// coming up is carried on until `deadline`; what was stopped stays stopped.
pub async fn get<I: Io>(
    cluster: &Cluster<'_, I>,
    caller: &Caller,
    id: &SandboxId,
    deadline: Deadline<'_, I>,
) -> Result<Shown, Error> {
    let (found, tasks) = join(find(cluster, caller, id), active_tasks(cluster, id)).await;
    let found = match found {
        Ok(Found::Here(found)) => *found,
        Ok(Found::Moved(found, row)) => {
            found.needs(cluster, &[Need::Alive])?;
            let seen = condition_by_listing(cluster, &found, &row).await?;
            return show_exactly(cluster, repair::settle(cluster, *found).await?, seen, deadline).await;
        }
        Ok(Found::NotYet) => {
            let problem = failed_copy(cluster, id, false).await.map(|it| it.to_string());
            let claimed = Sandbox { problem, ..show_claimed(cluster, caller, id) };
            return Ok(without_etag(claimed));
        }
        Ok(Found::Offline(guest)) => return Ok(without_etag(show_offline(cluster, &guest, id)?)),
        Err(error) if error.code() == Code::StillCreating => {
            return Ok(without_etag(show_claimed(cluster, caller, id)));
        }
        Err(error) => return Err(error),
    };
    found.needs(cluster, &[Need::Alive])?;
    let seen = match tasks {
        _ if !found.committed => Condition::Stopped,
        Some(tasks) => condition_beside(cluster, tasks, &found).await?,
        None => condition(cluster, &found).await?,
    };
    show_exactly(cluster, repair::settle(cluster, found).await?, seen, deadline).await
}

/// A sandbox whose mark was just changed.
pub async fn show_changed<I: Io>(cluster: &Cluster<'_, I>, found: Located) -> Result<Shown, Error> {
    let seen = condition(cluster, &found).await?;
    show_exactly(cluster, found, seen, cluster.at_once()).await
}

/// The condition of a sandbox that a listing has found: as the listing says, which may be late by some
/// seconds, unless
/// it was started or stopped a moment ago.
async fn condition_by_listing<I: Io>(
    cluster: &Cluster<'_, I>,
    found: &Located,
    row: &Resource,
) -> Result<Condition, Error> {
    let mark = &found.mark;
    Ok(match row.status.as_str() {
        _ if !found.committed => Condition::Stopped,
        "running" if mark.settled_for(cluster.now()) >= FRESH_SECONDS => Condition::Running,
        "stopped" if mark.settled_for(cluster.now()) >= FRESH_SECONDS => Condition::Stopped,
        _ => condition(cluster, found).await?,
    })
}

/// The tasks that work on a sandbox, asked for while its config is read, where the id tells its node.
async fn active_tasks<I: Io>(
    cluster: &Cluster<'_, I>,
    id: &SandboxId,
) -> Option<Result<Vec<Task>, PveError>> {
    if id.node.is_empty() {
        return None;
    }
    Some(cluster.send(cluster.pve.active_on(&id.node, id.vmid)).await)
}

/// The state of a guest whose config is at hand.
async fn show_exactly<I: Io>(
    cluster: &Cluster<'_, I>,
    found: Located,
    seen: Condition,
    deadline: Deadline<'_, I>,
) -> Result<Shown, Error> {
    let Located { node, config, mark, committed } = &found;
    let locked_by_creation = matches!(config.lock.as_deref(), Some("create" | "clone"));
    let given_up = !committed && mark.age(cluster.now()) >= FINISH_SECONDS;
    if !given_up && (locked_by_creation || (!committed && config.lock.is_some())) {
        let at = reach::addresses(cluster.settings, (mark.vmid, Some(&mark.services)), None, None);
        let sandbox = show(cluster, mark, node, State::Creating, at, sizes(mark, config));
        return Ok(with_etag(sandbox, mark));
    }
    let now = cluster.now();
    // A guest that PVE works on may answer nobody, and whoever does not wait is told so at once.
    if let Condition::Working(task) = &seen
        && is_coming_up(mark, now)
        && deadline.has_passed()
    {
        let at = known_addresses(cluster, config, mark);
        let mut sandbox = show(cluster, mark, node, State::Creating, at, sizes(mark, config));
        sandbox.problem.get_or_insert_with(|| format!("PVE works on it ({})", task.kind));
        return Ok(with_etag(sandbox, mark));
    }
    // While PVE works on one that runs, it can be asked whether it is up.
    let unproved = is_coming_up(mark, now) || (*committed && is_unproved(mark, now));
    if (seen.is_running() || config.lock.is_none()) && unproved {
        // A late clone may have brought back what its owner has deleted: the sweep removes that.
        if !committed && was_destroyed(cluster, node, mark).await? {
            return Err(not_found(mark.id()));
        }
        let progress = create::carry_on(cluster, found, seen, false, deadline).await?;
        return Ok(show_progress(cluster, progress).await);
    }
    // While PVE works on it, it is what it shall be.
    let is_working = matches!(seen, Condition::Working(_));
    let running = seen.is_running() || (is_working && mark.want == Want::On);
    let at = match is_working {
        true => known_addresses(cluster, config, mark),
        false => reach::live_addresses(cluster, &found, running).await,
    };
    let state = if config.is_suspended() { State::Paused } else { state(mark, running, now) };
    let mut sandbox = show(cluster, mark, node, state, at, sizes(mark, config));
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
    Ok(with_etag(sandbox, mark))
}

/// A sandbox as its creation left it.
pub async fn show_progress<I: Io>(cluster: &Cluster<'_, I>, progress: Progress) -> Shown {
    let Progress { mark, node, config, running, ready, problem } = progress;
    let now = cluster.now();
    let at = match &config {
        Some(config) if ready => {
            let (node, config, mark) = (node.clone(), config.clone(), mark.clone());
            reach::live_addresses(cluster, &Located { node, config, mark, committed: true }, true).await
        }
        Some(config) => known_addresses(cluster, config, &mark),
        None => reach::addresses(cluster.settings, (mark.vmid, Some(&mark.services)), None, None),
    };
    let state = match (ready, mark.phase) {
        (_, Phase::Error) => State::Error,
        (true, _) => State::Running,
        (false, _) if is_coming_up(&mark, now) => State::Creating,
        (false, _) => state(&mark, running, now),
    };
    let sizes = config.as_ref().map_or(mark.sizes, |config| sizes(&mark, config));
    with_etag(Sandbox { problem, ..show(cluster, &mark, &node, state, at, sizes) }, &mark)
}

/// The addresses of a sandbox as far as its config tells, once its commit has given it one.
fn known_addresses<I: Io>(cluster: &Cluster<'_, I>, config: &Config, mark: &Mark) -> Addresses {
    let ip = config.address().filter(|_| mark.phase != Phase::Claimed);
    reach::addresses(cluster.settings, (mark.vmid, Some(&mark.services)), config.searchdomain.as_deref(), ip)
}

/// A sandbox as a power action left it: `finished` when it is what it shall be.
pub async fn show_after<I: Io>(cluster: &Cluster<'_, I>, found: &Located, finished: bool) -> Shown {
    let Located { node, config, mark, .. } = found;
    let running = finished && mark.want == Want::On;
    let at = match running {
        true => reach::live_addresses(cluster, found, true).await,
        false => known_addresses(cluster, config, mark),
    };
    with_etag(show(cluster, mark, node, state(mark, running, cluster.now()), at, sizes(mark, config)), mark)
}

fn with_etag(sandbox: Sandbox, mark: &Mark) -> Shown {
    Shown { sandbox, etag: Some(mark.etag()) }
}

/// A sandbox whose mark nobody has read: it has no ETag yet.
fn without_etag(sandbox: Sandbox) -> Shown {
    Shown { sandbox, etag: None }
}

/// A sandbox that is asked about.
fn show<I: Io>(
    cluster: &Cluster<'_, I>,
    mark: &Mark,
    node: &str,
    state: State,
    at: Addresses,
    sizes: Sizes,
) -> Sandbox {
    let mut sandbox = sandbox(mark, node, state, at, cluster.now());
    (sandbox.cpu, sandbox.memory, sandbox.disk) = (sizes.cpu, sizes.memory, sizes.disk);
    if matches!(state, State::Stopped | State::Paused) {
        let until = lifetime::ends(mark, cluster.settings.limits.stopped_max_seconds);
        sandbox.kept_until = until.and_then(|it| OffsetDateTime::from_unix_timestamp(it).ok()).map(stamp);
    }
    sandbox
}

/// The sizes of a sandbox, as its commit writes them.
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

/// Claimed, and PVE shows nothing yet.
fn show_claimed<I: Io>(cluster: &Cluster<'_, I>, caller: &Caller, id: &SandboxId) -> Sandbox {
    let now = cluster.now();
    let at = reach::addresses(cluster.settings, (id.vmid, None), None, None);
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
        commands: None,
        capabilities: &[],
        cpu: None,
        memory: None,
        disk: None,
        snapshot_id: None,
        template_vmid: None,
        services: served(id.kind(), at.services),
        viewers: at.viewers,
    }
}

fn show_offline<I: Io>(cluster: &Cluster<'_, I>, guest: &Guest, id: &SandboxId) -> Result<Sandbox, Error> {
    let Some(listed) = &guest.ours else { return Err(not_found(id)) };
    ensure_alive(cluster, &listed.mark)?;
    Ok(show_listed(cluster, guest, listed, true))
}

/// No exec daemon listens in a VM.
pub fn served(kind: Kind, mut services: Vec<Service>) -> Vec<Service> {
    services.retain(|it| kind == Kind::Lxc || it.name != "exec");
    services
}

/// A sandbox from its mark; state and services as the caller knows them.
pub(super) fn sandbox(mark: &Mark, node: &str, state: State, at: Addresses, now: OffsetDateTime) -> Sandbox {
    let over = mark.is_expired(now);
    let expires = mark.expires_at().map(stamp);
    Sandbox {
        id: mark.id().to_string(),
        provider: mark.kind.provider().name(),
        vmid: Some(mark.vmid),
        node: Some(node.to_owned()),
        name: mark.name.clone(),
        state,
        problem: mark.problem.clone(),
        state_may_be_stale: false,
        team: mark.team.clone(),
        metadata: mark.metadata.clone(),
        metadata_incomplete: false,
        created_at: stamp(mark.birth()),
        expired_at: expires.clone().filter(|_| over),
        expires_at: expires,
        kept_until: None,
        on_expiry: mark.on_expiry,
        commands: mark.channel(),
        capabilities: mark.channel().map_or(&[], Channel::capabilities),
        cpu: None,
        memory: None,
        disk: None,
        snapshot_id: mark.snapshot.clone(),
        template_vmid: mark.template,
        services: served(mark.kind, at.services),
        viewers: at.viewers,
    }
}

/// The answer, from one listing.
pub async fn config<I: Io>(cluster: &Cluster<'_, I>) -> Result<Offer, Error> {
    let inventory = Inventory::read(cluster).await?;
    inventory.believe(cluster).await?;
    let templates = inventory.templates(cluster.settings);
    let ids = templates.into_iter().filter_map(|it| it.snapshot);
    Ok(Offer::new(
        cluster.settings.provider,
        (cluster.platform.streams, cluster.platform.upgrades),
        cluster.settings.public_domain.as_ref(),
        cluster.settings.server_origin.as_deref(),
        ids.filter(|it| it.provider == cluster.settings.provider).collect(),
    ))
}
