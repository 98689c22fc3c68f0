//! `PUT …/qemu/{vmid}/resize`: a worker that checks, since 8; before, the call itself
//! [qemu-server `API2/Qemu.pm` resize_vm].

use serde_json::Value;
use time::OffsetDateTime;

use super::Work;
use crate::sim::{
    Kind, Sim, Version, limits,
    reply::{Answer, Fail},
    resize, storage,
    wire::Call,
};

/// What was asked for.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    disk: String,
    size: String,
    digest: String,
    token: String,
}

/// Grows a disk.
pub(crate) fn resize(sim: &mut Sim, call: &Call, arrived: OffsetDateTime) -> Answer {
    let own = |name: &str| call.get(name).unwrap_or("").to_owned();
    let asked =
        Asked { disk: own("disk"), size: own("size"), digest: own("digest"), token: call.token.clone() };
    let vmid = call.vmid();
    if sim.setup.version >= Version::V8 {
        let work = Work::Resize(asked).into();
        return Ok(sim.fork_locked(call.node(), "resize", vmid, &call.token, work).into());
    }
    sim.wait_flock(vmid, arrived)?;
    let size = checked(sim, call.node(), vmid, &asked)?;
    grow(sim, vmid, &asked, size);
    Ok(Value::Null)
}

pub(super) fn work(sim: &mut Sim, upid: &str, vmid: u32, asked: &Asked) {
    let node = sim.tasks[upid].node.clone();
    match checked(sim, &node, vmid, asked) {
        Err(fail) => sim.end(upid, &fail.text()),
        Ok(size) => match sim.failure("resize") {
            Some(text) => sim.end(upid, &text),
            None => {
                grow(sim, vmid, asked, size);
                sim.end(upid, "OK");
            }
        },
    }
}

/// The new size; the same as before is success.
fn checked(sim: &Sim, node: &str, vmid: u32, asked: &Asked) -> Result<u64, Fail> {
    let guest = sim.at(Kind::Qemu, node, vmid);
    let config = &guest.ok_or_else(|| Fail::die(limits::missing(Kind::Qemu, node, vmid)))?.config;
    if !asked.digest.is_empty() && asked.digest != config.digest() {
        return Err(Fail::die("checksum missmatch (file change by other user?)"));
    }
    sim.check_lock(vmid)?;
    let disk = &asked.disk;
    let volumes = storage::volumes(&config.options);
    let volid = volumes.get(disk).ok_or_else(|| match config.get(disk) {
        Some(_) => Fail::die("you can't resize a cdrom"),
        None => Fail::die(format!("disk '{disk}' does not exist")),
    })?;
    let id = volid.split(':').next().unwrap_or("");
    sim.require(&asked.token, &format!("/storage/{id}"), &["Datastore.AllocateSpace"])?;
    let unknown = || Fail::die(format!("Could not determine current size of volume '{volid}'"));
    let old = sim.volumes.get(volid).ok_or_else(unknown)?.bytes;
    let number = resize::bytes(asked.size.trim_start_matches('+')).unwrap_or(0);
    let size = if asked.size.starts_with('+') { old + number } else { number };
    if size < old { Err(Fail::die("shrinking disks is not supported")) } else { Ok(size) }
}

fn grow(sim: &mut Sim, vmid: u32, asked: &Asked, size: u64) {
    let same = |sim: &Sim, volid: &str| sim.volumes.get(volid).is_some_and(|volume| volume.bytes == size);
    let Some(guest) = sim.guests.get(&vmid) else { return };
    let volid = storage::volumes(&guest.config.options).remove(&asked.disk).unwrap_or_default();
    if !same(sim, &volid) {
        resize::set_size(sim, vmid, &asked.disk, size);
    }
}
