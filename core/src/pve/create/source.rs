//! The template that is cloned, and the VMID that the clone gets.

use sha2::{Digest, Sha256};

use super::spread::{Room, sharing};
use crate::{
    access::keys::Caller,
    error::{Code, Error},
    io::Io,
    pve::{
        api::config::Config,
        cluster::Cluster,
        inventory::{Inventory, Template},
    },
    sandbox::{
        creation::{CreateRequest, KeyHash},
        id::{SandboxId, SourceId},
        preset::{ProviderName, SnapshotId, default_preset},
        vmid::Vmid,
    },
    settings::Settings,
};

/// VMIDs that an Idempotency-Key draws before it goes on to the next free one.
const CANDIDATES: u32 = 4;
/// Free VMIDs after which the search for those that a key drew ends.
const SPARE: usize = 8;

/// The templates that can serve a request, the best first.
pub(super) fn sources<I: Io>(
    cluster: &Cluster<'_, I>,
    inventory: &Inventory,
    caller: &Caller,
    request: &CreateRequest,
) -> Result<Vec<Template>, Error> {
    let settings = cluster.settings;
    let mut all = inventory.templates(settings);
    // Presets are everybody's, other snapshots their team's.
    all.retain(|it| {
        let own = it.own.as_ref();
        it.snapshot.is_some() || own.is_none_or(|mark| mark.is_seen_by(caller, &settings.deployment))
    });
    if let Some(vmid) = request.template_vmid.filter(|vmid| all.iter().all(|it| it.vmid != *vmid)) {
        all.extend(inventory.plain_template(settings, vmid));
    }
    let (online, offline): (Vec<_>, Vec<_>) = all.into_iter().partition(|it| inventory.is_online(&it.node));
    let mut all = match wanted_templates(settings, &online, request) {
        Ok(found) => found,
        // What an offline node has comes back with it.
        Err(error) => {
            return Err(wanted_templates(settings, &offline, request).map_or(error, |it| all_offline(&it)));
        }
    };
    // Those on the node that is set first, then unlocked ones, then by what room their node has.
    let served = |node: &&str| all.iter().any(|it| it.node == *node);
    let nodes: Vec<&str> = inventory.nodes().map(|it| it.node.as_str()).filter(served).collect();
    let room = room(cluster, inventory, &nodes);
    let elsewhere = |it: &Template| settings.node.as_ref().is_some_and(|node| *node != it.node);
    all.sort_unstable_by_key(|it| (elsewhere(it), it.lock.is_some(), room.rank(&it.node), it.vmid));
    Ok(all)
}

/// The node that a clone of this template goes to, where that is another one: the one that is set,
/// or of those that share all of the template's storages the one with the most room.
pub(super) fn target<I: Io>(
    cluster: &Cluster<'_, I>,
    inventory: &Inventory,
    source: &Template,
    config: &Config,
) -> Option<String> {
    let node = match cluster.settings.node.as_deref() {
        Some(node) => node,
        None => room(cluster, inventory, &sharing(inventory, config)).best()?,
    };
    (*node != source.node).then(|| node.to_owned())
}

fn room<'a, I: Io>(cluster: &Cluster<'_, I>, inventory: &'a Inventory, nodes: &[&'a str]) -> Room<'a> {
    let [.., a, b, c, d] = cluster.seed;
    Room::of(inventory, &cluster.settings.vmid_range, nodes, cluster.now(), u32::from_be_bytes([a, b, c, d]))
}

/// The templates among `offered` that a request asks for.
fn wanted_templates(
    settings: &Settings,
    offered: &[Template],
    request: &CreateRequest,
) -> Result<Vec<Template>, Error> {
    let wanted = match (&request.snapshot_id, &request.preset, request.template_vmid) {
        (Some(SourceId::Preset(id)), _, _) => Wanted::Snapshot(id.clone()),
        (Some(SourceId::Own(id)), _, _) => {
            Wanted::Own(id.prove(&settings.secrets, &settings.deployment).ok_or_else(|| no_snapshot(id))?)
        }
        (Some(SourceId::Morph(id)), _, _) => return Err(no_template(&id.to_string(), offered)),
        (_, Some(preset), _) => {
            let ids = of_provider(offered, settings.provider);
            let latest = ids.filter(|it| it.preset == *preset).max_by_key(|it| it.version);
            match latest {
                Some(id) => Wanted::Snapshot(id.clone()),
                None => return Err(no_template(&format!("preset {preset}"), offered)),
            }
        }
        (_, _, Some(vmid)) => Wanted::Vmid(vmid),
        _ => match default_preset(of_provider(offered, settings.provider)) {
            Some(id) => Wanted::Snapshot(id),
            None => return Err(no_template("any preset", offered)),
        },
    };
    let mut found = offered.to_vec();
    found.retain(|it| match &wanted {
        Wanted::Snapshot(id) => it.snapshot.as_ref() == Some(id),
        Wanted::Own(id) => it.own.as_ref().is_some_and(|mark| mark.vmid == id.vmid && mark.nonce == id.nonce),
        Wanted::Vmid(vmid) => it.vmid == *vmid,
    });
    if found.is_empty() { Err(no_template(&wanted.to_string(), offered)) } else { Ok(found) }
}

