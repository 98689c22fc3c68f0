//! Finding one guest and proving whose it is (rule S6.1).

use crate::{
    access::keys::Caller,
    error::{Code, Error},
    io::Io,
    pve::{
        api::{LATE_SECONDS, PveError, cluster::Resource, config::Config},
        cluster::Cluster,
        inventory::{Guest, Inventory},
        marks::{Mark, Reading, Role, Want},
    },
    sandbox::{
        id::{Kind, SandboxId, not_found},
        nonce::Nonce,
        vmid::Vmid,
    },
};

/// One guest, where it is, read a moment ago.
#[derive(Clone, Debug)]
pub struct Place {
    /// Its node now.
    pub node: String,
    /// Its config.
    pub config: Config,
    /// Its mark.
    pub mark: Mark,
    /// Whether the mark is more than an intent.
    pub committed: bool,
}

/// Where a sandbox is.
#[derive(Clone, Debug)]
pub enum Found {
    /// There, and the caller's.
    Here(Box<Place>),
    /// There, and the caller's, on another node than its id says; a listing told, whose word it is.
    Moved(Box<Place>, Box<Resource>),
    /// Nowhere yet, and too young to be given up.
    NotYet,
    /// On a node that is offline; the listing's word for it.
    Offline(Box<Guest>),
}

/// Finds a sandbox and proves that it is the caller's; anything else is 404.
pub async fn find<I: Io>(cluster: &Cluster<'_, I>, caller: &Caller, id: &SandboxId) -> Result<Found, Error> {
    if !id.node.is_empty() {
        match cluster.send(cluster.pve.guest(&id.node, id.kind(), id.vmid).config()).await {
            Ok(config) => return prove(cluster, caller, id, &id.node, config).map(Found::here),
            Err(error) if error.is_missing() || error.is_node_silent() || error.is_late() => {}
            Err(error) => return Err(not_ours_to_see(error)),
        }
    }
    // A guest that its node does not know may have moved, and may move again meanwhile: only a listing that
    // lacks it, read afterwards, proves that it is gone (rule S6.2).
    for _ in 0..3 {
        let inventory = Inventory::read(cluster).await?;
        let Some(guest) = inventory.guest(id.vmid) else {
            inventory.believe(cluster).await?;
            return absent(cluster, id).await;
        };
        let node = guest.row.node.as_str();
        if !inventory.is_online(node) {
            return match &guest.ours {
                Some(it)
                    if it.mark.nonce == id.nonce
                        && it.mark.is_seen_by(caller, &cluster.settings.deployment) =>
                {
                    Ok(Found::Offline(Box::new(guest.clone())))
                }
                _ => Err(not_found(id)),
            };
        }
        match cluster.send(cluster.pve.guest(node, id.kind(), id.vmid).config()).await {
            Ok(config) => {
                let place = prove(cluster, caller, id, node, config)?;
                return Ok(Found::Moved(Box::new(place), Box::new(guest.row.clone())));
            }
            // A guest of another kind of that number is a stranger.
            Err(error) if error.is_missing() && guest.kind == id.kind() => {}
            Err(error) => return Err(not_ours_to_see(error)),
        }
    }
    Err(Error::new(Code::Conflict, format!("{id} keeps moving; ask again")).retry_after(1))
}

/// As [`find`], for what cannot be done to a sandbox that is not there.
pub async fn place<I: Io>(cluster: &Cluster<'_, I>, caller: &Caller, id: &SandboxId) -> Result<Place, Error> {
    match find(cluster, caller, id).await? {
        Found::Here(place) | Found::Moved(place, _) => Ok(*place),
        Found::NotYet => Err(Error::new(
            Code::StillCreating,
            format!("{id} was claimed and PVE has not made it yet; ask again"),
        )
        .retry_after(3)),
        Found::Offline(guest) => Err(offline(&guest.row.node)),
    }
}

