//! `POST …/termproxy` and `GET …/vncwebsocket`: a terminal in a guest [pve-container `API2/LXC.pm`,
//! qemu-server `API2/Qemu.pm`].

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::MutexGuard,
};

use serde_json::json;
use time::{Duration, OffsetDateTime};

use super::{
    Sim,
    reply::{Answer, Fail},
    tasks::Work,
    wire::Call,
};
use crate::console::{self, Host, Login, Settings, Shared, Visit};

/// How long the worker waits for somebody to come with the ticket.
const PATIENCE: Duration = Duration::seconds(10);
/// The ports of terminals; PVE gives ports as text.
const PORTS: std::ops::RangeInclusive<u32> = 5900..=5999;
/// How old a ticket may be, in seconds.
const AGES: std::ops::Range<i64> = -20..40;

/// The terminals of all guests.
#[derive(Clone, Default)]
pub(crate) struct Terminals {
    host: Option<Host>,
    settings: Shared,
    tickets: BTreeMap<String, Ticket>,
}

/// What a ticket is for.
#[derive(Clone)]
struct Ticket {
    user: String,
    /// The path that its owner may look at.
    path: String,
    node: String,
    port: String,
    issued: OffsetDateTime,
    /// The worker that waits at the port for one connection.
    upid: String,
    visited: bool,
}

/// Answers with a port and a ticket.
pub(crate) fn open(sim: &mut Sim, call: &Call, _: OffsetDateTime) -> Answer {
    sim.named(call)?;
    let port = sim.free_port(call.node())?;
    let upid = sim.fork(call.node(), "vncproxy", &call.vmid().to_string(), &call.token);
    sim.then(PATIENCE, &upid, call.vmid(), Work::Unvisited { text: failed(call.vmid(), &port) });
    let ticket = format!("PVEVNC:{:08X}::{}", sim.now.unix_timestamp(), sim.rng.uuid().repeat(9));
    let kept = Ticket {
        user: call.token.clone(),
        path: path(call.vmid()),
        node: call.node().to_owned(),
        port: port.clone(),
        issued: sim.now,
        upid: upid.clone(),
        visited: false,
    };
    sim.terminals.tickets.insert(ticket.clone(), kept);
    Ok(json!({ "user": call.token, "ticket": ticket, "port": port, "upid": upid }))
}

/// Answers with the port, to who has a ticket for it.
pub(crate) fn look(sim: &mut Sim, call: &Call, _: OffsetDateTime) -> Answer {
    let (ticket, port) = (call.get("vncticket").unwrap_or(""), call.get("port").unwrap_or(""));
    let is_good = |it: &&Ticket| {
        it.user == call.token
            && it.path == path(call.vmid())
            && it.port == port
            && AGES.contains(&(sim.now - it.issued).whole_seconds())
    };
    match sim.terminals.tickets.get(ticket).filter(is_good) {
        Some(_) => Ok(json!({ "port": port })),
        None => Err(Fail::Said {
            status: 401,
            message: "permission denied - invalid PVEVNC ticket".into(),
            errors: BTreeMap::new(),
        }),
    }
}

/// The worker has waited long enough.
pub(crate) fn give_up(sim: &mut Sim, upid: &str, text: &str) {
    let is_visited = sim.terminals.tickets.values().any(|it| it.upid == upid && it.visited);
    if !is_visited {
        sim.end(upid, text);
    }
}

fn path(vmid: u32) -> String {
    format!("/vms/{vmid}")
}

fn failed(vmid: u32, port: &str) -> String {
    format!("command '/usr/bin/termproxy {port} --path {}' failed: exit code 1", path(vmid))
}

impl Sim {
    /// Where the consoles of containers are.
    pub fn set_console_host(&mut self, host: Host) {
        self.terminals.host = Some(host);
    }

    /// How consoles behave: what is changed here counts at once.
    pub fn console(&self) -> MutexGuard<'_, Settings> {
        console::locked(&self.terminals.settings)
    }

    /// A port of the node at which nobody waits.
    fn free_port(&mut self, node: &str) -> Result<String, Fail> {
        let tasks = &self.tasks;
        let is_running = |it: &Ticket| tasks.get(&it.upid).is_some_and(|task| task.exit.is_none());
        let now = self.now;
        self.terminals.tickets.retain(|_, it| is_running(it) || (now - it.issued).whole_seconds() < AGES.end);
        let here = self.terminals.tickets.values().filter(|it| it.node == node && is_running(it));
        let taken: BTreeSet<&str> = here.map(|it| it.port.as_str()).collect();
        let mut free = PORTS.map(|it| it.to_string()).filter(|it| !taken.contains(it.as_str()));
        free.next().ok_or_else(|| Fail::die("unable to find free port (5900-5999)"))
    }

    /// Takes the connection that comes with a ticket to where its worker waits, and tells the worker; nobody is there
    /// after the first one, or when the worker has given up.
    pub(crate) fn visit(&mut self, ticket: &str) -> Option<(String, Visit)> {
        let found = self.terminals.tickets.get_mut(ticket).filter(|it| !it.visited)?;
        let task = self.tasks.get(&found.upid).filter(|it| it.exit.is_none())?;
        found.visited = true;
        let vmid = task.id.parse().ok()?;
        let mode = self.guests.get(&vmid).and_then(|it| it.config.get("cmode"));
        let visit = Visit {
            vmid,
            user: found.user.clone(),
            ticket: ticket.to_owned(),
            login: if mode == Some("shell") { Login::Shell } else { Login::Getty },
            host: self.terminals.host.clone(),
            settings: self.terminals.settings.clone(),
            rng: super::Rng::new(self.rng.next()),
        };
        Some((found.upid.clone(), visit))
    }

    /// The connection of a terminal has ended, or nobody was let in.
    pub(crate) fn leave(&mut self, upid: &str, was_let_in: bool) {
        let port = self.terminals.tickets.values().find(|it| it.upid == upid).map(|it| it.port.clone());
        let vmid = self.tasks.get(upid).and_then(|it| it.id.parse().ok()).unwrap_or(0);
        let text = if was_let_in { "OK".to_owned() } else { failed(vmid, &port.unwrap_or_default()) };
        self.end(upid, &text);
    }
}
