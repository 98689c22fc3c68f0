//! `GET /api/health/sandbox`: what is wrong, and how to fix it, in three requests.

use serde_json::{Value, json};

use crate::{
    edge::Edge,
    error::Error,
    inventory::{Inventory, is_about_guests},
    io::Io,
    preset::Provider,
    pve::{
        PveError,
        cluster::{Permissions, Resource, Version},
        guest::Kind,
    },
    settings::Settings,
};

/// What the token needs on guests; see the README for the role.
const GUEST_PRIVILEGES: [&str; 9] = [
    "VM.Allocate",
    "VM.Audit",
    "VM.Clone",
    "VM.Config.CPU",
    "VM.Config.Disk",
    "VM.Config.Memory",
    "VM.Config.Network",
    "VM.Config.Options",
    "VM.PowerMgmt",
];
/// Storages of these kinds make linked clones of containers.
const LINKED_CLONES: [&str; 4] = ["btrfs", "lvmthin", "rbd", "zfspool"];

/// The report, and whether sandboxes can be made.
pub async fn health<I: Io>(edge: &Edge<'_, I>) -> (bool, Value) {
    let start = edge.now();
    let mut reasons = Vec::new();
    let version = match edge.send(edge.pve.version()).await {
        Ok(version) => version,
        Err(error) => return unreachable(edge, error),
    };
    let latency = (edge.now() - start).whole_milliseconds() as i64;
    let inventory = Inventory::read(edge).await.map_err(|error| reasons.push(reason(&error))).ok();
    match edge.send(edge.pve.permissions()).await {
        Ok(rights) => {
            let vms = edge.settings.provider == Provider::PveVm
                || inventory.as_ref().is_some_and(|it| has_vms(it, edge.settings));
            reasons.extend(missing_privileges(&rights, vms, &version));
        }
        Err(error) => reasons.push(reason(&error.into())),
    }
    let mut nodes = Vec::new();
    let mut storages = Vec::new();
    let mut templates = Vec::new();
    let mut strangers = 0;
    if let Some(inventory) = &inventory {
        nodes = rows(inventory, "node", |it| json!({"node": it.node, "status": it.status}));
        storages = rows(inventory, "storage", storage);
        templates = inventory.templates(edge.settings);
        let range = edge.settings.vmid_range;
        strangers = inventory
            .guests
            .iter()
            .filter(|it| range.contains(it.vmid) && it.ours.is_none() && it.row.lock.is_none())
            .count();
        reasons.extend(shortages(edge, inventory, templates.is_empty()));
    }
    let exec_token = if version.number() < (9, 1) { "notes" } else { "env" };
    let healthy = reasons.is_empty();
    let report = json!({
        "status": if healthy { "healthy" } else { "unhealthy" },
        "provider": edge.settings.provider.name(),
        "reachable": true,
        "version": version.version,
        "latencyMs": latency,
        "nodes": nodes,
        "storages": storages,
        "templates": templates.iter().map(|it| json!({
            "vmid": it.vmid, "node": it.node, "snapshotId": it.snapshot, "lock": it.lock,
        })).collect::<Vec<_>>(),
        "execToken": exec_token,
        "unmarkedGuestsInRange": strangers,
        "reasons": reasons,
    });
    (healthy, report)
}

fn unreachable<I: Io>(edge: &Edge<'_, I>, error: PveError) -> (bool, Value) {
    let error = Error::from(error);
    let report = json!({
        "status": "unhealthy",
        "provider": edge.settings.provider.name(),
        "reachable": false,
        "platform": edge.platform.name,
        "reasons": [reason(&error)],
    });
    (false, report)
}

pub(crate) fn reason(error: &Error) -> Value {
    json!({"code": error.code().row().0, "detail": error.detail()})
}

fn rows(inventory: &Inventory, kind: &str, show: impl Fn(&Resource) -> Value) -> Vec<Value> {
    inventory.others.iter().filter(|it| it.kind == kind).map(show).collect()
}

fn storage(row: &Resource) -> Value {
    json!({
        "node": row.node,
        "storage": row.storage,
        "type": row.plugintype,
        "linkedClones": row.plugintype.as_deref().map(|it| LINKED_CLONES.contains(&it)),
        "freeBytes": row.maxdisk.unwrap_or(0).saturating_sub(row.disk.unwrap_or(0)),
    })
}

/// Whether VMs are offered.
fn has_vms(inventory: &Inventory, settings: &Settings) -> bool {
    inventory.templates(settings).iter().any(|it| it.kind == Kind::Qemu)
}

fn missing_privileges(rights: &Permissions, vms: bool, version: &Version) -> Vec<Value> {
    let has = |privilege: &str| {
        rights.iter().any(|(path, rights)| is_about_guests(path) && rights.get(privilege).is_some())
    };
    let agent = if version.number() < (9, 0) { "VM.Monitor" } else { "VM.GuestAgent.Unrestricted" };
    let needed = GUEST_PRIVILEGES.into_iter().chain(vms.then_some(agent));
    let missing: Vec<&str> = needed.filter(|it| !has(it)).collect();
    if missing.is_empty() {
        return Vec::new();
    }
    let text =
        format!("the token lacks {} on /vms: give the role to the token and to its user", missing.join(", "));
    vec![json!({"code": "pve-forbidden", "detail": text})]
}

fn shortages<I: Io>(edge: &Edge<'_, I>, inventory: &Inventory, no_template: bool) -> Vec<Value> {
    let mut reasons = Vec::new();
    let mut nodes = inventory.others.iter().filter(|it| it.kind == "node").peekable();
    if nodes.peek().is_some() && !nodes.any(|it| it.status == "online") {
        reasons.push(json!({"code": "node-offline", "detail": "no node of the cluster is online"}));
    }
    if no_template {
        reasons.push(json!({
            "code": "template-not-found",
            "detail": "no template is offered: tag one with its snapshot id, \
                       pct set VMID --tags pvelxc_4vcpu_6gb_32gb_v1",
        }));
    }
    if let Err(error) = inventory.room_for_tags() {
        reasons.push(reason(&error));
    }
    let set = edge.settings.node.as_deref();
    if let Some(node) =
        set.filter(|node| inventory.others.iter().all(|it| it.kind != "node" || it.node != **node))
    {
        reasons.push(json!({
            "code": "node-offline",
            "detail": format!("PVE_NODE names {node}, and the cluster has no such node"),
        }));
    }
    reasons
}
