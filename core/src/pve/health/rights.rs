//! What the token may, as pve-access-control works it out of its ACLs.

use serde_json::Value;

use super::Seen;
use crate::{
    pve::{
        api::{cluster::Permissions, perl},
        privileges::{self, BRIDGE, GUESTS, NODES, STORAGE_SEEN, STORAGE_SPACE},
    },
    sandbox::id::Kind,
};

/// The privileges that are missing, by path.
pub(super) type Missing = Vec<(String, Vec<&'static str>)>;

/// Whether the token has a privilege on a path. PVE lists the paths that any
/// ACL names, each with all that holds there; below them the privileges that
/// propagate hold, and one whose roles all end there hides nothing (pve-access-control
/// `AccessControl.pm` `roles`). A path on which the token has none is not listed at all.
pub(super) fn has(rights: &Permissions, path: &str, privilege: &str) -> bool {
    if let Some(own) = rights.get(path) {
        return own.get(privilege).is_some();
    }
    let mut at = path;
    while let Some((above, _)) = at.rsplit_once('/').filter(|_| at != "/") {
        at = if above.is_empty() { "/" } else { above };
        let inherited = rights.get(at).and_then(Value::as_object);
        if let Some(all) = inherited.filter(|all| all.values().any(perl::truthy)) {
            return all.get(privilege).is_some_and(perl::truthy);
        }
    }
    false
}

/// Whether it may use a bridge, or a VLAN of it; a vnet is in a zone of its own.
pub(super) fn uses(rights: &Permissions, bridge: &str) -> bool {
    let named = |path: &str| path.starts_with("/sdn/zones/") && path.split('/').nth(4) == Some(bridge);
    has(rights, &sdn(bridge), BRIDGE) || rights.keys().any(|it| named(it) && has(rights, it, BRIDGE))
}

fn sdn(bridge: &str) -> String {
    format!("/sdn/zones/localnetwork/{bridge}")
}

fn storage(id: &str) -> String {
    format!("/storage/{id}")
}

/// Everything that is missing.
pub(super) fn missing(seen: &Seen<'_>, rights: &Permissions) -> Missing {
    let mut missing = Missing::new();
    let mut lacks =
        |path: String, privilege: &'static str| match missing.iter_mut().find(|(known, _)| *known == path) {
            Some((_, all)) if all.contains(&privilege) => {}
            Some((_, all)) => all.push(privilege),
            None => missing.push((path, vec![privilege])),
        };
    // A sandbox that does not exist yet has no ACL of its own.
    let guest = format!("/vms/{}", seen.settings.vmid_range.first());
    let agent = privileges::agent(seen.version);
    for privilege in GUESTS.into_iter().chain(seen.offers(Kind::Qemu).then_some(agent)) {
        if !has(rights, &guest, privilege) {
            lacks("/vms".into(), privilege);
        }
    }
    for template in &seen.templates {
        let path = format!("/vms/{}", template.vmid);
        if has(rights, &guest, "VM.Clone") && !has(rights, &path, "VM.Clone") {
            lacks(path, "VM.Clone");
        }
    }
    let nodes: Vec<&str> = seen.inventory.nodes().map(|it| it.node.as_str()).collect();
    let dark = nodes.iter().filter(|it| !has(rights, &format!("/nodes/{it}"), NODES));
    let dark: Vec<&&str> = dark.collect();
    if dark.len() == nodes.len() && !nodes.is_empty() {
        lacks("/nodes".into(), NODES);
    } else {
        dark.iter().for_each(|it| lacks(format!("/nodes/{it}"), NODES));
    }
    let (set, configs) = (seen.settings, &seen.configs);
    let storages = configs.iter().flat_map(|(_, it)| it.storages()).chain(set.storage.as_deref());
    for id in storages {
        let path = storage(id);
        let lacking = [STORAGE_SEEN, STORAGE_SPACE].into_iter().filter(|it| !has(rights, &path, it));
        lacking.for_each(|it| lacks(path.clone(), it));
    }
    let bridges = configs.iter().filter_map(|(_, it)| it.bridge()).chain(set.bridge.as_deref());
    for bridge in bridges.filter(|it| seen.has_sdn() && !uses(rights, it)) {
        lacks(sdn(bridge), BRIDGE);
    }
    missing
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rights_are_inherited_as_pve_does() {
        let Value::Object(rights) = json!({
            "/": {"Sys.Audit": 1, "VM.Audit": 1, "VM.Clone": 0},
            "/vms": {"VM.Allocate": 1, "VM.PowerMgmt": 0},
            "/vms/9000": {"VM.Clone": 0},
            "/storage": {"Datastore.Audit": 0},
            "/sdn/zones/evpn/blue": {"SDN.Use": "1"},
            "/sdn/zones/localnetwork/vmbr1/7": {"SDN.Use": 1},
        }) else {
            return;
        };
        for (path, privilege, expected) in [
            ("/", "VM.Clone", true),
            ("/nodes", "VM.Clone", false),
            ("/nodes/pve1", "Sys.Audit", true),
            ("/vms/200000", "VM.Allocate", true),
            ("/vms/200000", "VM.PowerMgmt", false),
            ("/vms", "VM.PowerMgmt", true),
            // A deeper role replaces what is inherited.
            ("/vms/200000", "VM.Audit", false),
            ("/vms/9000", "VM.Clone", true),
            ("/vms/9000", "VM.Allocate", false),
            // One that ends there hides nothing.
            ("/storage/tank", "Sys.Audit", true),
            ("/storage/tank", "Datastore.Audit", false),
        ] {
            assert_eq!(has(&rights, path, privilege), expected, "{path} {privilege}");
        }
        assert!(uses(&rights, "blue") && uses(&rights, "vmbr1") && !uses(&rights, "vmbr0"));
        assert!(!has(&Permissions::new(), "/vms", "VM.Audit"));
    }
}
