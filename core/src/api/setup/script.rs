//! The script for a node of PVE: what the settings name and which privileges are needed, before what is the same everywhere.

use crate::{
    pve::privileges::{AGENTS, ARCHIVES, BRIDGE, GUESTS, NETWORK, NODES, STORAGE_SEEN, STORAGE_SPACE},
    settings::Named,
    text::shell::{ASKING, quote},
};

/// The script without what is written into it here.
const BODY: &str = include_str!("pve.sh");

/// Writes the script.
pub(in crate::api) fn script(named: &Named) -> String {
    let set = [
        ("self", "pve.sh".to_owned()),
        ("user", named.user.clone()),
        ("token", named.token.clone()),
        ("storages", named.storage.clone().unwrap_or_default()),
        ("bridges", named.bridge.clone().unwrap_or_default()),
        ("vms", if named.has_vms { "yes".to_owned() } else { String::new() }),
        ("for_guests", GUESTS.join(" ")),
        ("for_agents", AGENTS.join(" ")),
        ("for_storages", [STORAGE_SEEN, STORAGE_SPACE].join(" ")),
        ("for_bridges", BRIDGE.to_owned()),
        ("for_nodes", NODES.to_owned()),
        ("for_archives", [STORAGE_SEEN, ARCHIVES].join(" ")),
        ("for_network", NETWORK.to_owned()),
    ];
    let set: String =
        set.into_iter().map(|(name, value)| format!("    {name}={}\n", quote(&value))).collect();
    BODY.replacen("    # SETTINGS\n", &set, 1).replacen("# ASKING\n", ASKING, 1)
}
