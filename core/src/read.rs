//! Reading sandboxes: one exactly, or all of them from one listing.

use std::collections::BTreeMap;

use serde::Serialize;
use time::OffsetDateTime;

use crate::{
    auth::Caller,
    create::{self, Progress},
    edge::Edge,
    error::{Code, Error},
    inventory::{Guest, Inventory},
    io::Io,
    marks::{Mark, OnExpiry, Phase, Want},
    place::{Found, Place, find, may, not_found, was_destroyed},
    reach, rollback,
    sandbox::{FINISH_SECONDS, Sandbox, SandboxId, State, is_coming_up, served, state},
    vmid::Vmid,
};

/// A listing's status may be older than what was done to the guest, or another's that had its VMID.
const FRESH_SECONDS: i64 = 15;
/// The expiry in a tag may lag behind the description's by this much.
const TAG_SLACK_SECONDS: i64 = 60;

/// One sandbox, exactly, and the mark for its ETag. A sandbox that is still
/// coming up is carried on until `deadline`; what was stopped stays stopped.
pub async fn get<I: Io>(
    edge: &Edge<'_, I>,
    caller: &Caller,
    id: &SandboxId,
    deadline: OffsetDateTime,
) -> Result<(Sandbox, Option<Mark>), Error> {
    let place = match find(edge, caller, id).await {
        Ok(Found::Here(place)) => *place,
        Ok(Found::NotYet) => return Ok((nothing_yet(edge, caller, id), None)),
        Ok(Found::Offline(guest)) => return Ok((offline(edge, &guest, id)?, None)),
        Err(error) if error.code() == Code::StillCreating => {
            return Ok((nothing_yet(edge, caller, id), None));
        }
        Err(error) => return Err(error),
    };
    gone(&place.mark, edge.now(), id)?;
    exact(edge, rollback::settle(edge, place).await?, deadline).await
}

/// The state of a guest whose config is at hand.
async fn exact<I: Io>(
    edge: &Edge<'_, I>,
    place: Place,
    deadline: OffsetDateTime,
) -> Result<(Sandbox, Option<Mark>), Error> {
    let Place { node, config, mark, committed } = &place;
    let locked_by_creation = matches!(config.lock.as_deref(), Some("create" | "clone"));
    let given_up = !committed && mark.age(edge.now()) >= FINISH_SECONDS;
    if !given_up && (locked_by_creation || (!committed && config.lock.is_some())) {
        let at = reach::addresses(edge.settings, mark.vmid, None, None);
        let sandbox = Sandbox::new(mark, node, State::Creating, at, edge.now());
        return Ok((sandbox, Some(mark.clone())));
    }
    let running = if *committed {
        edge.send(edge.pve.guest(node, mark.kind, mark.vmid).status()).await?.status == "running"
    } else {
        false
    };
    let now = edge.now();
    // While PVE works on one that runs, it can be asked whether it is up.
    if (running || config.lock.is_none()) && is_coming_up(mark, now) {
        // A late clone may have brought back what its owner has deleted: the sweep removes that.
        if !committed && was_destroyed(edge, node, mark).await? {
            return Err(not_found(SandboxId::of(mark)));
        }
        let progress = create::carry_on(edge, place, running, false, deadline).await?;
        let mark = progress.mark.clone();
        return Ok((progressed(edge, progress).await, Some(mark)));
    }
    let at = reach::live_addresses(edge, node, config, mark, running).await;
    let state = if config.is_suspended() { State::Paused } else { state(mark, running, now) };
    let mut sandbox = Sandbox::new(mark, node, state, at, now);
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
    let Progress { mark, node, config, running, ready } = progress;
    let now = edge.now();
    let at = match &config {
        Some(config) if ready => reach::live_addresses(edge, &node, config, &mark, true).await,
        // What it has been given, where that was read after its commit.
        Some(config) => {
            let ip = config.address().filter(|_| mark.phase != Phase::Claimed);
            reach::addresses(edge.settings, mark.vmid, config.searchdomain.as_deref(), ip)
        }
        None => reach::addresses(edge.settings, mark.vmid, None, None),
    };
    let state = match (ready, mark.phase) {
        (_, Phase::Error) => State::Error,
        (true, _) => State::Running,
        (false, _) if is_coming_up(&mark, now) => State::Creating,
        (false, _) => state(&mark, running, now),
    };
    Sandbox::new(&mark, &node, state, at, now)
}

