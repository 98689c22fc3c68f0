//! `GET /api/health/sandbox`: what is wrong, and how to fix it, in four requests and one for each template.

mod bridges;
mod detected;
mod rights;
mod road;
mod secrets;
mod shortages;

use self::shortages::Findings;
use super::{
    api::{
        PveError,
        cluster::{Permissions, Resource},
        config::Config,
    },
    cluster::Cluster,
    inventory::{Guest, Inventory, Template},
    privileges,
};
use crate::{
    error::{Code, Error},
    io::Io,
    sandbox::{
        health::{Checked, Defaults, ExecToken, Finding, Node, NodeStorage, Offered, OlderSecret, Report},
        id::Kind,
        preset::ProviderName,
    },
    settings::Settings,
};

/// A digest that no config has.
const NO_DIGEST: &str = "0000000000000000000000000000000000000000";
/// Templates whose configs are read.
const CLOSER: usize = 8;

/// What the three answers say.
struct Seen<'a> {
    settings: &'a Settings,
    inventory: &'a Inventory,
    templates: Vec<Template>,
    /// Of the deployment's sandboxes, unless they ask for another.
    kind: Kind,
    version: (u32, u32),
    /// Of templates that were looked at.
    configs: Vec<(Template, Config)>,
}

/// Reports whether sandboxes can be made.
pub async fn health<I: Io>(cluster: &Cluster<'_, I>) -> Report {
    let start = cluster.now();
    let version = match cluster.send(cluster.pve.version()).await {
        Ok(version) => version,
        Err(error) => return unreachable(cluster, error),
    };
    let latency = (cluster.now() - start).whole_milliseconds() as i64;
    let skew = cluster.pve_ahead();
    let mut findings = Findings::default();
    findings.clock(skew.unwrap_or(0));
    let looked = match Inventory::read(cluster).await {
        Ok(inventory) => Some(look(cluster, &inventory, version.number(), &mut findings).await),
        Err(error) => {
            findings.reasons.push(error);
            None
        }
    };
    let all = |found: &[Error]| found.iter().map(Finding::of).collect::<Vec<_>>();
    let report = Report {
        clock_skew_seconds: Some(skew),
        exec_token: Some(if version.number() < (9, 1) { ExecToken::Notes } else { ExecToken::Env }),
        latency_ms: Some(latency),
        version: Some(version.version),
        warnings: Some(all(&findings.warnings)),
        ..Report::new(cluster.settings.provider, true, all(&findings.reasons))
    };
    match looked {
        Some(looked) => looked.show(report),
        None => report,
    }
}

/// What a look at the cluster's guests, nodes and storages tells.
struct Looked {
    checked: Vec<Checked>,
    detected: Defaults,
    older_secrets: Vec<OlderSecret>,
    unmarked: usize,
    nodes: Vec<Node>,
    storages: Vec<NodeStorage>,
    templates: Vec<Offered>,
}

impl Looked {
    fn show(self, report: Report) -> Report {
        Report {
            checked: self.checked,
            detected: Some(self.detected),
            older_secrets: Some(self.older_secrets),
            unmarked_guests_in_range: Some(self.unmarked),
            nodes: Some(self.nodes),
            storages: Some(self.storages),
            templates: Some(self.templates),
            ..report
        }
    }
}

async fn look<I: Io>(
    cluster: &Cluster<'_, I>,
    inventory: &Inventory,
    version: (u32, u32),
    findings: &mut Findings,
) -> Looked {
    let kind = if cluster.settings.provider == ProviderName::PveVm { Kind::Qemu } else { Kind::Lxc };
    let (settings, templates) = (cluster.settings, inventory.templates(cluster.settings));
    let mut seen = Seen { settings, inventory, templates, kind, version, configs: Vec::new() };
    let rights = cluster.send(cluster.pve.permissions()).await;
    let rights: Option<Permissions> = rights.map_err(|error| findings.reasons.push(error.into())).ok();
    look_closer(cluster, &mut seen, findings).await;
    let missing: rights::Missing = rights.iter().flat_map(|it| rights::missing(&seen, it)).collect();
    // Which storages there are is not known then.
    let unseen = missing.iter().any(|(path, _)| path.starts_with("/storage/"));
    for (path, privileges) in missing {
        let text = format!(
            "the token lacks {} on {path}: run the script of /api/setup/pve.sh again, or give a role that has it to the \
             token and to its user (pveum acl modify {path})",
            privileges.join(", ")
        );
        findings.wrong(Code::PveForbidden, text);
    }
    findings.version(&seen);
    findings.nodes(&seen);
    findings.templates(&seen);
    if !unseen {
        findings.storages(&seen);
    }
    bridges::missing(cluster, &seen, rights.as_ref(), findings).await;
    bridges::fixed(&seen, findings);
    let wrote = write_nothing(cluster, inventory, findings).await;
    road::test(cluster, inventory, findings).await;
    findings.reasons.extend(inventory.room_for_tags().err());
    Looked {
        checked: if wrote { vec![Checked::Reads, Checked::Writes] } else { vec![Checked::Reads] },
        detected: detected::detected(cluster, &seen, findings).await,
        older_secrets: secrets::older(&seen, findings),
        unmarked: seen.unmarked(),
        nodes: inventory.nodes().map(node).collect(),
        storages: seen.all_storages(),
        templates: seen.offered(),
    }
}