/// The sandbox's node is offline (rule S6.5).
pub fn offline(node: &str) -> Error {
    Error::new(Code::NodeOffline, format!("node {node} is offline; the sandbox comes back with it"))
        .retry_after(30)
}

/// What its owner has to do before it runs commands.
pub(crate) fn not_running(mark: &Mark) -> Error {
    let id = mark.id();
    let text = match mark.want {
        Want::Paused => format!("{id} is paused: resume it first"),
        _ => format!("{id} is stopped: start it first"),
    };
    Error::new(Code::NotRunning, text)
}

impl Found {
    fn here(place: Place) -> Self {
        Self::Here(Box::new(place))
    }
}

fn prove<I: Io>(
    cluster: &Cluster<'_, I>,
    caller: &Caller,
    id: &SandboxId,
    node: &str,
    config: Config,
) -> Result<Place, Error> {
    let reading = Reading::of(id.vmid, &config);
    let committed = matches!(reading, Reading::Committed(_));
    match reading {
        Reading::Intent(mark) | Reading::Committed(mark)
            if mark.nonce == id.nonce
                && mark.kind == id.kind()
                && mark.role == Role::Sandbox
                && mark.is_seen_by(caller, &cluster.settings.deployment) =>
        {
            Ok(Place { node: node.to_owned(), config, mark, committed })
        }
        // The first moment of a clone: locked, and its description not written yet.
        Reading::Foreign if config.is_unknown_yet() && is_young(cluster, id) => {
            Err(Error::new(Code::StillCreating, format!("{id} is being claimed; ask again")).retry_after(1))
        }
        _ => Err(not_found(id)),
    }
}

/// Claimed and not made yet, or made and destroyed: a destruction that began
/// after the birth tells. An older guest's had ended when this VMID was found free.
async fn absent<I: Io>(cluster: &Cluster<'_, I>, id: &SandboxId) -> Result<Found, Error> {
    if !is_young(cluster, id) {
        return Err(not_found(id));
    }
    if was_destroyed_of(cluster, &id.node, id.kind(), id.vmid, id.nonce).await.unwrap_or(false) {
        return Err(not_found(id));
    }
    Ok(Found::NotYet)
}

/// Whether PVE has begun to destroy the guest of this nonce (rule S2.6). One that is there all the same was
/// made by a clone that was executed after its deletion, and while PVE does not tell nobody may commit it.
pub async fn was_destroyed<I: Io>(
    cluster: &Cluster<'_, I>,
    node: &str,
    mark: &Mark,
) -> Result<bool, PveError> {
    was_destroyed_of(cluster, node, mark.kind, mark.vmid, mark.nonce).await
}

async fn was_destroyed_of<I: Io>(
    cluster: &Cluster<'_, I>,
    node: &str,
    kind: Kind,
    vmid: Vmid,
    nonce: Nonce,
) -> Result<bool, PveError> {
    if node.is_empty() {
        return Ok(false);
    }
    let since = nonce.birth().unix_timestamp() + 1;
    let tasks = cluster.send(cluster.pve.tasks_of(node, kind.destroys(), vmid, since)).await?;
    Ok(tasks.iter().any(|it| it.is_since(kind.destroys(), vmid, since) && it.may_count()))
}

fn is_young<I: Io>(cluster: &Cluster<'_, I>, id: &SandboxId) -> bool {
    let age = (cluster.now() - id.nonce.birth()).whole_seconds();
    (-LATE_SECONDS..LATE_SECONDS).contains(&age)
}

/// 403 on one guest means that it is not ours to see (rule S6.6).
fn not_ours_to_see(error: PveError) -> Error {
    match &error {
        PveError::Refused(refusal) if refusal.status == 403 => Error::new(
            Code::NotFound,
            format!("there is no such sandbox, or the API token may not see it ({})", refusal.message),
        ),
        error if error.is_missing() => Error::new(Code::NotFound, "there is no such sandbox any more"),
        _ => error.into(),
    }
}
