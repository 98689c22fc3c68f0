//! `GET` and `PUT …/config` [pve-container `API2/LXC/Config.pm`].

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use time::OffsetDateTime;

use super::{
    Config, Sim,
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

/// `GET …/config`; current, and from pveproxy, not from a worker.
pub(crate) fn read(sim: &mut Sim, call: &Call, _: OffsetDateTime) -> Answer {
    let guest = sim.container(call)?;
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
    let mut data: Map<String, Value> =
        options.iter().map(|(key, value)| (key.clone(), typed(key, value))).collect();
    if let Some(text) = section.description_read() {
        data.insert("description".into(), text.into());
    }
    data.insert("digest".into(), whole.digest().into());
    Ok(data.into())
}

/// `PUT …/config`: all or nothing, under the file lock.
pub(crate) fn write(sim: &mut Sim, call: &Call, arrived: OffsetDateTime) -> Answer {
    let vmid = call.vmid();
    let settings: BTreeMap<&String, &String> =
        call.form.iter().filter(|(key, _)| *key != "digest" && !call.uri.contains_key(*key)).collect();
    if settings.is_empty() {
        return Err(Fail::die("no options specified"));
    }
    if let Some(env) = call.get("env").filter(|env| env.split('\0').any(|entry| !is_env(entry))) {
        return Err(Fail::parameter("env", format!("value does not match the regex pattern: {}", env.len())));
    }
    sim.container(call)?;
    sim.wait_flock(vmid, arrived)?;
    sim.check_lock(vmid)?;
    assert_digest(&sim.container(call)?.config, call)?;
    let delete =
        call.get("delete").unwrap_or("").split(super::tags::SEPARATORS).filter(|key| !key.is_empty());
    let delete: Vec<&str> = delete.collect();
    for key in &delete {
        if call.form.contains_key(*key) {
            let text = format!("can't use '-{key}' and -delete {key}' at the same time");
            return Err(Fail::parameter("delete", text));
        }
        allowed(sim, call, key, None)?;
    }
    for (key, value) in settings.iter().filter(|(key, _)| !matches!(key.as_str(), "delete" | "revert")) {
        allowed(sim, call, key, Some(value))?;
    }
    apply(sim, vmid, &settings, &delete);
    Ok(Value::Null)
}

/// Compare-and-swap on the whole file.
pub(crate) fn assert_digest(config: &Config, call: &Call) -> Result<(), Fail> {
    match call.get("digest") {
        Some(digest) if !digest.is_empty() && digest != config.digest() => {
            Err(Fail::die("detected modified configuration - file changed by other user? Try again."))
        }
        _ => Ok(()),
    }
}

/// The bridges of all networks.
pub(crate) fn bridges(options: &BTreeMap<String, String>) -> impl Iterator<Item = &str> {
    let networks = options.iter().filter(|(key, _)| key.starts_with("net"));
    networks.filter_map(|(_, value)| value.split(',').find_map(|part| part.strip_prefix("bridge=")))
}

/// A network line as PVE prints it, with this address if `key` is a network.
pub(crate) fn with_hwaddr(key: &str, value: &str, hwaddr: &str) -> String {
    if key.strip_prefix("net").is_none_or(|n| n.parse::<u8>().is_err()) {
        return value.into();
    }
    let mut parts: BTreeMap<&str, &str> = value.split(',').filter_map(|part| part.split_once('=')).collect();
    parts.insert("hwaddr", hwaddr);
    parts.insert("type", "veth");
    let name = parts.remove("name").unwrap_or("eth0");
    let rest = parts.iter().map(|(key, value)| format!(",{key}={value}")).collect::<String>();
    format!("name={name}{rest}")
}

/// Numbers are numbers in JSON.
pub(crate) fn typed(key: &str, value: &str) -> Value {
    const NUMBERS: &[&str] = &[
        "cores",
        "memory",
        "swap",
        "onboot",
        "protection",
        "template",
        "unprivileged",
        "cpulimit",
        "cpuunits",
        "tty",
        "console",
        "debug",
        "snaptime",
    ];
    match value.parse::<i64>() {
        Ok(number) if NUMBERS.contains(&key) => number.into(),
        _ => value.into(),
    }
}

fn apply(sim: &mut Sim, vmid: u32, settings: &BTreeMap<&String, &String>, delete: &[&str]) {
    let hwaddr = sim.rng.hwaddr();
    let tags = settings.get(&"tags".to_owned()).map(|tags| sim.datacenter.normalised(tags));
    let Some(guest) = sim.guests.get_mut(&vmid) else { return };
    let hot = |key: &str| HOT.contains(&key) || key.starts_with("net");
    let running = guest.run.is_some();
    for key in delete {
        match *key {
            "description" => guest.config.description = None,
            key if running && !hot(key) => drop(guest.config.pending.insert(key.into(), None)),
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
            key if key.starts_with("net") && value.contains("hwaddr=") => {
                let own = value.split(',').find_map(|part| part.strip_prefix("hwaddr=")).unwrap_or(&hwaddr);
                with_hwaddr(key, value, own)
            }
            key => with_hwaddr(key, boolean(key, value), &hwaddr),
        };
        if running && !hot(key) {
            guest.config.pending.insert((*key).clone(), Some(value));
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

/// `check_ct_modify_config_perm` of `LXC.pm`: one option, its new value or `None`.
fn allowed(sim: &Sim, call: &Call, key: &str, value: Option<&str>) -> Result<(), Fail> {
    let guest = sim.container(call)?;
    let path = format!("/vms/{}", guest.vmid);
    let need = |privilege: &str| sim.require(&call.token, &path, &[privilege]);
    match key.trim_end_matches(|c: char| c.is_ascii_digit()) {
        "hookscript" => Err(Fail::permission("changing the hookscript is only allowed for root@pam")),
        "dev" => Err(Fail::permission("configuring device passthrough is only allowed for root@pam")),
        "unprivileged" => Err(Fail::die(format!("unable to modify read-only option: '{key}'"))),
        "features" => features(sim, call, value.unwrap_or("")),
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
            let both = [guest.config.get(key), value].into_iter().flatten();
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
            sim.assert_tags(&call.token, guest.config.get("tags").unwrap_or(""), &new)
        }
        _ => need("VM.Config.Options"),
    }
}

/// Only `nesting` may change, and only unprivileged containers.
fn features(sim: &Sim, call: &Call, value: &str) -> Result<(), Fail> {
    let guest = sim.container(call)?;
    if !guest.config.is("unprivileged") {
        let text = "changing feature flags for privileged container is only allowed for root@pam";
        return Err(Fail::permission(text));
    }
    let others = |text: &str| -> Vec<String> {
        text.split(',').filter(|f| !f.is_empty() && !f.starts_with("nesting=")).map(str::to_owned).collect()
    };
    if others(guest.config.get("features").unwrap_or("")) != others(value) {
        return Err(Fail::permission("changing feature flags (except nesting) is only allowed for root@pam"));
    }
    sim.require(&call.token, &format!("/vms/{}", guest.vmid), &["VM.Allocate"])
}

/// `NAME=value` without control characters but tab.
fn is_env(entry: &str) -> bool {
    let control = |c: char| c.is_control() && c != '\t';
    entry.split_once('=').is_some_and(|(name, value)| !name.is_empty() && !value.contains(control))
}
