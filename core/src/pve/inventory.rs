//! One listing of the cluster, and what it says about templates, sandboxes and room.

use super::{
    api::{cluster::Resource, config::Config},
    cluster::Cluster,
    marks::{self, Listed, Mark, Reading, Role, Want},
};
use crate::{
    error::{Code, Error},
    io::Io,
    sandbox::{id::Kind, preset::SnapshotId, vmid::Vmid},
    settings::Settings,
};

/// Tags and locks of a cluster travel in one answer of 1 MiB between PVE's own processes (pve-cluster
/// `IPCC.xs`); past it everything fails for everybody, so creation stops well before (rule S1.6).
const TAG_CEILING: usize = 700 * 1024;

/// A guest that a listing shows.
#[derive(Clone, Debug)]
pub struct Guest {
    /// The row of the listing.
    pub row: Resource,
    /// Its VMID.
    pub vmid: Vmid,
    /// Container or VM.
    pub kind: Kind,
    /// The mark in its tags, if it is a sandbox of this deployment.
    pub ours: Option<Listed>,
    /// The mark in its tags, if it is a template that this deployment made.
    pub snapshot: Option<Listed>,
}

impl Guest {
    /// Its tags, as PVE joins them.
    pub fn tags(&self) -> &str {
        self.row.tags.as_deref().unwrap_or_default()
    }

    /// Whether it shall be a preset's version and is not found as that yet.
    pub fn is_unoffered(&self) -> bool {
        let shall = |it: &Listed| it.mark.snapshot.as_ref().is_some_and(|it| it.preset().is_some());
        self.snapshot.as_ref().is_some_and(shall) && marks::template(self.tags()).flatten().is_none()
    }
}

/// A template that the listing shows.
#[derive(Clone, Debug)]
pub struct Template {
    /// Which guest.
    pub vmid: Vmid,
    /// Container or VM.
    pub kind: Kind,
    /// Its node.
    pub node: String,
    /// The preset and version that it is, if any.
    pub snapshot: Option<SnapshotId>,
    /// The snapshot of a sandbox that it is, if it is one.
    pub own: Option<Mark>,
    /// Who works on it.
    pub lock: Option<String>,
}

impl Template {
    /// Whether a guest is still the template that was listed. A listing may show who had the VMID before, and leaves out
    /// whose a guest is whose tags were taken off; what nothing offers is nobody's of any deployment.
    pub fn is_still(&self, config: &Config) -> bool {
        let reading = Reading::of(self.vmid, config);
        match (&self.own, &self.snapshot) {
            (Some(own), _) => reading.mark().is_some_and(|it| it.nonce == own.nonce),
            (None, None) => matches!(reading, Reading::Foreign),
            (None, offered) => {
                marks::template(config.tags.as_deref().unwrap_or_default()).flatten() == *offered
            }
        }
    }
}

/// The guests, nodes and storages that one listing shows.
#[derive(Clone, Debug)]
pub struct Inventory {
    /// All guests that the token sees, by VMID.
    pub guests: Vec<Guest>,
    /// Nodes and storages.
    pub others: Vec<Resource>,
}

impl Inventory {
    /// `GET /cluster/resources`, once.
    pub async fn read<I: Io>(cluster: &Cluster<'_, I>) -> Result<Self, Error> {
        let rows = cluster.send(cluster.pve.resources()).await?;
        Ok(Self::of(rows, &cluster.settings.deployment))
    }

    fn of(rows: Vec<Resource>, deployment: &str) -> Self {
        let mut guests = Vec::new();
        let mut others = Vec::new();
        for row in rows {
            let vmid = row.vmid.and_then(|it| u32::try_from(it).ok()).and_then(|it| Vmid::try_from(it).ok());
            let (Some(vmid), Some(kind)) = (vmid, Kind::from_name(&row.kind)) else {
                others.push(row);
                continue;
            };
            let listed = marks::listed(vmid, row.tags.as_deref().unwrap_or_default())
                .filter(|it| it.mark.deployment == deployment && it.mark.kind == kind);
            // Older tags have its node in lower case.
            let listed = listed.map(|mut it| {
                if it.mark.node.eq_ignore_ascii_case(&row.node) {
                    it.mark.node.clone_from(&row.node);
                }
                it
            });
            let (ours, snapshot) = match listed {
                Some(it) if it.mark.role == Role::Template => (None, Some(it)),
                sandbox => (sandbox, None),
            };
            guests.push(Guest { row, vmid, kind, ours, snapshot });
        }
        guests.sort_unstable_by_key(|it| it.vmid);
        Self { guests, others }
    }

    /// The guest of this VMID.
    pub fn guest(&self, vmid: Vmid) -> Option<&Guest> {
        let at = self.guests.binary_search_by_key(&vmid, |it| it.vmid).ok()?;
        self.guests.get(at)
    }