/// Refuses a sandbox that is over: expired and to be deleted, or condemned.
pub fn gone(mark: &Mark, now: OffsetDateTime, id: impl std::fmt::Display) -> Result<(), Error> {
    let over = mark.is_expired(now) && mark.on_expiry == OnExpiry::Delete;
    if over || mark.want == Want::Gone { Err(not_found(id)) } else { Ok(()) }
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
        created_at: crate::sandbox::stamp(id.nonce.birth().min(now)),
        expires_at: None,
        expired_at: None,
        on_expiry: OnExpiry::Delete,
        snapshot_id: None,
        template_vmid: None,
        services: served(id.kind(), at.services),
        viewers: at.viewers,
    }
}

fn offline<I: Io>(edge: &Edge<'_, I>, guest: &Guest, id: &SandboxId) -> Result<Sandbox, Error> {
    let Some(listed) = &guest.ours else { return Err(not_found(id)) };
    gone(&listed.mark, edge.now(), id)?;
    Ok(item(edge, guest, &listed.mark, listed.complete, true, edge.now()))
}

/// What to list.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// All of them must be there, with these values.
    pub metadata: BTreeMap<String, String>,
    /// Only these.
    pub state: Option<State>,
    /// At most so many.
    pub limit: usize,
    /// Only those after the last one of an earlier page.
    pub after: Option<String>,
}

/// A page of sandboxes.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Page {
    /// By VMID; of Morph by id.
    pub items: Vec<Sandbox>,
    /// For the next page.
    pub next_cursor: Option<String>,
}

/// The page that it names is of no listing of ours.
pub(crate) fn bad_cursor() -> Error {
    Error::field("cursor", "is the nextCursor of an earlier page")
}

/// The caller's sandboxes, from one listing.
pub async fn list<I: Io>(edge: &Edge<'_, I>, caller: &Caller, filter: &Filter) -> Result<Page, Error> {
    let after: Option<Vmid> =
        filter.after.as_deref().map(str::parse).transpose().map_err(|_| bad_cursor())?;
    let inventory = Inventory::read(edge).await?;
    inventory.believe(edge).await?;
    let now = edge.now();
    let mut items = Vec::new();
    let mut next_cursor = None;
    for guest in &inventory.guests {
        let Some(listed) = &guest.ours else { continue };
        let mark = &listed.mark;
        if after.is_some_and(|after| guest.vmid <= after) || !may(caller, mark, &edge.settings.deployment) {
            continue;
        }
        let lenient = now - time::Duration::seconds(TAG_SLACK_SECONDS);
        // Tags that may be a snapshot's tell no time.
        if mark.doing.is_none() && gone(mark, lenient, "").is_err() {
            continue;
        }
        let matches = filter.metadata.iter().all(|(key, value)| mark.metadata.get(key) == Some(value));
        if !matches {
            continue;
        }
        let is_offline = !inventory.is_online(&guest.row.node);
        let item = item(edge, guest, mark, listed.complete, is_offline, now);
        if filter.state.is_some_and(|wanted| wanted != item.state) {
            continue;
        }
        if items.len() == filter.limit {
            next_cursor = items.last().and_then(|it: &Sandbox| it.vmid).map(|it| it.to_string());
            break;
        }
        items.push(item);
    }
    Ok(Page { items, next_cursor })
}

fn item<I: Io>(
    edge: &Edge<'_, I>,
    guest: &Guest,
    mark: &Mark,
    complete: bool,
    is_offline: bool,
    now: OffsetDateTime,
) -> Sandbox {
    let running = guest.row.status == "running";
    let unknown = guest.row.status == "unknown" || guest.row.status.is_empty();
    let state = if is_offline {
        State::Error
    } else if guest.row.lock.as_deref() == Some("suspended") {
        State::Paused
    } else if mark.settled_for(now) < FRESH_SECONDS {
        state(mark, mark.want == Want::On && mark.phase == Phase::Ready, now)
    } else {
        state(mark, running || (unknown && mark.want == Want::On), now)
    };
    let at = reach::addresses(edge.settings, guest.vmid, None, None);
    let mut sandbox = Sandbox::new(mark, &guest.row.node, state, at, now);
    sandbox.state_may_be_stale = true;
    sandbox.metadata_incomplete = !complete || mark.doing.is_some();
    if is_offline {
        sandbox.problem = Some(format!("node-offline: node {} is offline", guest.row.node));
    } else if !is_proved(edge, mark) {
        sandbox.state = State::Error;
        sandbox.problem = Some(
            "no secret of EDGE_SECRET proves its id, and each request for it is 404: was the one that made it \
             removed?"
                .into(),
        );
    } else if state == State::Error {
        sandbox.problem = Some("it did not come up; GET it for the cause".into());
    }
    sandbox
}

fn is_proved<I: Io>(edge: &Edge<'_, I>, mark: &Mark) -> bool {
    mark.nonce.proved_by(&edge.settings.secrets, &mark.deployment, mark.kind, mark.vmid).is_some()
}
