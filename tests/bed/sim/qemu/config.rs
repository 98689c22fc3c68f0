//! What may be written to a VM's config [qemu-server `API2/Qemu.pm` update_vm_api].

use std::collections::BTreeMap;

use time::OffsetDateTime;

use crate::sim::{
    Sim, config_api,
    reply::{Answer, Fail},
    setup::Version,
    storage,
    wire::Call,
};

/// Any of these opens the door; each option is looked at first.
pub(crate) const ANY: &[&str] = &[
    "VM.Config.Disk",
    "VM.Config.CDROM",
    "VM.Config.CPU",
    "VM.Config.Memory",
    "VM.Config.Network",
    "VM.Config.HWType",
    "VM.Config.Options",
    "VM.Config.Cloudinit",
];

/// Applied at once on a running VM; the rest waits for a start. Cores and
/// memory are no part of `hotplug` by default.
pub(crate) const HOT: &[&str] =
    &["description", "hookscript", "lock", "name", "onboot", "protection", "startup", "tags"];

const MODELS: &[&str] = &["virtio", "e1000", "e1000e", "rtl8139", "vmxnet3"];

/// `POST …/config`: as PUT, in a worker.
pub(crate) fn write_async(sim: &mut Sim, call: &Call, arrived: OffsetDateTime) -> Answer {
    config_api::write(sim, call, arrived)?;
    // The work is a write of a file: with any `background_delay` it is over in time.
    if call.get("background_delay").is_some() {
        return Ok(serde_json::Value::Null);
    }
    let upid = sim.fork(call.node(), "qmconfig", &call.vmid().to_string(), &call.token);
    sim.end(&upid, "OK");
    Ok(upid.into())
}

/// `GET …/pending`
pub(crate) fn pending(sim: &mut Sim, call: &Call, _: OffsetDateTime) -> Answer {
    let (guest, version) = (sim.named(call)?, sim.setup.version);
    let typed = |key: &str, value: &str| config_api::typed(guest.kind, version, key, value);
    let config = &guest.config;
    let keys: std::collections::BTreeSet<&String> =
        config.options.keys().chain(config.pending.keys()).collect();
    let one = |key: &&String| {
        let mut item = serde_json::json!({ "key": key });
        if let Some(value) = config.get(key) {
            item["value"] = typed(key, value);
        }
        match config.pending.get(*key) {
            Some(Some(value)) => item["pending"] = typed(key, value),
            Some(None) => item["delete"] = 1.into(),
            None => {}
        }
        item
    };
    Ok(keys.iter().map(one).collect())
}

/// `delete=vmstate` gives up what a suspension kept, and its lock with it,
/// unless the VM is protected.
pub(crate) fn forgets_memory(sim: &mut Sim, call: &Call, delete: &mut Vec<&str>) -> Result<bool, Fail> {
    let guest = sim.named(call)?;
    if !guest.is_suspended() || !delete.contains(&"vmstate") {
        return Ok(false);
    }
    if guest.config.is("protection") {
        let state = guest.config.get("vmstate").unwrap_or("");
        return Err(Fail::die(format!("can't remove vmstate '{state}' - protection mode enabled")));
    }
    delete.retain(|key| *key != "vmstate");
    sim.forget_memory(call.vmid());
    Ok(true)
}

/// Memory may not be set below what it shrinks to [qemu-server `API2/Qemu.pm` update_vm_api].
pub(crate) fn check_balloon(
    sim: &Sim,
    vmid: u32,
    settings: &std::collections::BTreeMap<&String, &String>,
) -> Result<(), Fail> {
    let set =
        |key: &str| settings.iter().find(|(name, _)| name.as_str() == key).map(|(_, value)| value.as_str());
    let has = |key: &str| set(key).or_else(|| sim.guests.get(&vmid)?.config.get(key))?.parse::<u64>().ok();
    let asked = set("memory").is_some() || set("balloon").is_some();
    if asked && has("balloon").is_some_and(|it| it > has("memory").unwrap_or(512)) {
        return Err(Fail::die("balloon value too large (must be smaller than assigned memory)"));
    }
    Ok(())
}