    /// The cluster's nodes.
    pub fn nodes(&self) -> impl Iterator<Item = &Resource> {
        self.others.iter().filter(|it| it.kind == "node")
    }

    /// The storages of a node that the token sees and PVE has at hand.
    pub fn storages<'a>(&'a self, node: &'a str) -> impl Iterator<Item = &'a Resource> + use<'a> {
        let there = move |it: &&Resource| it.kind == "storage" && it.node == node && it.status != "unknown";
        self.others.iter().filter(there)
    }

    /// The storage of a node where a template of this kind has the most room, and can be cloned.
    pub fn roomiest<'a>(&'a self, node: &'a str, kind: Kind) -> Option<&'a Resource> {
        let serves = |it: &&Resource| it.takes_disks(kind) && it.makes_linked_clones(kind);
        self.storages(node).filter(serves).max_by_key(|it| it.free())
    }

    /// Whether the listing says that this node is up; a node that it does not name is taken to be.
    pub fn is_online(&self, node: &str) -> bool {
        !self.nodes().any(|it| it.node == node && it.status == "offline")
    }

    /// The templates that are offered: no sandbox, and outside the sandboxes' VMIDs, since one carries its
    /// template's tags until it is committed, or for ever where those are registered (rule S7.1).
    pub fn templates(&self, settings: &Settings) -> Vec<Template> {
        self.guests
            .iter()
            // PVE tells late that a guest has become a template; of ours the tags know.
            .filter(|it| it.row.template != Some(false) || it.snapshot.is_some())
            .filter(|it| it.ours.is_none() && !settings.vmid_range.contains(it.vmid))
            // Without its owner a snapshot that goes would be everybody's.
            .filter(|it| it.snapshot.as_ref().is_none_or(|it| it.mark.want == Want::On))
            .filter_map(|it| {
                let own = it.snapshot.as_ref().map(|it| it.mark.clone());
                let snapshot = marks::template(it.tags());
                // A snapshot is offered to its team without a tag of its own.
                let snapshot = if own.is_some() { snapshot.flatten() } else { snapshot? };
                // A preset of VMs is no container, whatever its tags say.
                if snapshot.as_ref().is_some_and(|id| id.provider != it.kind.provider()) {
                    return None;
                }
                Some(Template {
                    vmid: it.vmid,
                    kind: it.kind,
                    node: it.row.node.clone(),
                    snapshot,
                    own,
                    lock: it.row.lock.clone(),
                })
            })
            .collect()
    }

    /// The template of this VMID, which nothing offers, if it is nobody's of any deployment: whoever names it has it
    /// cloned. That it is one, PVE must have told.
    pub fn plain_template(&self, settings: &Settings, vmid: Vmid) -> Option<Template> {
        let found = self.guest(vmid).filter(|it| it.row.template == Some(true))?;
        let is_marked = found.ours.is_some() || found.snapshot.is_some() || marks::is_marked(found.tags());
        (!is_marked && !settings.vmid_range.contains(vmid)).then(|| Template {
            vmid,
            kind: found.kind,
            node: found.row.node.clone(),
            snapshot: None,
            own: None,
            lock: found.row.lock.clone(),
        })
    }

    /// A listing that shows nothing of ours is not believed (rule S2.1): PVE leaves out silently what the
    /// token may not see.
    pub async fn believe<I: Io>(&self, cluster: &Cluster<'_, I>) -> Result<(), Error> {
        let any =
            self.guests.iter().any(|it| it.ours.is_some()) || !self.templates(cluster.settings).is_empty();
        if any {
            return Ok(());
        }
        let rights = cluster.send(cluster.pve.permissions()).await?;
        let may_see =
            rights.iter().any(|(path, rights)| is_about_guests(path) && rights.get("VM.Audit").is_some());
        if may_see {
            return Ok(());
        }
        Err(Error::new(
            Code::PveNoAudit,
            "the token has VM.Audit on no guest, so it would take every cluster for empty: give it the role \
             of core/docs/prepare-pve.md on /vms or on a pool",
        ))
    }

    /// Refuses when the cluster has no room for more tags.
    pub fn room_for_tags(&self) -> Result<(), Error> {
        let bytes: usize =
            self.guests.iter().map(|it| it.tags().len() + it.row.lock.as_deref().map_or(0, str::len)).sum();
        if bytes <= TAG_CEILING {
            return Ok(());
        }
        Err(Error::new(
            Code::IndexFull,
            format!(
                "the guests of this cluster carry {} KiB of tags, and PVE fails at 1024: delete sandboxes, or \
                 lower EDGE_TAG_BUDGET",
                bytes / 1024
            ),
        )
        .retry_after(60))
    }
}

pub(crate) fn is_about_guests(path: &str) -> bool {
    path == "/" || path.starts_with("/vms") || path.starts_with("/pool")
}
