//! One PVE cluster: requests in, replies out, and time that moves when told.

mod access;
mod admin;
mod clone;
mod config;
mod config_api;
mod create;
pub mod daemon;
mod destroy;
pub mod disk;
mod download;
pub mod execd;
mod guest;
mod guest_api;
mod limits;
mod node_api;
mod parameters;
mod power;
mod qemu;
mod reply;
mod resize;
mod resources;
mod rng;
pub mod server;
mod setup;
mod snapshot;
mod storage;
mod table;
mod tags;
mod task_api;
mod tasks;
mod template;
mod terminal;
mod timing;
mod websocket;
mod wire;
mod workers;

use std::collections::{BTreeMap, BTreeSet};

use time::{Duration, OffsetDateTime};

pub use access::{AGENT, DOWNLOAD, MINIMAL, MONITOR, TOKEN};
pub use admin::Spec;
pub use config::Config;
pub use create::HOST_KEYS;
pub use guest::{Guest, Kind, Run};
pub use parameters::schema;
pub use qemu::agent;
pub use reply::Reply;
pub(crate) use rng::Rng;
pub use setup::{Node, Setup, Storage, StorageKind, Version};
pub use tasks::Task;
pub use timing::Answers;

use reply::Fail;
use resources::Stats;
use tasks::Step;
use workers::Served;

/// One PVE cluster. Pure: no socket, no clock, no dice but a seed. A clone of it goes on by itself.
#[derive(Clone)]
pub struct Sim {
    pub(crate) setup: Setup,
    pub(crate) now: OffsetDateTime,
    pub(crate) rng: Rng,
    pub(crate) guests: BTreeMap<u32, Guest>,
    pub(crate) volumes: BTreeMap<String, storage::Volume>,
    pub(crate) tasks: BTreeMap<String, Task>,
    pub(crate) agenda: BTreeMap<(OffsetDateTime, u64), Step>,
    pub(crate) sequence: u64,
    /// File locks by VMID, held by the task of that UPID.
    pub(crate) flocks: BTreeMap<u32, String>,
    /// File locks that several tasks hold together: clones of one VM.
    pub(crate) shared: BTreeSet<(u32, String)>,
    pub(crate) stats: BTreeMap<u32, Stats>,
    /// Whether no pvestatd looks at anything.
    pub(crate) silent_stats: bool,
    /// Bytes that the guests of a node took when its pvestatd looked last.
    pub(crate) used_memory: BTreeMap<String, u64>,
    pub(crate) access: access::Access,
    /// `datacenter.cfg`.
    pub(crate) datacenter: tags::Datacenter,
    pub(crate) execd: execd::Execd,
    /// What answers calls instead of our own daemons.
    pub(crate) impostor: Option<daemon::Impostor>,
    pub(crate) agents: qemu::agent::Agents,
    pub(crate) workers: workers::Workers,
    terminals: terminal::Terminals,
    disks: Option<disk::DiskHost>,
    pub(crate) failures: Vec<(String, String)>,
    /// What the next task that fails has in its log before its end.
    pub(crate) last_words: Vec<String>,
    counts: BTreeMap<(String, String), u64>,
}

/// The request waits for a file lock: ask again then, with the same arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// When it is worth asking again.
    pub until: OffsetDateTime,
}

impl Sim {
    /// A cluster with nodes, storages and one token ([`TOKEN`]), without guests.
    pub fn new(setup: Setup) -> Self {
        Self {
            now: setup.start,
            rng: Rng::new(setup.seed),
            access: access::Access::of_service_token(setup.version),
            guests: BTreeMap::new(),
            volumes: BTreeMap::new(),
            tasks: BTreeMap::new(),
            agenda: BTreeMap::new(),
            sequence: 0,
            flocks: BTreeMap::new(),
            shared: BTreeSet::new(),
            stats: BTreeMap::new(),
            silent_stats: false,
            used_memory: BTreeMap::new(),
            datacenter: tags::Datacenter::default(),
            execd: execd::Execd::default(),
            impostor: None,
            agents: qemu::agent::Agents::default(),
            workers: workers::Workers::default(),
            terminals: terminal::Terminals::default(),
            disks: None,
            failures: Vec::new(),
            last_words: Vec::new(),
            counts: BTreeMap::new(),
            setup,
        }
    }

    /// Answers one request as its only client sees it: the clock moves by
    /// what PVE takes to answer.
    pub fn handle(&mut self, request: &http::Request<Vec<u8>>) -> Reply {
        let arrived = self.now;
        loop {
            match self.answer(request, arrived) {
                Ok(reply) => {
                    self.advance_to(self.now + reply.delay);
                    return reply;
                }
                Err(Blocked { until }) => self.advance_to(until),
            }
        }
    }

    /// Answers a request that arrived at `arrived`, now, or says until when
    /// it waits. The caller lets [`Reply::delay`] pass.
    pub fn answer(
        &mut self,
        request: &http::Request<Vec<u8>>,
        arrived: OffsetDateTime,
    ) -> Result<Reply, Blocked> {
        let reply = match wire::read(self, request) {
            Err(reply) => *reply,
            Ok(call) => {
                let result = match self.worker(&call, arrived)? {
                    Served::Late => Err(Fail::Late),
                    Served::Now => table::dispatch(self, &call, arrived),
                };
                if let Err(Fail::Locked) = result {
                    return Err(Blocked { until: self.retry_at(arrived) });
                }
                *self.counts.entry((call.method.clone(), call.template())).or_default() += 1;
                let reply = reply::envelope(self.setup.version, &call, result);
                self.timed(&call, reply)
            }
        };
        Ok(reply.dated(self.now))
    }

    /// What time it is.
    pub fn now(&self) -> OffsetDateTime {
        self.now
    }

    /// When the next worker does its next step.
    pub fn next_event(&self) -> Option<OffsetDateTime> {
        self.agenda.keys().next().map(|(at, _)| *at)
    }

    /// Lets time pass; workers do what is due, in order.
    pub fn advance_to(&mut self, to: OffsetDateTime) {
        while let Some((&(at, sequence), _)) = self.agenda.first_key_value() {
            if at > to {
                break;
            }
            self.pass(at);
            if let Some(step) = self.agenda.remove(&(at, sequence)) {
                step.run(self);
            }
        }
        self.pass(to);
    }

    /// Lets `seconds` pass.
    pub fn advance(&mut self, duration: Duration) {
        self.advance_to(self.now + duration);
    }

    /// Lets time pass until no worker is busy.
    pub fn settle(&mut self) {
        while let Some(at) = self.next_event() {
            self.advance_to(at);
        }
    }

    /// How often each (method, path template) was answered.
    pub fn counts(&self) -> &BTreeMap<(String, String), u64> {
        &self.counts
    }

    /// Schedules a step.
    pub(crate) fn after(&mut self, duration: Duration, step: Step) {
        self.sequence += 1;
        self.agenda.insert((self.now + duration, self.sequence), step);
    }

    fn pass(&mut self, to: OffsetDateTime) {
        if to > self.now {
            self.collect_stats(to);
            self.now = to;
        }
    }

    /// Lock holders change only at events, and a wait ends after 10 s.
    fn retry_at(&self, arrived: OffsetDateTime) -> OffsetDateTime {
        let timeout = arrived + setup::FLOCK_WAIT;
        self.next_event().map_or(timeout, |at| at.min(timeout))
    }
}

impl std::fmt::Debug for Sim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sim({} guests at {})", self.guests.len(), self.now)
    }
}