/// The model of a network line.
pub(crate) fn model(line: &str) -> &str {
    let named = line.split(',').find_map(|part| part.strip_prefix("model="));
    let first = line.split(',').map(|part| part.split('=').next().unwrap_or(part));
    named.or_else(|| first.into_iter().find(|part| MODELS.contains(part))).unwrap_or("virtio")
}

/// The address that a network line asks for.
pub(crate) fn macaddr(line: &str) -> Option<&str> {
    let model = model(line);
    line.split(',').find_map(|part| {
        let (key, value) = part.split_once('=')?;
        (key == model || key == "macaddr").then_some(value)
    })
}

/// `check_vm_modify_config_perm`: one option, its new value or `None`.
pub(crate) fn allowed(sim: &Sim, call: &Call, key: &str, value: Option<&str>) -> Result<(), Fail> {
    let guest = sim.named(call)?;
    let path = format!("/vms/{}", guest.vmid);
    let need = |privilege: &str| sim.require(&call.token, &path, &[privilege]);
    let root = || Err(Fail::die(format!("only root can set '{key}' config")));
    match key.trim_end_matches(|c: char| c.is_ascii_digit()) {
        "hookscript" | "args" | "lock" | "hostpci" | "parallel" => root(),
        "cores" | "sockets" | "vcpus" | "cpu" | "cpulimit" | "cpuunits" | "numa" | "affinity" => {
            need("VM.Config.CPU")
        }
        "memory" | "balloon" | "shares" | "hugepages" => need("VM.Config.Memory"),
        "ciuser" | "cipassword" | "cicustom" | "citype" | "ciupgrade" | "sshkeys" | "ipconfig"
        | "nameserver" | "searchdomain" => {
            sim.require(&call.token, &path, &["VM.Config.Network", "VM.Config.Cloudinit"])
        }
        "scsi" | "virtio" | "sata" | "ide" | "efidisk" | "tpmstate" | "unused" => disk(sim, call, key, value),
        "vmstate" => {
            need("VM.Config.Disk")?;
            need("VM.PowerMgmt")
        }
        "net" => {
            need("VM.Config.Network")?;
            let checked = sim.setup.version >= Version::V8;
            let both = [guest.config.get(key), value].into_iter().flatten();
            let lines = both.enumerate().map(|(n, line)| (format!("net{n}"), line.to_owned())).collect();
            config_api::bridges(&lines).filter(|_| checked).try_for_each(|bridge| {
                sim.require(&call.token, &format!("/sdn/zones/localnetwork/{bridge}"), &["SDN.Use"])
            })
        }
        "tags" => {
            need("VM.Config.Options")?;
            let new = sim.datacenter.normalised(value.unwrap_or(""));
            sim.assert_tags(&call.token, guest.config.get("tags").unwrap_or(""), &new)
        }
        "agent" | "description" | "name" | "onboot" | "protection" | "startup" | "template" | "ostype"
        | "boot" | "bootdisk" | "autostart" | "kvm" | "acpi" | "tablet" | "localtime" | "hotplug"
        | "reboot" | "startdate" | "freeze" | "tdf" | "keyboard" | "smbios" | "vmgenid" => {
            need("VM.Config.Options")
        }
        _ => need("VM.Config.HWType"),
    }
}

fn disk(sim: &Sim, call: &Call, key: &str, value: Option<&str>) -> Result<(), Fail> {
    let cdrom = value.is_some_and(|value| value.contains("media=cdrom"));
    let privilege = if cdrom { "VM.Config.CDROM" } else { "VM.Config.Disk" };
    sim.require(&call.token, &format!("/vms/{}", call.vmid()), &[privilege])?;
    let options = BTreeMap::from([(key.to_owned(), value.unwrap_or("").to_owned())]);
    storage::volumes(&options).values().filter(|volid| !volid.is_empty()).try_for_each(|volid| {
        let id = volid.split(':').next().unwrap_or("");
        sim.require(&call.token, &format!("/storage/{id}"), &["Datastore.AllocateSpace"])
    })
}
