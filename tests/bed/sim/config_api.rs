//! `GET` and `PUT …/config` [pve-container `API2/LXC/Config.pm`, qemu-server `API2/Qemu.pm`].

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use time::OffsetDateTime;

use super::{
    Config, Kind, Sim, parameters, qemu,
    reply::{Answer, Fail},
    setup::Version,
    storage,
    wire::Call,
};

/// Any of these opens the door; each option is looked at after.
pub(crate) const ANY: &[&str] =
    &["VM.Config.Disk", "VM.Config.CPU", "VM.Config.Memory", "VM.Config.Network", "VM.Config.Options"];

/// Applied at once on a running container; the rest waits for a start.
const HOT: &[&str] = &[
    "tags",
    "hostname",
    "onboot",
    "startup",
    "protection",
    "hookscript",
    "cores",
    "lock",
    "memory",
    "swap",
    "cpulimit",
    "cpuunits",
];

/// Options that no parameter sets, and that may be deleted.
const HIDDEN: &[&str] = &["parent", "runningcpu", "runningmachine", "snaptime", "vmstate"];

/// `GET …/config`; current, and from pveproxy, not from a worker.
pub(crate) fn read(sim: &mut Sim, call: &Call, _: OffsetDateTime) -> Answer {
    let guest = sim.named(call)?;
    let whole = &guest.config;
    let section = match call.get("snapshot") {
        None => whole,
        Some(name) => match whole.snapshots.get(name) {
            Some(section) => section,
            None => return Err(Fail::die(format!("snapshot '{name}' does not exist"))),
        },
    };
    let mut options = section.options.clone();
    if !call.is("current") {
        for (key, value) in &section.pending {
            match value {
                Some(value) => options.insert(key.clone(), value.clone()),
                None => options.remove(key),
            };
        }
    }
    if !sim.may(&call.token, &format!("/vms/{}", guest.vmid), &["VM.Config.Options"]) {
        options.remove("env");
    }
    let mut data: Map<String, Value> = options
        .iter()
        .map(|(key, value)| (key.clone(), typed(guest.kind, sim.setup.version, key, value)))
        .collect();
    if let Some(text) = section.description_read(guest.kind) {
        data.insert("description".into(), text.into());
    }
    data.insert("digest".into(), whole.digest().into());
    Ok(data.into())
}

/// `PUT …/config`: all or nothing, under the file lock.
pub(crate) fn write(sim: &mut Sim, call: &Call, arrived: OffsetDateTime) -> Answer {
    let (vmid, kind) = (call.vmid(), call.kind());
    let settings = settings(call)?;
    let mut delete: Vec<&str> = call
        .get("delete")
        .unwrap_or("")
        .split(super::tags::SEPARATORS)
        .filter(|key| !key.is_empty())
        .collect();
    sim.named(call)?;
    if kind == Kind::Qemu {
        deletable(sim, call, &delete)?;
        permitted(sim, call, &settings, &delete)?;
    }
    sim.wait_flock(vmid, arrived)?;
    match kind {
        Kind::Lxc => {
            sim.check_lock(vmid)?;
            assert_digest(sim, call)?;
            permitted(sim, call, &settings, &delete)?;
            deletable(sim, call, &delete)?;
        }
        Kind::Qemu => {
            assert_digest(sim, call)?;
            if !qemu::config::forgets_memory(sim, call, &mut delete)? {
                sim.check_lock(vmid)?;
            }
            qemu::config::check_balloon(sim, vmid, &settings)?;
        }
    }
    apply(sim, vmid, &settings, &delete);
    Ok(Value::Null)
}

/// What a write sets, without what is about the write itself.
fn settings(call: &Call) -> Result<BTreeMap<&String, &String>, Fail> {
    let own = ["digest", "background_delay", "force", "skiplock"];
    let is_setting = |key: &str| !own.contains(&key) && !call.uri.contains_key(key);
    let settings: BTreeMap<_, _> = call.form.iter().filter(|(key, _)| is_setting(key)).collect();
    if settings.is_empty() { Err(Fail::die("no options specified")) } else { Ok(settings) }
}

/// Options there are, none of which is set by the same call.
fn deletable(sim: &Sim, call: &Call, delete: &[&str]) -> Result<(), Fail> {
    let known = |key: &str| call.endpoint.is_some_and(|it| parameters::is_option(it, key, sim.setup.version));
    for key in delete {
        if call.form.contains_key(*key) {
            let text = format!("you can't use '-{key}' and -delete {key}' at the same time");
            return Err(Fail::parameter("delete", text));
        }
        if !known(key) && !HIDDEN.contains(key) {
            return Err(Fail::parameter("delete", format!("unknown option '{key}'")));
        }
    }
    Ok(())
}