/// Sends one write that PVE must refuse: it names the digest of no config. What stands before PVE
/// may let reads through and no writes. Whether it was sent: that takes a sandbox of ours.
async fn write_nothing<I: Io>(
    cluster: &Cluster<'_, I>,
    inventory: &Inventory,
    findings: &mut Findings,
) -> bool {
    let online = |it: &&Guest| it.row.lock.is_none() && inventory.is_online(&it.row.node);
    let Some(guest) = inventory.guests.iter().filter(|it| it.ours.is_some()).find(online) else {
        return false;
    };
    let form = [("onboot", "0"), ("digest", NO_DIGEST)];
    match cluster.send(cluster.pve.guest(&guest.row.node, guest.kind, guest.vmid).set_config(&form)).await {
        // A missing privilege is named with the others.
        Err(error) if error.is_refusal() => {}
        Err(error) => findings.reasons.push(error.into()),
        Ok(_) => {}
    }
    true
}

/// The configs of templates tell their storage, bridge, gateway and hookscript.
async fn look_closer<I: Io>(cluster: &Cluster<'_, I>, seen: &mut Seen<'_>, findings: &mut Findings) {
    for template in seen.templates.iter().take(CLOSER) {
        if !seen.inventory.is_online(&template.node) {
            continue;
        }
        match cluster.send(cluster.pve.guest(&template.node, template.kind, template.vmid).config()).await {
            Ok(config) => seen.configs.push((template.clone(), config)),
            Err(error) => findings.reasons.push(error.into()),
        }
    }
}

fn unreachable<I: Io>(cluster: &Cluster<'_, I>, error: PveError) -> Report {
    Report::failed(cluster.settings.provider, false, cluster.platform.name, &error.into())
}

impl Seen<'_> {
    /// Whether sandboxes of this kind are made.
    fn offers(&self, kind: Kind) -> bool {
        self.kind == kind || self.templates.iter().any(|it| it.kind == kind)
    }

    /// Nodes that are online and have a template.
    fn serving_nodes(&self) -> Vec<&str> {
        let nodes = self.templates.iter().map(|it| it.node.as_str());
        let mut nodes: Vec<&str> = nodes.filter(|it| self.inventory.is_online(it)).collect();
        nodes.sort_unstable();
        nodes.dedup();
        nodes
    }

    /// Bridges have privileges of their own since 8.0.
    fn has_sdn(&self) -> bool {
        privileges::has_bridges(self.version)
    }

    /// The storages of a node that may have guests of this kind.
    fn storages<'a>(&'a self, node: &'a str, kind: Kind) -> impl Iterator<Item = &'a Resource> {
        self.inventory.storages(node).filter(move |it| it.takes_disks(kind))
    }

    /// How many guests in the range are nobody's.
    fn unmarked(&self) -> usize {
        let range = self.settings.vmid_range;
        let guests = self.inventory.guests.iter();
        guests.filter(|it| range.contains(it.vmid) && it.ours.is_none() && it.row.lock.is_none()).count()
    }

    /// Storages of all nodes, as the listing has them.
    fn all_storages(&self) -> Vec<NodeStorage> {
        let rows = self.inventory.others.iter().filter(|it| it.kind == "storage");
        rows.map(|it| storage(it, self.kind)).collect()
    }

    /// The templates that sandboxes are made from.
    fn offered(&self) -> Vec<Offered> {
        let offered = |it: &Template| Offered {
            lock: it.lock.clone(),
            node: Some(it.node.clone()),
            snapshot_id: it.snapshot.clone(),
            vmid: Some(it.vmid),
        };
        self.templates.iter().map(offered).collect()
    }
}

fn node(row: &Resource) -> Node {
    let free = row.maxmem.zip(row.mem).map(|(all, used)| all.saturating_sub(used));
    Node { free_memory_bytes: free, node: row.node.clone(), status: row.status.clone() }
}

fn storage(row: &Resource, kind: Kind) -> NodeStorage {
    NodeStorage {
        free_bytes: row.free(),
        linked_clones: row.plugintype.as_ref().map(|_| row.makes_linked_clones(kind)),
        node: row.node.clone(),
        shared: row.shared,
        storage: row.storage.clone(),
        kind: row.plugintype.clone(),
    }
}
