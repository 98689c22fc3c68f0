//! Reads that are about the cluster, its nodes and storages.

use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use super::{
    Sim, StorageKind, Version,
    reply::{Answer, Fail},
    wire::Call,
};

/// `GET /version`
pub(crate) fn version(sim: &mut Sim, _: &Call, _: OffsetDateTime) -> Answer {
    let (version, release) = sim.setup.version.numbers();
    Ok(json!({ "version": version, "release": release, "repoid": "0123456789abcdef" }))
}

/// `GET /access/permissions`: the token's own.
pub(crate) fn permissions(sim: &mut Sim, call: &Call, _: OffsetDateTime) -> Answer {
    let fixed = ["/", "/access", "/nodes", "/pool", "/sdn", "/storage", "/vms"].map(str::to_owned);
    // Paths of anybody's ACLs, and members of pools [pve-access-control `RPCEnvironment.pm`].
    let listed = sim.access.acl.keys().map(|(_, path)| path.clone());
    let pooled = sim.guests.values().filter(|it| it.pool.is_some()).map(|it| format!("/vms/{}", it.vmid));
    let paths: std::collections::BTreeSet<String> = match call.get("path") {
        Some(path) => [path.to_owned()].into(),
        None => fixed.into_iter().chain(listed).chain(pooled).collect(),
    };
    let mut data = Map::new();
    for path in paths {
        let privileges = sim.privileges(&call.token, &path);
        let map: Map<String, Value> = privileges.into_iter().map(|privilege| (privilege, json!(1))).collect();
        if !map.is_empty() {
            data.insert(path, map.into());
        }
    }
    Ok(data.into())
}

/// `GET /access/ticket`: for a page that wants to know whether anybody is there.
pub(crate) fn no_ticket(_: &mut Sim, _: &Call, _: OffsetDateTime) -> Answer {
    Ok(Value::Null)
}

/// `POST /access/ticket`, which is for passwords.
pub(crate) fn ticket(_: &mut Sim, _: &Call, _: OffsetDateTime) -> Answer {
    Err(Fail::permission("URI '/access/ticket' not available with API token, need proper ticket.\n"))
}

/// `GET /cluster/nextid`: a read, not a reservation.
pub(crate) fn nextid(sim: &mut Sim, call: &Call, _: OffsetDateTime) -> Answer {
    if let Some(vmid) = call.number("vmid") {
        if sim.guests.contains_key(&vmid) {
            return Err(Fail::parameter("vmid", format!("VM {vmid} already exists")));
        }
        return Ok(vmid.to_string().into());
    }
    let free = (100..1_000_000).find(|vmid| !sim.guests.contains_key(vmid));
    let none = || Fail::die("unable to get any free VMID in range [100, 1000000]");
    Ok(free.ok_or_else(none)?.to_string().into())
}

/// `GET /cluster/options`: all of it with `Sys.Audit`, tags for everybody.
pub(crate) fn options(sim: &mut Sim, call: &Call, _: OffsetDateTime) -> Answer {
    let datacenter = &sim.datacenter;
    let mut data = json!({ "allowed-tags": sim.allowed_tags() });
    if datacenter.case_sensitive || datacenter.config_order {
        let mut style = Map::new();
        if datacenter.case_sensitive {
            style.insert("case-sensitive".into(), json!(1));
        }
        if datacenter.config_order {
            style.insert("ordering".into(), json!("config"));
        }
        data["tag-style"] = style.into();
    }
    if sim.may(&call.token, "/", &["Sys.Audit"]) {
        data["keyboard"] = json!("en-us");
        if datacenter.user_allow != "free" {
            data["user-tag-access"] = json!({ "user-allow": datacenter.user_allow });
        }
        if !datacenter.registered.is_empty() {
            data["registered-tags"] = json!(datacenter.registered);
        }
    }
    Ok(data)
}

/// `GET /cluster/status`
pub(crate) fn status(sim: &mut Sim, _: &Call, _: OffsetDateTime) -> Answer {
    let nodes = &sim.setup.nodes;
    let mut items = vec![json!({
        "type": "cluster", "id": "cluster", "name": "sim", "quorate": 1, "nodes": nodes.len(), "version": 1,
    })];
    items.extend(nodes.iter().enumerate().map(|(n, node)| {
        json!({
            "type": "node", "id": format!("node/{}", node.name), "name": node.name, "ip": node.ip,
            "nodeid": n + 1, "online": u8::from(node.online), "local": u8::from(n == 0), "level": "",
        })
    }));
    Ok(items.into())
}

/// `GET /nodes`
pub(crate) fn nodes(sim: &mut Sim, call: &Call, _: OffsetDateTime) -> Answer {
    let one = |node: &super::Node| {
        let status = if node.online { "online" } else { "offline" };
        let mut item = json!({
            "node": node.name, "status": status, "id": format!("node/{}", node.name), "type": "node", "level": "",
            "ssl_fingerprint": "00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF",
        });
        if node.online && sim.may(&call.token, &format!("/nodes/{}", node.name), &["Sys.Audit"]) {
            item["maxcpu"] = json!(16);
            item["cpu"] = json!(0.02);
            item["maxmem"] = json!(node.memory.0);
            item["mem"] = json!(node.memory.1);
            item["maxdisk"] = json!(100u64 << 30);
            item["disk"] = json!(10u64 << 30);
            item["uptime"] = json!(86_400);
        }
        item
    };
    Ok(sim.setup.nodes.iter().map(one).collect())
}