/// All templates that would serve are on nodes that are offline.
fn all_offline(templates: &[Template]) -> Error {
    let all: Vec<String> = templates.iter().map(|it| format!("{} on {}", it.vmid, it.node)).collect();
    let text = format!(
        "every node that has a template for this is offline (template {}); it comes back with its node",
        all.join(", ")
    );
    Error::new(Code::NodeOffline, text).retry_after(30)
}

enum Wanted {
    Snapshot(SnapshotId),
    Own(SandboxId),
    Vmid(Vmid),
}

impl std::fmt::Display for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Snapshot(id) => write!(f, "snapshot {id}"),
            Self::Own(id) => write!(f, "snapshot {id}"),
            Self::Vmid(vmid) => write!(f, "template {vmid}"),
        }
    }
}

fn of_provider(templates: &[Template], provider: ProviderName) -> impl Iterator<Item = &SnapshotId> {
    templates.iter().filter_map(|it| it.snapshot.as_ref()).filter(move |it| it.provider == provider)
}

fn no_template(what: &str, all: &[Template]) -> Error {
    let known: Vec<String> =
        all.iter().filter_map(|it| it.snapshot.as_ref()).map(ToString::to_string).collect();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    Error::new(
        Code::TemplateNotFound,
        format!(
            "no online node offers {what}; offered are: {known}. A template is offered by a tag that is its \
             snapshot id (pvelxc_4vcpu_6gb_32gb_v1), and without one by its VMID (templateVmid)"
        ),
    )
}

/// The VMIDs that a key draws: the same ones each time, until enough were free (rule S2.7).
pub(super) fn vmids_of_key<'a, I: Io>(
    cluster: &'a Cluster<'_, I>,
    inventory: &'a Inventory,
    key: KeyHash,
) -> impl Iterator<Item = Vmid> + 'a {
    let pool = Pool::of(cluster.settings);
    let hashed = (0..CANDIDATES).filter_map(move |at| {
        let mut hasher = Sha256::new();
        hasher.update(key.0);
        hasher.update(at.to_be_bytes());
        let [a, b, c, d, ..] = <[u8; 32]>::from(hasher.finalize());
        pool.at(u32::from_be_bytes([a, b, c, d]) % pool.size.max(1))
    });
    let [a, b, c, d, _] = key.0;
    let start = u32::from_be_bytes([a, b, c, d]) % pool.size.max(1);
    // Small ranges: on from a place that the key names. Not only to the first free
    // one: what another request found taken may be free by now.
    let mut spare = SPARE;
    let walked = (0..pool.size).filter_map(move |at| pool.at((start + at) % pool.size.max(1)));
    hashed.chain(walked.take_while(move |vmid| {
        let go_on = spare > 0;
        spare -= usize::from(go_on && inventory.guest(*vmid).is_none() && serves(cluster.settings, *vmid));
        go_on
    }))
}

/// Whether a new sandbox may have this VMID, as far as its address tells. One that exists keeps
/// it, and is found under it, whatever the settings say now.
fn serves(settings: &Settings, vmid: Vmid) -> bool {
    settings.ip_pool.as_ref().is_none_or(|it| it.serves(vmid))
}

/// VMIDs to claim, in the order in which to try them (rule S7.5).
pub(super) fn free_vmids<I: Io>(
    cluster: &Cluster<'_, I>,
    inventory: &Inventory,
    key: Option<KeyHash>,
) -> Result<Vec<Vmid>, Error> {
    let is_free = |vmid: &Vmid| inventory.guest(*vmid).is_none() && serves(cluster.settings, *vmid);
    let free: Vec<Vmid> = match key {
        Some(key) => vmids_of_key(cluster, inventory, key).filter(is_free).collect(),
        None => {
            let pool = Pool::of(cluster.settings);
            let [.., a, b, c, d] = cluster.seed;
            let start = u32::from_be_bytes([a, b, c, d]) % pool.size.max(1);
            let all = (0..pool.size).filter_map(|at| pool.at((start + at) % pool.size.max(1)));
            all.filter(is_free).take(CANDIDATES as usize).collect()
        }
    };
    if free.is_empty() {
        let text = "every VMID of PVE_VMID_RANGE (or address of PVE_IP_POOL_CIDR) is taken: delete sandboxes \
                    or widen it";
        return Err(Error::new(Code::NoFreeVmid, text).retry_after(60));
    }
    Ok(free)
}

/// The VMIDs that sandboxes may take: with an address pool, as many as it has.
#[derive(Clone, Copy)]
struct Pool {
    first: u32,
    size: u32,
}

impl Pool {
    fn of(settings: &Settings) -> Self {
        let range = settings.vmid_range;
        let first = u32::from(range.first());
        let size = u32::from(range.last()) - first + 1;
        let size = settings.ip_pool.as_ref().map_or(size, |pool| size.min(pool.size()));
        Self { first, size }
    }

    fn at(self, offset: u32) -> Option<Vmid> {
        (offset < self.size).then(|| self.first + offset).and_then(|it| it.try_into().ok())
    }
}

/// This deployment never took the snapshot `id`.
pub(super) fn no_snapshot(id: impl std::fmt::Display) -> Error {
    Error::new(Code::NotFound, format!("there is no snapshot {id}"))
}