fn permitted(
    sim: &Sim,
    call: &Call,
    settings: &BTreeMap<&String, &String>,
    delete: &[&str],
) -> Result<(), Fail> {
    let set = settings.iter().filter(|(key, _)| !matches!(key.as_str(), "delete" | "revert"));
    let gone = delete.iter().map(|key| (*key, None));
    let mut all = gone.chain(set.map(|(key, value)| (key.as_str(), Some(value.as_str()))));
    all.try_for_each(|(key, value)| match call.kind() {
        Kind::Lxc => {
            let guest = sim.named(call)?;
            allowed(sim, call, guest.vmid, &guest.config, key, value)
        }
        Kind::Qemu => qemu::config::allowed(sim, call, key, value),
    })
}

/// Compare-and-swap on the whole file; the words differ, and qemu-server spelt
/// them otherwise before 9.
pub(crate) fn assert_digest(sim: &Sim, call: &Call) -> Result<(), Fail> {
    let guest = sim.named(call)?;
    match call.get("digest") {
        Some(digest) if !digest.is_empty() && digest != guest.config.digest() => {
            Err(Fail::die(match guest.kind {
                Kind::Lxc => "detected modified configuration - file changed by other user? Try again.",
                Kind::Qemu if sim.setup.version >= Version::V9 => {
                    "checksum mismatch (file change by other user?)"
                }
                Kind::Qemu => "checksum missmatch (file change by other user?)",
            }))
        }
        _ => Ok(()),
    }
}

/// The bridges of all networks.
pub(crate) fn bridges(options: &BTreeMap<String, String>) -> impl Iterator<Item = &str> {
    let networks = options.iter().filter(|(key, _)| is_net(key));
    networks.filter_map(|(_, value)| value.split(',').find_map(|part| part.strip_prefix("bridge=")))
}

/// Whether an option is a network.
pub(crate) fn is_net(key: &str) -> bool {
    key.strip_prefix("net").is_some_and(|n| n.parse::<u8>().is_ok())
}

/// A network line as PVE prints it, with this address if `key` is a network.
pub(crate) fn with_hwaddr(kind: Kind, key: &str, value: &str, hwaddr: &str) -> String {
    if !is_net(key) {
        return value.into();
    }
    let mut parts: BTreeMap<&str, &str> = value.split(',').filter_map(|part| part.split_once('=')).collect();
    let name = match kind {
        Kind::Lxc => {
            parts.insert("hwaddr", hwaddr);
            parts.insert("type", "veth");
            format!("name={}", parts.remove("name").unwrap_or("eth0"))
        }
        Kind::Qemu => {
            let model = qemu::config::model(value);
            parts.retain(|key, _| *key != model && !matches!(*key, "model" | "macaddr"));
            format!("{model}={hwaddr}")
        }
    };
    let rest = parts.iter().map(|(key, value)| format!(",{key}={value}")).collect::<String>();
    format!("{name}{rest}")
}

/// Numbers are numbers in JSON; a VM's memory is a string since 8.
pub(crate) fn typed(kind: Kind, version: Version, key: &str, value: &str) -> Value {
    const NUMBERS: &[&str] = &[
        "balloon",
        "console",
        "cores",
        "cpulimit",
        "cpuunits",
        "debug",
        "memory",
        "numa",
        "onboot",
        "protection",
        "snaptime",
        "sockets",
        "swap",
        "template",
        "tty",
        "unprivileged",
        "vcpus",
    ];
    let text = kind == Kind::Qemu && key == "memory" && version >= Version::V8;
    match value.parse::<i64>() {
        Ok(number) if NUMBERS.contains(&key) && !text => number.into(),
        _ if key == "cipassword" => "**********".into(),
        _ => value.into(),
    }
}