/// `GET /nodes/{node}/status`
pub(crate) fn node_status(sim: &mut Sim, _: &Call, _: OffsetDateTime) -> Answer {
    let (version, _) = sim.setup.version.numbers();
    Ok(json!({
        "pveversion": format!("pve-manager/{version}/0123456789abcdef"), "uptime": 86_400, "cpu": 0.02,
        "loadavg": ["0.10", "0.12", "0.09"], "cpuinfo": { "cpus": 16, "cores": 16, "sockets": 1 },
        "memory": { "total": 64u64 << 30, "used": 8u64 << 30, "free": 56u64 << 30 },
        "rootfs": { "total": 100u64 << 30, "used": 10u64 << 30, "free": 90u64 << 30, "avail": 90u64 << 30 },
    }))
}

/// `GET /nodes/{node}/dns`
pub(crate) fn dns(sim: &mut Sim, call: &Call, _: OffsetDateTime) -> Answer {
    let search = sim.setup.nodes.iter().find(|node| node.name == call.node()).map(|node| &node.search);
    Ok(json!({ "search": search, "dns1": "10.0.0.53" }))
}

/// `GET /nodes/{node}/network`: bridges that the token may use.
pub(crate) fn network(sim: &mut Sim, call: &Call, _: OffsetDateTime) -> Answer {
    let bridges = ["bridge", "any_bridge", "any_local_bridge", "include_sdn"];
    if call.get("type").is_some_and(|kind| !bridges.contains(&kind)) {
        return Ok(json!([]));
    }
    let old = sim.setup.version == Version::V7_4;
    let may = |bridge: &&String| {
        old || sim.may(&call.token, &format!("/sdn/zones/localnetwork/{bridge}"), &["SDN.Audit", "SDN.Use"])
    };
    let (cidr, gateway) = (&sim.setup.bridge_address, &sim.setup.bridge_gateway);
    let (address, netmask) = cidr.split_once('/').unwrap_or((cidr, ""));
    let one = |bridge: &String| {
        let mut item = json!({ "iface": bridge, "type": "bridge", "active": 1, "autostart": 1, "method": "static",
            "method6": "manual", "families": ["inet"], "priority": 3, "bridge_ports": "", "bridge_stp": "off",
            "bridge_fd": "0", "address": address, "netmask": netmask, "cidr": cidr });
        if let Some(gateway) = gateway {
            item["gateway"] = json!(gateway);
        }
        item
    };
    Ok(sim.setup.bridges.iter().filter(may).map(one).collect())
}

/// `GET /storage`: configuration only.
pub(crate) fn storage_config(sim: &mut Sim, call: &Call, _: OffsetDateTime) -> Answer {
    let wanted = |storage: &&super::Storage| {
        audited(sim, call, &storage.id) && call.get("type").is_none_or(|kind| kind == storage.kind.name())
    };
    let one = |storage: &super::Storage| {
        let mut item = json!({
            "storage": storage.id, "type": storage.kind.name(), "content": storage.content, "digest": "0",
        });
        if !storage.enabled {
            item["disable"] = json!(1);
        }
        if storage.shared {
            item["shared"] = json!(1);
        }
        if matches!(storage.kind, StorageKind::Btrfs | StorageKind::Dir) {
            item["path"] = json!(format!("/var/lib/{}", storage.id));
        }
        item
    };
    Ok(sim.setup.storages.iter().filter(wanted).map(one).collect())
}

/// `GET /nodes/{node}/storage`
pub(crate) fn storage(sim: &mut Sim, call: &Call, _: OffsetDateTime) -> Answer {
    let content = call.get("content").unwrap_or("");
    let fits =
        |storage: &super::Storage| content.is_empty() || content.split(',').any(|it| storage.takes(it));
    let wanted = |storage: &&super::Storage| {
        fits(storage)
            && storage.is_on(call.node())
            && audited(sim, call, &storage.id)
            && (content.is_empty() || storage.enabled)
            && call.get("storage").is_none_or(|id| id == storage.id)
    };
    let one = |storage: &super::Storage| {
        let used = sim.used(&storage.id);
        let live = |bytes: u64| if storage.enabled { bytes } else { 0 };
        json!({
            "storage": storage.id, "type": storage.kind.name(), "content": storage.content,
            "enabled": u8::from(storage.enabled), "active": u8::from(storage.enabled),
            "shared": u8::from(storage.shared), "total": live(storage.total), "used": live(used),
            "avail": live(storage.total.saturating_sub(used)),
            "used_fraction": live(used) as f64 / storage.total as f64,
        })
    };
    Ok(sim.setup.storages.iter().filter(wanted).map(one).collect())
}

fn audited(sim: &Sim, call: &Call, id: &str) -> bool {
    sim.may(&call.token, &format!("/storage/{id}"), &["Datastore.Audit", "Datastore.AllocateSpace"])
}
