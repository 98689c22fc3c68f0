//! Live reads of guests.

use serde_json::{Value, json};
use time::OffsetDateTime;

use super::{Guest, Kind, Sim, Version, qemu::agent, reply::Answer, resize, storage, wire::Call};

/// `GET /nodes/{node}/lxc` and `…/qemu`: live, of that node.
pub(crate) fn list(sim: &mut Sim, call: &Call, _: OffsetDateTime) -> Answer {
    let here = |guest: &&Guest| {
        guest.node == call.node()
            && guest.kind == call.kind()
            && sim.may(&call.token, &format!("/vms/{}", guest.vmid), &["VM.Audit"])
    };
    let guests = sim.guests.values().filter(here);
    let mut items: Vec<Value> = guests.map(|guest| status(sim, guest)).collect();
    if sim.setup.version == Version::V7_4 {
        for item in &mut items {
            item["vmid"] = json!(item["vmid"].to_string());
        }
    }
    Ok(items.into())
}

/// `GET …/status/current`
pub(crate) fn current(sim: &mut Sim, call: &Call, _: OffsetDateTime) -> Answer {
    let guest = sim.named(call)?;
    let mut item = status(sim, guest);
    item["ha"] = json!({ "managed": 0 });
    if guest.kind == Kind::Qemu {
        item["qmpstatus"] = json!(guest.shown_status());
        if agent::configured(guest.config.get("agent").unwrap_or("")) {
            item["agent"] = json!(1);
        }
    }
    Ok(item)
}

/// `GET …/interfaces`: what the kernel shows inside; null when stopped.
pub(crate) fn interfaces(sim: &mut Sim, call: &Call, _: OffsetDateTime) -> Answer {
    let guest = sim.named(call)?;
    let Some(run) = &guest.run else { return Ok(Value::Null) };
    let interface = |name: &str, hwaddr: &str, inet: Option<String>, inet6: Option<&str>| {
        let mut addresses = Vec::new();
        let mut item = json!({ "name": name, "hwaddr": hwaddr, "hardware-address": hwaddr });
        for (kind, cidr) in [("inet", inet.as_deref()), ("inet6", inet6)] {
            let Some((ip, prefix)) = cidr.and_then(|cidr| cidr.split_once('/')) else { continue };
            item[kind] = json!(cidr);
            let prefix = prefix.parse::<u8>().unwrap_or(0);
            addresses.push(json!({ "ip-address": ip, "ip-address-type": kind, "prefix": prefix }));
        }
        item["ip-addresses"] = addresses.into();
        item
    };
    let mut items = vec![interface("lo", "00:00:00:00:00:00", Some("127.0.0.1/8".into()), Some("::1/128"))];
    let inner = sim.setup.inner_interfaces.iter().zip(1..);
    let inner = inner.map(|((name, cidr), n)| {
        interface(name, &format!("02:42:00:00:00:{n:02x}"), Some(cidr.clone()), None)
    });
    items.extend(inner);
    if let Some(net0) = guest.config.get("net0") {
        let part = |key: &str| net0.split(',').find_map(|part| part.strip_prefix(key)?.strip_prefix('='));
        let hwaddr = part("hwaddr").unwrap_or("").to_lowercase();
        let prefix = part("ip").and_then(|ip| ip.split_once('/')).map_or("24", |(_, prefix)| prefix);
        // Addresses appear when the guest has booted, not when its start has ended.
        let up = run.ready <= sim.now && part("ip") != Some("manual");
        let inet = up.then(|| format!("{}/{prefix}", run.claimed.unwrap_or(run.address)));
        items.push(interface(part("name").unwrap_or("eth0"), &hwaddr, inet, up.then_some("fe80::1/64")));
    }
    Ok(items.into())
}

fn status(sim: &Sim, guest: &Guest) -> Value {
    let number = |key: &str, none: u64| guest.config.get(key).and_then(|n| n.parse().ok()).unwrap_or(none);
    let rootfs = storage::volumes(&guest.config.options).remove(guest.kind.disk());
    let disk = rootfs.and_then(|volid| sim.volumes.get(&volid).map(|volume| volume.bytes));
    let mut item = json!({
        "vmid": guest.vmid, "status": guest.status(), "name": guest.name(),
        "cpus": number("cores", 1), "cpu": 0, "maxmem": number("memory", 512) << 20, "mem": 0,
        "netin": 0, "netout": 0, "diskread": 0, "diskwrite": 0,
        "maxdisk": disk.unwrap_or(resize::bytes("4G").unwrap_or(0)), "disk": 0,
        "uptime": uptime(sim, guest),
    });
    if guest.kind == Kind::Lxc {
        item["type"] = json!("lxc");
        item["maxswap"] = json!(number("swap", 512) << 20);
        item["swap"] = json!(0);
    }
    for key in ["tags", "lock"] {
        if let Some(value) = guest.config.get(key) {
            item[key] = json!(value);
        }
    }
    if guest.config.is("template") {
        item["template"] = json!(1);
    }
    if guest.run.is_some() {
        item["pid"] = json!(10_000 + guest.vmid);
        if sim.setup.version >= Version::V9 {
            for what in PRESSURES {
                item[what] = Value::Null;
            }
        }
    }
    item
}

/// What a cgroup says of waiting; null until pvestatd has asked twice.
const PRESSURES: [&str; 6] = [
    "pressurecpufull",
    "pressurecpusome",
    "pressureiofull",
    "pressureiosome",
    "pressurememoryfull",
    "pressurememorysome",
];

/// Seconds since the start.
pub(crate) fn uptime(sim: &Sim, guest: &Guest) -> i64 {
    guest.run.as_ref().map_or(0, |run| (sim.now - run.since).whole_seconds())
}
