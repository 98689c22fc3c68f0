//! Locating one guest and proving whose it is (rule S6.1).

use crate::{
    access::keys::Caller,
    error::{Code, Error},
    io::Io,
    pve::{
        api::{self, LATE_SECONDS, PveError, cluster::Resource, config::Config},
        cluster::Cluster,
        inventory::{Guest, Inventory},
        marks::{self, Mark, Reading, Role, Want, What},
    },
    sandbox::{
        id::{Kind, SandboxId, not_found},
        nonce::Nonce,
        vmid::Vmid,
    },
};

/// A guest that was located: its node, and what its config and its mark said a moment ago.
#[derive(Clone, Debug)]
pub struct Located {
    /// Its node now.
    pub node: String,
    /// Its config.
    pub config: Config,
    /// Its mark.
    pub mark: Mark,
    /// Whether the mark is more than an intent.
    pub committed: bool,
}

impl Located {
    /// The guest `vmid` with this config; `None` where the config carries no mark.
    pub fn of(node: &str, vmid: Vmid, config: Config) -> Option<Self> {
        let (mark, committed) = match Reading::of(vmid, &config) {
            Reading::Intent(mark) => (mark, false),
            Reading::Committed(mark) => (mark, true),
            Reading::Foreign | Reading::Contradiction => return None,
        };
        Some(Self { node: node.to_owned(), config, mark, committed })
    }

    /// Its calls of PVE's API.
    pub fn api<'a, I: Io>(&'a self, cluster: &Cluster<'a, I>) -> api::guest::Guest<'a> {
        cluster.guest(&self.node, &self.mark)
    }

    /// The same guest, read once more; `None` where the VMID is another guest's now.
    pub async fn read_again<I: Io>(&self, cluster: &Cluster<'_, I>) -> Result<Option<Self>, PveError> {
        read(cluster, &self.node, &self.mark).await
    }

    /// What its head tag says is being done: see [`marks::doing_by_tag`].
    pub fn doing_by_tag(&self) -> Option<What> {
        marks::doing_by_tag(self.mark.vmid, self.tags())
    }

    /// The tags in its config.
    pub fn tags(&self) -> &str {
        self.config.tags.as_deref().unwrap_or_default()
    }
}

/// Reads the guest that `mark` names; `None` where that VMID is another guest's now.
pub(crate) async fn read<I: Io>(
    cluster: &Cluster<'_, I>,
    node: &str,
    mark: &Mark,
) -> Result<Option<Located>, PveError> {
    let config = cluster.send(cluster.guest(node, mark).config()).await?;
    Ok(Located::of(node, mark.vmid, config).filter(|it| it.mark.nonce == mark.nonce))
}

/// Where a sandbox is.
#[derive(Clone, Debug)]
pub enum Found {
    /// There, and the caller's.
    Here(Box<Located>),
    /// There, and the caller's, on another node than its id says: the one in this row of a listing.
    Moved(Box<Located>, Box<Resource>),
    /// Nowhere yet, and too young to be given up (rule S2.5).
    NotYet,
    /// On a node that is offline; what the listing says of it.
    Offline(Box<Guest>),
}

/// Finds a sandbox and proves that it is the caller's; anything else is 404 (rule S6.6).
pub async fn find<I: Io>(cluster: &Cluster<'_, I>, caller: &Caller, id: &SandboxId) -> Result<Found, Error> {
    if !id.node.is_empty() {
        match cluster.send(cluster.pve.guest(&id.node, id.kind(), id.vmid).config()).await {
            Ok(config) => {
                return prove(cluster, caller, id, &id.node, config).map(|it| Found::Here(Box::new(it)));
            }
            Err(error) if error.is_missing() || error.is_node_silent() || error.is_late() => {}
            Err(error) => return Err(not_ours_to_see(error)),
        }
    }
    // A guest that its node does not know may have moved, and may move again
    // meanwhile: only a listing that lacks it, read afterwards, proves that it is gone (rule S6.2).
    for _ in 0..3 {
        let inventory = Inventory::read(cluster).await?;
        let Some(guest) = inventory.guest(id.vmid) else {
            inventory.believe(cluster).await?;
            return absent(cluster, id).await;
        };
        let node = guest.row.node.as_str();
        if !inventory.is_online(node) {
            let theirs = guest.ours.as_ref().is_some_and(|it| {
                it.mark.nonce == id.nonce && it.mark.is_seen_by(caller, &cluster.settings.deployment)
            });
            return if theirs { Ok(Found::Offline(Box::new(guest.clone()))) } else { Err(not_found(id)) };
        }
        match cluster.send(cluster.pve.guest(node, id.kind(), id.vmid).config()).await {
            Ok(config) => {
                let found = prove(cluster, caller, id, node, config)?;
                return Ok(Found::Moved(Box::new(found), Box::new(guest.row.clone())));
            }
            // A guest of another kind of that number is a stranger.
            Err(error) if error.is_missing() && guest.kind == id.kind() => {}
            Err(error) => return Err(not_ours_to_see(error)),
        }
    }
    Err(Error::new(Code::Conflict, format!("{id} keeps moving; ask again")).retry_after(1))
}

