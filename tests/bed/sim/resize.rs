//! `PUT …/resize` [pve-container `API2/LXC.pm`, qemu-server `API2/Qemu.pm` resize_vm].

use time::{Duration, OffsetDateTime};

use super::{
    Sim, config_api,
    reply::{Answer, Fail},
    storage,
    tasks::Work,
    wire::Call,
};

/// Grows a volume, in a worker.
pub(crate) fn resize(sim: &mut Sim, call: &Call, arrived: OffsetDateTime) -> Answer {
    let vmid = call.vmid();
    sim.named(call)?;
    sim.wait_flock(vmid, arrived)?;
    sim.check_lock(vmid)?;
    config_api::assert_digest(sim, call)?;
    let config = &sim.named(call)?.config;
    let disk = call.get("disk").unwrap_or("rootfs").to_owned();
    let volumes = storage::volumes(&config.options);
    let Some(volid) = volumes.get(&disk) else {
        return Err(Fail::format_of_nothing(&disk));
    };
    let id = volid.split(':').next().unwrap_or("");
    sim.require(&call.token, &format!("/storage/{id}"), &["Datastore.AllocateSpace"])?;
    let Some(volume) = sim.volumes.get(volid) else {
        return Err(Fail::die(format!("Could not determine current size of volume '{volid}'")));
    };
    let text = call.get("size").unwrap_or("");
    let asked = bytes(text.trim_start_matches('+')).unwrap_or(0);
    let size = if text.starts_with('+') { volume.bytes + asked } else { asked };
    if size < volume.bytes {
        return Err(Fail::die("unable to shrink disk size"));
    }
    if size == volume.bytes {
        return Err(Fail::die("disk is already at specified size"));
    }
    let work = Work::Resize { disk, size };
    Ok(sim.fork_locked(call.node(), "resize", vmid, &call.token, work).into())
}

/// The worker: a file system that has multi-mount protection is checked and grown slowly.
pub(crate) fn begin(sim: &mut Sim, upid: &str, vmid: u32, disk: String, size: u64) {
    let volid = sim.guests.get(&vmid).and_then(|it| storage::volumes(&it.config.options).remove(&disk));
    let slow = volid.is_some_and(|it| sim.is_ext4(&it));
    let wait = if slow { sim.setup.grow_secs } else { Duration::ZERO };
    sim.then(wait, upid, vmid, Work::Resized { disk, size });
}

/// The worker's end.
pub(crate) fn finish(sim: &mut Sim, upid: &str, vmid: u32, disk: &str, size: u64) {
    if let Some(text) = sim.failure("resize") {
        return sim.end(upid, &text);
    }
    if sim.guests.contains_key(&vmid) {
        set_size(sim, vmid, disk, size);
        sim.end(upid, "OK");
    } else {
        sim.end(upid, "CT is gone");
    }
}

/// Grows a volume, and says so in the config.
pub(crate) fn set_size(sim: &mut Sim, vmid: u32, disk: &str, size: u64) {
    let Some(guest) = sim.guests.get_mut(&vmid) else { return };
    let value = guest.config.get(disk).unwrap_or("").to_owned();
    let kept = value.split(',').filter(|part| !part.starts_with("size="));
    let volid = value.split(',').next().unwrap_or("");
    let text = kept.chain([format!("size={}", shown(size)).as_str()]).collect::<Vec<_>>().join(",");
    guest.config.set(disk, text);
    if let Some(volume) = sim.volumes.get_mut(volid) {
        volume.bytes = size;
    }
}

/// `8G` in bytes.
pub(crate) fn bytes(text: &str) -> Option<u64> {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let number: f64 = text[..text.len() - unit.len()].parse().ok()?;
    let shift = match unit {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return None,
    };
    // Sizes that tests use are far below what a double holds exactly.
    Some((number * (1u64 << shift) as f64) as u64)
}

/// Bytes as `8G`: the largest unit that leaves no rest.
pub(crate) fn shown(bytes: u64) -> String {
    let units = [(40, "T"), (30, "G"), (20, "M"), (10, "K")];
    let fitting = units.iter().find(|(shift, _)| bytes != 0 && bytes.is_multiple_of(1u64 << shift));
    fitting.map_or_else(|| bytes.to_string(), |(shift, unit)| format!("{}{unit}", bytes >> shift))
}
