//! `GET /cluster/resources`: half live, half up to ten seconds old [pve-manager `API2/Cluster.pm`].

use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};

use super::{Guest, Node, Sim, guest_api, reply::Answer, storage, wire::Call};

/// How often a node's pvestatd tells, and how long that is believed.
const CYCLE: Duration = Duration::seconds(10);
const EXPIRY: Duration = Duration::minutes(5);

/// What pvestatd said last of a VMID, be it of an older guest.
#[derive(Clone, Debug)]
pub(crate) struct Stats {
    at: OffsetDateTime,
    name: String,
    status: &'static str,
    template: bool,
    uptime: i64,
    cores: u64,
    memory: u64,
    disk: u64,
}

/// Guests, storages and nodes.
pub(crate) fn list(sim: &mut Sim, call: &Call, _: OffsetDateTime) -> Answer {
    sim.guest_properties()?;
    let wanted = |kind: &str| call.get("type").is_none_or(|asked| asked == kind);
    let mut items = Vec::<Value>::new();
    if wanted("vm") {
        let seen = |guest: &&Guest| sim.may(&call.token, &format!("/vms/{}", guest.vmid), &["VM.Audit"]);
        items.extend(sim.guests.values().filter(seen).map(|guest| of_guest(sim, call, guest)));
    }
    if wanted("node") {
        items.extend(sim.setup.nodes.iter().map(|node| of_node(sim, call, node)));
    }
    if wanted("storage") {
        items.extend(of_storages(sim, call));
    }
    Ok(items.into())
}

impl Sim {
    /// Lets every pvestatd whose turn comes by `to` look at its guests.
    ///
    /// Nothing changes between two events, so of several turns in a quiet
    /// time only the last counts.
    pub(crate) fn collect_stats(&mut self, to: OffsetDateTime) {
        for n in 0..self.setup.nodes.len() {
            if self.silent_stats {
                break;
            }
            let last = self.last_turn(n, to);
            if last <= self.now || !self.setup.nodes[n].online || self.is_stuck(&self.setup.nodes[n].name) {
                continue;
            }
            let node = self.setup.nodes[n].name.clone();
            let guests: Vec<u32> =
                self.guests.values().filter(|guest| guest.node == node).map(|guest| guest.vmid).collect();
            let mut used = 0;
            for vmid in guests {
                let guest = &self.guests[&vmid];
                let stats = self.look(guest, last);
                used += if guest.run.is_some() { stats.memory } else { 0 };
                self.stats.insert(vmid, stats);
            }
            self.used_memory.insert(node, used);
        }
        self.stats.retain(|_, stats| to - stats.at < EXPIRY);
    }

    /// pvestatd knows this guest as it is now.
    pub(crate) fn notice(&mut self, vmid: u32) {
        if let Some(guest) = self.guests.get(&vmid) {
            let stats = self.look(guest, self.now);
            self.stats.insert(vmid, stats);
        }
    }

    fn look(&self, guest: &Guest, at: OffsetDateTime) -> Stats {
        let number =
            |key: &str, none: u64| guest.config.get(key).and_then(|n| n.parse().ok()).unwrap_or(none);
        let volumes = storage::volumes(&guest.config.options);
        let disk =
            volumes.get(guest.kind.disk()).and_then(|volid| self.volumes.get(volid)).map_or(0, |v| v.bytes);
        let since = at - self.now;
        Stats {
            at,
            name: guest.name(),
            status: guest.shown_status(),
            template: guest.config.is("template"),
            uptime: guest.run.as_ref().map_or(0, |_| guest_api::uptime(self, guest) + since.whole_seconds()),
            cores: number("cores", 1),
            memory: number("memory", 512) << 20,
            disk,
        }
    }

    /// Each node's pvestatd has its own phase.
    fn last_turn(&self, n: usize, to: OffsetDateTime) -> OffsetDateTime {
        let phase = (self.setup.seed.wrapping_mul(2_654_435_761).wrapping_add(n as u64 * 3_571)) % 10_000;
        let millis = ((to - OffsetDateTime::UNIX_EPOCH).whole_milliseconds() - i128::from(phase)) as i64;
        let cycle = CYCLE.whole_milliseconds() as i64;
        let turn = millis.div_euclid(cycle) * cycle + phase as i64;
        OffsetDateTime::UNIX_EPOCH + Duration::milliseconds(turn)
    }
}

/// Memory is pvestatd's word, for those who may audit the node.
fn of_node(sim: &Sim, call: &Call, node: &Node) -> Value {
    let status = if node.online { "online" } else { "offline" };
    let mut item =
        json!({ "id": format!("node/{}", node.name), "type": "node", "node": node.name, "status": status });
    if node.online && sim.may(&call.token, &format!("/nodes/{}", node.name), &["Sys.Audit"]) {
        let (all, idle) = node.memory;
        item["maxmem"] = json!(all);
        item["mem"] = json!(idle + sim.used_memory.get(&node.name).unwrap_or(&0));
    }
    item
}

fn of_guest(sim: &Sim, call: &Call, guest: &Guest) -> Value {
    let kind = guest.kind.name();
    let mut item = json!({
        "id": format!("{kind}/{}", guest.vmid), "vmid": guest.vmid, "type": kind, "node": guest.node,
        "status": "unknown",
    });
    for key in ["tags", "lock"] {
        if let Some(value) = guest.config.get(key) {
            item[key] = json!(value);
        }
    }
    let audited = |pool: &&String| sim.may(&call.token, &format!("/pool/{pool}"), &["Pool.Audit"]);
    if let Some(pool) = guest.pool.as_ref().filter(audited) {
        item["pool"] = json!(pool);
    }
    if let Some(stats) = sim.stats.get(&guest.vmid) {
        item["status"] = json!(stats.status);
        item["name"] = json!(stats.name);
        item["template"] = json!(u8::from(stats.template));
        item["uptime"] = json!(stats.uptime);
        item["maxcpu"] = json!(stats.cores);
        item["maxmem"] = json!(stats.memory);
        item["maxdisk"] = json!(stats.disk);
        for key in ["cpu", "mem", "memhost", "disk", "netin", "netout", "diskread", "diskwrite"] {
            item[key] = json!(0);
        }
    }
    item
}

fn of_storages(sim: &Sim, call: &Call) -> Vec<Value> {
    let mut items = Vec::new();
    for node in &sim.setup.nodes {
        for storage in
            sim.setup.storages.iter().filter(|storage| storage.enabled && storage.is_on(&node.name))
        {
            let path = format!("/storage/{}", storage.id);
            let any: &[_] = if sim.setup.storages_need_audit {
                &["Datastore.Audit"]
            } else {
                &["Datastore.Audit", "Datastore.AllocateSpace"]
            };
            if sim.may(&call.token, &path, any) {
                items.push(json!({
                    "id": format!("storage/{}/{}", node.name, storage.id), "type": "storage",
                    "storage": storage.id, "node": node.name, "plugintype": storage.kind.name(),
                    "status": if node.online { "available" } else { "unknown" },
                    "shared": u8::from(storage.shared), "maxdisk": storage.total, "disk": sim.used(&storage.id),
                    "content": storage.content,
                }));
            }
        }
    }
    items
}
