//! Privileges that the token needs. Health asks for these, the script of `GET /api/setup/pve.sh` grants them, and a test
//! holds the page about PVE against them: no other place lists privileges.
//!
//! Their names are PVE's own (pve-access-control `AccessControl.pm` `$privgroups`).

/// Privileges on guests, on `/vms`.
pub const GUESTS: [&str; 11] = [
    "VM.Allocate",
    "VM.Audit",
    "VM.Clone",
    "VM.Config.CPU",
    "VM.Config.Disk",
    "VM.Config.Memory",
    "VM.Config.Network",
    "VM.Config.Options",
    "VM.Console",
    "VM.PowerMgmt",
    "VM.Snapshot",
];

/// Privileges that let the agents of virtual machines run commands: that of PVE 9, and the one that it took the place of
/// (pve-access-control 9.0.2).
pub const AGENTS: [&str; 2] = ["VM.GuestAgent.Unrestricted", "VM.Monitor"];

/// Privilege without which PVE leaves a storage out of its listing (pve-manager `API2/Cluster.pm`).
pub const STORAGE_SEEN: &str = "Datastore.Audit";

/// Privilege that lets disks be made on a storage.
pub const STORAGE_SPACE: &str = "Datastore.AllocateSpace";

/// Privilege that lets guests use a bridge, since PVE 8.0 (pve-access-control 8.0.0).
pub const BRIDGE: &str = "SDN.Use";

/// Privilege that shows a node's memory, and tasks of others, on `/nodes`.
pub const NODES: &str = "Sys.Audit";

/// Privilege that lets the archives of templates be fetched to a storage, for templates that the API makes from nothing.
pub const ARCHIVES: &str = "Datastore.AllocateTemplate";

/// Privilege that lets a node fetch from any address, on `/nodes`, since pve-access-control 8.1.2.
pub const NETWORK: &str = "Sys.AccessNetwork";

/// Privilege for the agents of virtual machines on this version of PVE.
pub(crate) fn agent(version: (u32, u32)) -> &'static str {
    let [new, old] = AGENTS;
    if version < (9, 0) { old } else { new }
}

/// Whether bridges have a privilege on this version of PVE.
pub(crate) fn has_bridges(version: (u32, u32)) -> bool {
    version >= (8, 0)
}
