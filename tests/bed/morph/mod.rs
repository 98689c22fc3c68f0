//! A stand-in of Morph Cloud's API: a pure `http::Request` → answer over a map,
//! in virtual time. It refuses what it does not know.

mod api;
mod exec;
mod machine;
pub mod server;

use std::{cell::RefCell, collections::BTreeMap, rc::Rc, sync::Arc};

use http::Request;
use serde_json::{Map, Value, json};
use time::{Duration, OffsetDateTime};

pub use self::exec::{Runner, real};
use crate::sim::execd::{ExecLine, Streamed};

/// Several adapters' view of one.
pub type Shared = Rc<RefCell<Morph>>;

/// The key that it takes, unless another is set.
pub const KEY: &str = "morph_key_of_the_tests_0123456789";
/// Its host in a world.
pub const HOST: &str = "morph.test";

/// How long things take.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// From a request for an instance until it is ready.
    pub start: Duration,
    /// Until a pause or a resume is through.
    pub pause: Duration,
    /// Until a snapshot is ready.
    pub snapshot: Duration,
    /// So late after its expiry an instance is stopped or paused.
    pub lag: Duration,
    /// Whether what is paused goes on telling when it expires.
    pub tells_expiry: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            start: Duration::seconds(2),
            pause: Duration::seconds(1),
            snapshot: Duration::seconds(2),
            lag: Duration::seconds(5),
            tells_expiry: true,
        }
    }
}

/// Sizes, in cores and MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Cores.
    pub vcpus: u64,
    /// MiB.
    pub memory: u64,
    /// MiB.
    pub disk_size: u64,
}

/// One instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Unix seconds.
    pub created: i64,
    /// `pending`, `ready`, `saving`, `paused`, `error`.
    pub status: &'static str,
    /// What it becomes, and when.
    pub(crate) next: Option<(OffsetDateTime, &'static str)>,
    /// Sizes.
    pub spec: Spec,
    /// What it was made from.
    pub snapshot: String,
    /// Seconds, as they were set.
    pub ttl_seconds: Option<i64>,
    /// Unix seconds.
    pub ttl_expire_at: Option<i64>,
    /// `stop` or `pause`.
    pub ttl_action: Option<String>,
    /// Name and port.
    pub services: BTreeMap<String, u64>,
    /// All of it.
    pub metadata: BTreeMap<String, String>,
}

/// One snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Unix seconds.
    pub created: i64,
    /// When it is ready.
    pub(crate) ready: OffsetDateTime,
    /// Sizes.
    pub spec: Spec,
    /// For the same call once more.
    pub digest: Option<String>,
    /// Seconds.
    pub ttl_seconds: Option<i64>,
    /// All of it.
    pub metadata: BTreeMap<String, String>,
}

/// An account at Morph Cloud.
#[derive(Clone)]
pub struct Morph {
    pub(crate) now: OffsetDateTime,
    /// How long things take.
    pub setup: Setup,
    key: String,
    /// By id.
    pub instances: BTreeMap<String, Instance>,
    /// By id.
    pub snapshots: BTreeMap<String, Snapshot>,
    count: u64,
    pub(crate) runner: Runner,
    pub(crate) ran: BTreeMap<(String, String), u32>,
}

impl Morph {
    /// An empty account. Its commands print themselves.
    pub fn new(now: OffsetDateTime, key: &str) -> Self {
        let runner: Runner =
            Arc::new(|_, command| vec![ExecLine::Stdout(command.to_owned()), ExecLine::Exit(0)]);
        Self {
            now,
            setup: Setup::default(),
            key: key.to_owned(),
            instances: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            count: 0,
            runner,
            ran: BTreeMap::new(),
        }
    }

    /// Has commands run by this closure.
    pub fn set_runner(&mut self, runner: Runner) {
        self.runner = runner;
    }

    /// How often each (instance, command) ran.
    pub fn executions(&self) -> &BTreeMap<(String, String), u32> {
        &self.ran
    }

    /// A snapshot that is ready; the metadata are pairs.
    pub fn add_snapshot(&mut self, spec: Spec, metadata: &[(&str, &str)]) -> String {
        let id = self.id("snapshot");
        let metadata = metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let (created, ready) = (self.now.unix_timestamp(), self.now);
        let snapshot = Snapshot { created, ready, spec, digest: None, ttl_seconds: None, metadata };
        self.snapshots.insert(id.clone(), snapshot);
        id
    }

    /// An instance that somebody made by other ways.
    pub fn add_instance(&mut self, snapshot: &str, metadata: &[(&str, &str)]) -> String {
        let metadata: Map<String, Value> =
            metadata.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
        let spec = self.snapshots.get(snapshot).map(|it| it.spec).expect("a snapshot that is there");
        let id = self.make(snapshot, spec, &json!({"metadata": metadata})).expect("right metadata");
        let made = self.instances.get_mut(&id).expect("just made");
        (made.status, made.next) = ("ready", None);
        id
    }

    /// Lets time pass: what is due happens.
    pub fn advance_to(&mut self, now: OffsetDateTime) {
        self.now = self.now.max(now);
        self.pass();
    }

    /// Answers one request, at this moment.
    pub fn answer(&mut self, request: &Request<Vec<u8>>, now: OffsetDateTime) -> Streamed {
        self.advance_to(now);
        self.api(request)
    }

    pub(crate) fn is_key(&self, presented: &str) -> bool {
        presented == self.key
    }

    /// Of a kind; their order says nothing of their age.
    pub(crate) fn id(&mut self, kind: &str) -> String {
        self.count += 1;
        let moment = self.now.unix_timestamp_nanos() as u64;
        let mixed = (self.count ^ moment).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mixed = mixed ^ (mixed >> 29);
        let letters = b"0123456789abcdefghijkmnpqrstuvwx";
        let tail: String = (0..10).map(|at| char::from(letters[(mixed >> (at * 5)) as usize & 31])).collect();
        format!("{kind}_{tail}")
    }
}