fn apply(sim: &mut Sim, vmid: u32, settings: &BTreeMap<&String, &String>, delete: &[&str]) {
    let hwaddr = sim.rng.hwaddr();
    let tags = settings.get(&"tags".to_owned()).map(|tags| sim.datacenter.normalised(tags));
    let Some(guest) = sim.guests.get_mut(&vmid) else { return };
    let kind = guest.kind;
    let hot = |key: &str| {
        is_net(key)
            || match kind {
                Kind::Lxc => HOT.contains(&key),
                Kind::Qemu => qemu::config::HOT.contains(&key),
            }
    };
    let running = guest.run.is_some();
    for key in delete {
        match *key {
            "description" => guest.config.description = None,
            key if running && !hot(key) => guest.config.pend(key, None),
            key => guest.config.unset(key),
        }
    }
    for (key, value) in settings {
        let value = match key.as_str() {
            "delete" | "revert" => continue,
            "description" => {
                guest.config.description = Some((*value).clone()).filter(|text| !text.is_empty());
                continue;
            }
            "tags" => tags.clone().unwrap_or_default(),
            key => {
                let given = match kind {
                    Kind::Lxc => value.split(',').find_map(|part| part.strip_prefix("hwaddr=")),
                    Kind::Qemu => qemu::config::macaddr(value),
                };
                with_hwaddr(kind, key, boolean(key, value), given.unwrap_or(&hwaddr))
            }
        };
        if running && !hot(key) {
            guest.config.pend(key, Some(value));
        } else {
            guest.config.set(key, value);
        }
    }
}

fn boolean<'a>(key: &str, value: &'a str) -> &'a str {
    match (key, value) {
        ("onboot" | "protection" | "template" | "console" | "debug", "true" | "yes" | "on") => "1",
        ("onboot" | "protection" | "template" | "console" | "debug", "false" | "no" | "off") => "0",
        _ => value,
    }
}

/// `check_ct_modify_config_perm` of `LXC.pm`: one option, its new value or `None`;
/// of a container that is being made, what is there yet is empty.
pub(crate) fn allowed(
    sim: &Sim,
    call: &Call,
    vmid: u32,
    old: &Config,
    key: &str,
    value: Option<&str>,
) -> Result<(), Fail> {
    let path = format!("/vms/{vmid}");
    let need = |privilege: &str| sim.require(&call.token, &path, &[privilege]);
    match key.trim_end_matches(|c: char| c.is_ascii_digit()) {
        "hookscript" => Err(Fail::permission("changing the hookscript is only allowed for root@pam")),
        "dev" => Err(Fail::permission("configuring device passthrough is only allowed for root@pam")),
        "unprivileged" => Err(Fail::die(format!("unable to modify read-only option: '{key}'"))),
        "features" => features(sim, call, vmid, old, value.unwrap_or("")),
        "cores" | "cpulimit" | "cpuunits" => need("VM.Config.CPU"),
        "memory" | "swap" => need("VM.Config.Memory"),
        "rootfs" if value.is_none() => Err(Fail::die("unable to delete required option 'rootfs'")),
        "rootfs" | "mp" | "unused" => {
            need("VM.Config.Disk")?;
            let options = BTreeMap::from([(key.to_owned(), value.unwrap_or("").to_owned())]);
            storage::volumes(&options).values().filter(|volid| !volid.is_empty()).try_for_each(|volid| {
                let id = volid.split(':').next().unwrap_or("");
                sim.require(&call.token, &format!("/storage/{id}"), &["Datastore.AllocateSpace"])
            })
        }
        "hostname" | "nameserver" | "searchdomain" => need("VM.Config.Network"),
        "net" => {
            need("VM.Config.Network")?;
            let both = [old.get(key), value].into_iter().flatten();
            let lines = both.enumerate().map(|(n, line)| (format!("net{n}"), line.to_owned())).collect();
            let zone = |bridge: &str| format!("/sdn/zones/localnetwork/{bridge}");
            let checked = sim.setup.version >= Version::V8;
            bridges(&lines)
                .filter(|_| checked)
                .try_for_each(|bridge| sim.require(&call.token, &zone(bridge), &["SDN.Use"]))
        }
        "tags" => {
            need("VM.Config.Options")?;
            let new = sim.datacenter.normalised(value.unwrap_or(""));
            sim.assert_tags(&call.token, old.get("tags").unwrap_or(""), &new)
        }
        _ => need("VM.Config.Options"),
    }
}

/// Only `nesting` may change, and only unprivileged containers.
fn features(sim: &Sim, call: &Call, vmid: u32, old: &Config, value: &str) -> Result<(), Fail> {
    if !old.is("unprivileged") {
        let text = "changing feature flags for privileged container is only allowed for root@pam";
        return Err(Fail::permission(text));
    }
    let others = |text: &str| -> Vec<String> {
        text.split(',').filter(|f| !f.is_empty() && !f.starts_with("nesting=")).map(str::to_owned).collect()
    };
    if others(old.get("features").unwrap_or("")) != others(value) {
        return Err(Fail::permission("changing feature flags (except nesting) is only allowed for root@pam"));
    }
    sim.require(&call.token, &format!("/vms/{vmid}"), &["VM.Allocate"])
}
