//! pvedaemon's three workers on each node, and what keeps one of them.
//!
//! pveproxy answers some reads itself and hands all else to pvedaemon. Of a container whose start
//! waits for its file system, `lxc-info` gives no answer, so a look at its state keeps a worker
//! until the start is over.

use std::collections::BTreeMap;

use time::{Duration, OffsetDateTime};

use super::{Blocked, Kind, Sim, wire::Call};

/// Of each node's pvedaemon.
const WORKERS: usize = 3;
/// How long pveproxy waits for pvedaemon.
const PATIENCE: Duration = Duration::seconds(30);

/// Looks that hang: when each arrived and at what, on which node, and until when.
#[derive(Clone, Debug, Default)]
pub(crate) struct Workers(BTreeMap<(OffsetDateTime, String), (String, OffsetDateTime)>);

/// What becomes of a request.
pub(crate) enum Served {
    /// A worker takes it.
    Now,
    /// pveproxy has waited long enough.
    Late,
}

impl Sim {
    /// Whether somebody can answer a request that arrived then, or when to ask again.
    pub(crate) fn worker(&mut self, call: &Call, arrived: OffsetDateTime) -> Result<Served, Blocked> {
        if self.setup.recovery_secs.is_zero() || !is_pvedaemons(call) {
            return Ok(Served::Now);
        }
        let (now, node) = (self.now, call.node().to_owned());
        self.workers.0.retain(|_, (_, until)| *until > now);
        let own = (arrived, format!("{} {}", call.method, call.path));
        let mine = self.workers.0.get(&own).map(|(_, until)| *until);
        let all: Vec<OffsetDateTime> =
            self.workers.0.values().filter(|(at, _)| *at == node).map(|(_, until)| *until).collect();
        let free = match mine {
            None if all.len() >= WORKERS => all.iter().min().copied(),
            None => self.hangs_until(call),
            until => until,
        };
        let Some(until) = free.filter(|until| *until > now) else { return Ok(Served::Now) };
        if mine.is_none() && all.len() < WORKERS {
            // The worker hangs on when pveproxy has given up.
            self.workers.0.insert(own, (node, until));
        }
        let patience = arrived + PATIENCE;
        if now >= patience { Ok(Served::Late) } else { Err(Blocked { until: until.min(patience) }) }
    }

    /// How long the start takes that finds the container's file system in use; `None` for any other.
    pub(crate) fn recovery(&mut self, vmid: u32) -> Option<Duration> {
        let wait = self.setup.recovery_secs;
        let guest = self.guests.get(&vmid).filter(|it| it.unclean && it.kind == Kind::Lxc)?;
        let rootfs = guest.config.get("rootfs")?.split(',').next()?;
        if wait.is_zero() || !self.is_ext4(rootfs) {
            return None;
        }
        let until = self.now + wait;
        self.guests.get_mut(&vmid)?.recovers_until = Some(until);
        Some(wait)
    }

    /// The file system is clean, and the container answers.
    pub(crate) fn recovered(&mut self, vmid: u32) {
        if let Some(guest) = self.guests.get_mut(&vmid) {
            guest.unclean = false;
            guest.recovers_until = None;
        }
    }

    /// Whether pvestatd of a node stands still before such a container.
    pub(crate) fn is_stuck(&self, node: &str) -> bool {
        self.guests
            .values()
            .any(|guest| guest.node == node && guest.recovers_until.is_some_and(|it| it > self.now))
    }

    /// Until when a look at one or all containers of a node gets no answer.
    fn hangs_until(&self, call: &Call) -> Option<OffsetDateTime> {
        let path = call.endpoint?.path;
        let of_all = path == "/nodes/{node}/lxc" && call.method == "GET";
        let of_one =
            matches!(path, "/nodes/{node}/lxc/{vmid}/status/current" | "/nodes/{node}/lxc/{vmid}/interfaces");
        let guests = self.guests.values().filter(|it| it.node == call.node() && it.kind == Kind::Lxc);
        let asked = guests.filter(|it| of_all || of_one && it.vmid == call.vmid());
        asked.filter_map(|it| it.recovers_until).max()
    }
}

/// Whether pveproxy hands it over: it answers itself what is about the cluster, and of one node
/// its configs, tasks that run, and lists of what is configured.
fn is_pvedaemons(call: &Call) -> bool {
    const PVEPROXYS: [&str; 5] = ["/config", "/tasks", "/dns", "/network", "/aplinfo"];
    let Some(path) = call.endpoint.map(|it| it.path).filter(|it| it.starts_with("/nodes/{node}/")) else {
        return false;
    };
    call.method != "GET" || !PVEPROXYS.iter().any(|end| path.ends_with(end))
}
