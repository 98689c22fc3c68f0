//! Creating a sandbox: claim a VMID by a clone, then finish what it started.
//!
//! Level-triggered: the clone carries the intent, one PUT before the start is the commit, and every step
//! between may run twice and die anywhere (rule S2.12).

mod claim;
mod daemon;
mod failed;
mod finish;
mod grow;
mod queue;
mod rival;
mod source;
pub(crate) mod spread;
mod step;
mod up;

use time::OffsetDateTime;

pub(crate) use self::{
    failed::give_up,
    finish::{carry_on, finish},
    up::{Up, start_and_probe},
};
use super::{
    api::{config::Config, task::Upid},
    cluster::Cluster,
    guest::{Located, claimed::read_claimed, located::was_destroyed},
    inventory::{Inventory, Template},
    marks::{
        Mark, Want,
        lifetime::{self, Time},
    },
    quota, reserve,
};
use crate::{
    access::keys::Caller,
    error::{Code, Error},
    io::{Io, deadline::Deadline, pace},
    sandbox::{
        OnExpiry, Sizes,
        creation::{CreateRequest, Key},
        id::{SandboxId, SourceId},
        nonce::Origin,
        quota::ensure_admitted,
        vmid::Vmid,
    },
    settings::Settings,
};

/// The result of a creation.
#[derive(Debug)]
pub struct Created {
    /// The sandbox's mark and place.
    pub progress: Progress,
    /// Whether an earlier request with the same key made it.
    pub replayed: bool,
}

/// How far a sandbox has come.
#[derive(Debug)]
pub struct Progress {
    /// Its mark.
    pub mark: Mark,
    /// Its node.
    pub node: String,
    /// Its config, where it was read.
    pub config: Option<Config>,
    /// Whether PVE says that it runs, where that was asked.
    pub running: bool,
    /// Whether it refused a wrong exec token and took ours.
    pub ready: bool,
    /// Why it has not come up yet, where anybody said.
    pub problem: Option<String>,
}

/// A guest that is claimed: it exists, or a clone that makes it is on its way.
#[derive(Debug)]
pub(crate) struct Claimed {
    node: String,
    mark: Mark,
    /// The clone's task, where PVE's answer arrived.
    task: Option<Upid>,
    /// Whether anybody has seen the guest.
    seen: bool,
    /// The error that came instead of an answer to the clone.
    cause: Option<Error>,
}

/// Creates a sandbox, or answers the one that the same key made before.
///
/// Returns when it is ready or `deadline` has passed; whatever is missing
/// then is done by the next request that asks for it.
pub async fn create<I: Io>(
    cluster: &Cluster<'_, I>,
    caller: &Caller,
    request: &CreateRequest,
    key: Option<&str>,
    deadline: Deadline<'_, I>,
) -> Result<Created, Error> {
    let Settings { secrets, deployment, .. } = cluster.settings;
    if let Some(SourceId::Own(id)) = &request.snapshot_id {
        id.prove(secrets, deployment).ok_or_else(|| source::no_snapshot(id))?;
    }
    ensure_admitted(cluster, deployment, caller).await?;
    let inventory = Inventory::read(cluster).await?;
    inventory.believe(cluster).await?;
    let Some(key) = key else { return make(cluster, caller, request, None, &inventory, deadline).await };
    let text = request.canonical();
    let key = Key::new(secrets, deployment, caller, "idempotency-key", key, &text);
    let found = find_replay(cluster, caller, &inventory, &key, deadline).await?;
    let mut made = match found {
        Some(found) => replay(cluster, found, deadline).await,
        None => make(cluster, caller, request, Some(&key), &inventory, deadline).await,
    };
    let mut wait = deadline.keeping(reserve::CLAIM).paced(pace::RETRY);
    // Another request with this key makes it, unless that one has given way as well (rule S2.8).
    while made.as_ref().is_err_and(|it| it.code() == Code::KeyInUse) && wait.pause().await {
        let inventory = Inventory::read(cluster).await?;
        match find_replay(cluster, caller, &inventory, &key, deadline).await? {
            Some(found) => match replay(cluster, found, deadline).await {
                // It gives way at this moment.
                Err(error) if matches!(error.code(), Code::NotFound | Code::CloneFailed) => {}
                replayed => made = replayed,
            },
            None => break,
        }
    }
    made
}

/// Finishes the sandbox that this key made before.
async fn replay<I: Io>(
    cluster: &Cluster<'_, I>,
    found: Located,
    deadline: Deadline<'_, I>,
) -> Result<Created, Error> {
    let deadline = found.mark.expires_at().map_or(deadline, |it| deadline.at_most(it));
    ensure_in_time(cluster, finish(cluster, Claimed::of(found), deadline).await?, true)
}

/// Claims a VMID and finishes the sandbox there.
async fn make<I: Io>(
    cluster: &Cluster<'_, I>,
    caller: &Caller,
    request: &CreateRequest,
    key: Option<&Key>,
    inventory: &Inventory,
    deadline: Deadline<'_, I>,
) -> Result<Created, Error> {
    inventory.room_for_tags()?;
    let sources = source::sources(cluster, inventory, caller, request)?;
    let asked = sources.first().map(|source| {
        let template = inventory.guest(source.vmid);
        quota::filled(sizes(request, source), template)
    });
    let asked = asked.unwrap_or_default();
    quota::check(inventory, caller.team.as_str(), asked, &cluster.settings.limits, cluster.now())?;
    let free = source::free_vmids(cluster, inventory, key.map(|it| it.hash))?;
    let ttl = request.ttl(&cluster.settings.limits)?;
    // Its time counts from the request; who still waits then is told so (rule S2.15).
    let expires = ttl.after(cluster.born().unix_timestamp());
    let is_late = || expires.is_some_and(|it| it <= cluster.now().unix_timestamp());
    let deadline = expires.and_then(at).map_or(deadline, |it| deadline.at_most(it));
    let intent = |vmid, node: &str, source: &Template| Mark {
        expires,
        span: ttl.seconds(),
        ..intent(cluster, caller, request, key, vmid, node, source)
    };
    let claimed = match claim::claim(cluster, inventory, &sources, &free, intent, deadline).await {
        Err(error) if is_late() && error.is_retryable() => return Err(time_is_over(None)),
        claimed => claimed?,
    };
    // A claim that another request with the same key made first carries that one's nonce.
    let replayed = claimed.mark.nonce.origin() != Origin::of(cluster);
    if let Some(key) = key.filter(|_| replayed) {
        key.check(claimed.mark.body.as_deref())?;
    }
    ensure_in_time(cluster, finish(cluster, claimed, deadline).await?, replayed)
}