/// Locates a sandbox for an operation that needs it to be there.
pub async fn locate<I: Io>(
    cluster: &Cluster<'_, I>,
    caller: &Caller,
    id: &SandboxId,
) -> Result<Located, Error> {
    match find(cluster, caller, id).await? {
        Found::Here(found) | Found::Moved(found, _) => Ok(*found),
        Found::NotYet => Err(Error::new(
            Code::StillCreating,
            format!("{id} was claimed and PVE has not made it yet; ask again"),
        )
        .retry_after(3)),
        Found::Offline(guest) => Err(offline(&guest.row.node)),
    }
}

/// The refusal of what would be done to a sandbox whose node is offline.
pub fn offline(node: &str) -> Error {
    Error::new(Code::NodeOffline, format!("node {node} is offline; the sandbox comes back with it"))
        .retry_after(30)
}

/// The refusal of a command in a sandbox that does not run, with what its owner has to do first.
pub(crate) fn not_running(mark: &Mark) -> Error {
    let id = mark.id();
    let text = match mark.want {
        Want::Paused => format!("{id} is paused: resume it first"),
        _ => format!("{id} is stopped: start it first"),
    };
    Error::new(Code::NotRunning, text)
}

/// The guest that this config shows, if it is the caller's sandbox of that id.
fn prove<I: Io>(
    cluster: &Cluster<'_, I>,
    caller: &Caller,
    id: &SandboxId,
    node: &str,
    config: Config,
) -> Result<Located, Error> {
    // The first moment of a clone: locked, and its description not written yet.
    let begins = config.is_unknown_yet()
        && is_young(cluster, id)
        && matches!(Reading::of(id.vmid, &config), Reading::Foreign);
    if begins {
        let text = format!("{id} is being claimed; ask again");
        return Err(Error::new(Code::StillCreating, text).retry_after(1));
    }
    let proved = |mark: &Mark| {
        mark.nonce == id.nonce
            && mark.kind == id.kind()
            && mark.role == Role::Sandbox
            && mark.is_seen_by(caller, &cluster.settings.deployment)
    };
    Located::of(node, id.vmid, config).filter(|it| proved(&it.mark)).ok_or_else(|| not_found(id))
}

/// A sandbox that no listing shows: claimed and not made yet, or made and destroyed. A destruction that
/// began after its birth tells. An older guest's had ended when this VMID was found free.
async fn absent<I: Io>(cluster: &Cluster<'_, I>, id: &SandboxId) -> Result<Found, Error> {
    if !is_young(cluster, id) {
        return Err(not_found(id));
    }
    if was_destroyed_of(cluster, &id.node, id.kind(), id.vmid, id.nonce).await.unwrap_or(false) {
        return Err(not_found(id));
    }
    Ok(Found::NotYet)
}

/// Whether PVE has begun to destroy the guest that `mark` names (rule S2.6). One that is there all the
/// same was made by a clone that was executed after its deletion, and while PVE does not tell, nobody
/// may commit it.
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

/// PVE's error about a guest that was looked for: 403 means that it is not ours to see (rule S6.6).
fn not_ours_to_see(error: PveError) -> Error {
    match &error {
        PveError::Refused(refusal) if error.is_forbidden() => Error::new(
            Code::NotFound,
            format!("there is no such sandbox, or the API token may not see it ({})", refusal.message),
        ),
        error if error.is_missing() => Error::new(Code::NotFound, "there is no such sandbox any more"),
        _ => error.into(),
    }
}
