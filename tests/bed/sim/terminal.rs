//! `POST …/termproxy`: a terminal in a guest, as far as its ticket [pve-container `API2/LXC.pm`,
//! qemu-server `API2/Qemu.pm`].

use serde_json::json;
use time::{Duration, OffsetDateTime};

use super::{Sim, reply::Answer, tasks::Work, wire::Call};

/// How long the worker waits for somebody to come with the ticket.
const PATIENCE: Duration = Duration::seconds(10);
/// The first port that a terminal gets; PVE gives ports as text.
const PORT: u32 = 5900;

/// Answers with a port and a ticket. Nobody can connect here, so the worker waits in vain.
pub(crate) fn open(sim: &mut Sim, call: &Call, _: OffsetDateTime) -> Answer {
    sim.named(call)?;
    let upid = sim.fork(call.node(), "vncproxy", &call.vmid().to_string(), &call.token);
    let waiting = sim.tasks.values().filter(|it| it.kind == "vncproxy" && it.exit.is_none()).count() as u32;
    let port = (PORT + waiting - 1).to_string();
    let text = format!("command '/usr/bin/termproxy {port} --path /vms/{}' failed: exit code 1", call.vmid());
    sim.then(PATIENCE, &upid, call.vmid(), Work::Fail { text });
    let ticket = format!("PVEVNC:{:08X}::{}", sim.now.unix_timestamp(), sim.rng.uuid().repeat(9));
    Ok(json!({ "user": call.token, "ticket": ticket, "port": port, "upid": upid }))
}