fn at(seconds: i64) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp(seconds).ok()
}

/// The result of a creation, unless the sandbox's time was over before it came up.
fn ensure_in_time<I: Io>(
    cluster: &Cluster<'_, I>,
    progress: Progress,
    replayed: bool,
) -> Result<Created, Error> {
    let mark = &progress.mark;
    let kept = cluster.settings.limits.stopped_max_seconds;
    if !progress.ready && lifetime::time(mark, cluster.now(), kept) == Time::Over {
        return Err(time_is_over(Some(&mark.id())));
    }
    Ok(Created { progress, replayed })
}

fn time_is_over(id: Option<&SandboxId>) -> Error {
    let error = Error::new(
        Code::Over,
        "its ttlSeconds, which count from the request, were over before it came up; what was made is removed",
    );
    match id {
        Some(id) => error.member("sandboxId", id.to_string()),
        None => error,
    }
}

/// The sandbox that this key made before, if any.
async fn find_replay<I: Io>(
    cluster: &Cluster<'_, I>,
    caller: &Caller,
    inventory: &Inventory,
    key: &Key,
    deadline: Deadline<'_, I>,
) -> Result<Option<Located>, Error> {
    let listed = inventory.guests.iter().find(|guest| {
        guest
            .ours
            .as_ref()
            .is_some_and(|it| it.mark.key == Some(key.hash) && it.mark.team == caller.team.as_str())
    });
    // A claim that is not committed has no head tag yet; its VMID is one that the key draws.
    let unmarked =
        source::vmids_of_key(cluster, inventory, key.hash).filter_map(|vmid| inventory.guest(vmid));
    let unmarked: Vec<_> = unmarked.filter(|it| it.ours.is_none()).collect();
    for guest in listed.into_iter().chain(unmarked) {
        let Some((node, config)) = read_claimed(cluster, guest, deadline).await? else { continue };
        let Some(found) = Located::of(&node, guest.vmid, config) else { continue };
        let mark = &found.mark;
        let same = mark.key == Some(key.hash) && mark.team == caller.team.as_str();
        if !same || !mark.is_seen_by(caller, &cluster.settings.deployment) {
            continue;
        }
        // A late clone may have brought back what its owner has deleted.
        if !found.committed && was_destroyed(cluster, &node, mark).await? {
            continue;
        }
        key.check(mark.body.as_deref())?;
        if mark.is_expired(cluster.now()) || mark.want == Want::Gone {
            return Err(Error::new(
                Code::Expired,
                "the sandbox that this Idempotency-Key made has expired; use a new key to make another",
            ));
        }
        return Ok(Some(found));
    }
    Ok(None)
}

/// The mark of the guest that a clone to `vmid` shall make.
fn intent<I: Io>(
    cluster: &Cluster<'_, I>,
    caller: &Caller,
    request: &CreateRequest,
    key: Option<&Key>,
    vmid: Vmid,
    node: &str,
    source: &Template,
) -> Mark {
    let newest = cluster.settings.secrets.newest();
    let (deployment, team) = (&cluster.settings.deployment, &caller.team);
    let mut mark = Mark {
        node: node.to_owned(),
        on_expiry: request.on_expiry.unwrap_or(OnExpiry::Delete),
        key: key.map(|it| it.hash),
        body: key.and_then(Key::request_hash),
        secret: Some(newest.name().to_owned()),
        name: request.name.clone(),
        template: Some(source.vmid),
        snapshot: match (&source.snapshot, &source.own) {
            (Some(preset), _) => Some(SourceId::Preset(preset.clone())),
            (None, Some(own)) => Some(SourceId::Own(own.id().into())),
            (None, None) => None,
        },
        sizes: sizes(request, source),
        metadata: request.metadata.clone(),
        ..Mark::claimed(deployment, team.as_str(), vmid, source.kind, cluster.nonce(source.kind, vmid))
    };
    // Empty: there is none, and another's may be on the disk.
    let (vmid, nonce) = (mark.vmid.to_string(), mark.nonce.to_string());
    let whose = [&*mark.deployment, &vmid, &nonce, &mark.team];
    mark.env = request.env.seal(newest, &whose).or_else(|| source.own.as_ref().map(|_| String::new()));
    mark
}

/// The sizes that the request asks for, else those in the preset's name.
fn sizes(request: &CreateRequest, source: &Template) -> Sizes {
    let preset = source.snapshot.as_ref().and_then(|it| it.preset.sizes());
    Sizes {
        cpu: request.cpu.or(preset.map(|it| it.cores)),
        memory: request.memory.or(preset.map(|it| it.memory_mib)),
        disk: request.disk.or(preset.map(|it| it.disk_gib)),
    }
}

impl Claimed {
    /// A guest that another request claimed.
    pub(crate) fn of(found: Located) -> Self {
        Self { node: found.node, mark: found.mark, task: None, seen: true, cause: None }
    }
}
