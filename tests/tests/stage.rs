//! A deployment on a simulated cluster, asked as an adapter asks it.

use std::{
    cell::{Cell, RefCell, RefMut},
    future::Future,
    pin::Pin,
    rc::Rc,
    time::Duration,
};

use futures_util::StreamExt;
use http::{HeaderMap, Request};
use pve_edge_core::{
    io::Platform,
    service::{Body, Service, handle},
};
use pve_edge_tests::{
    morph::{self, Morph},
    sim::{
        Kind, Setup, Sim, Spec, TOKEN,
        execd::{ExecLine, asked},
    },
    world::{API, World, those_read},
};
use serde_json::Value;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

/// What Workers allow one request.
pub(crate) const WORKERS: Platform = Platform {
    name: "workers",
    max_wait: Duration::from_secs(25),
    requests: 40,
    parallel: 4,
    answer_bytes: 4 << 20,
    streams: true,
    private_network: false,
    unverified_tls: false,
};

/// A preset whose disk is that of [`Spec::template`]s.
pub(crate) const SNAPSHOT: &str = "pvelxc_1vcpu_1gb_8gb_v1";
/// The template of it.
pub(crate) const TEMPLATE: u32 = 9000;
/// The template of the same sizes of VMs.
pub(crate) const VM_TEMPLATE: u32 = 9100;
/// `EDGE_SECRET` of every stage.
pub(crate) const SECRET: &str = "edge-secret-of-the-tests-0123456789abcdef";

/// A deployment: a world, settings, and an adapter that hands requests to core.
#[derive(Clone)]
pub(crate) struct Stage {
    pub(crate) world: World,
    pub(crate) platform: Platform,
    service: Rc<Service>,
    dice: Rc<Cell<u64>>,
    /// In front of the lines of its requests.
    name: &'static str,
    /// What its sandboxes are.
    kind: Kind,
    /// The account at Morph Cloud that they are of, instead of PVE.
    morph: Option<morph::Shared>,
}

/// Settings of a deployment on Morph Cloud.
const ON_MORPH: [(&str, &str); 6] = [
    ("SANDBOX_PROVIDER", "morph"),
    ("MORPH_API_KEY", morph::KEY),
    ("MORPH_BASE_URL", "https://morph.test/api"),
    ("PVE_API_URL", ""),
    ("PVE_API_TOKEN", ""),
    ("PVE_PUBLIC_DOMAIN", ""),
];

/// A request to the API.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    method: &'static str,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

/// What the API answered, and when.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
    pub(crate) at: OffsetDateTime,
}

/// An answer that is still to come.
pub(crate) type Pending = Pin<Box<dyn Future<Output = Answer>>>;

impl Stage {
    /// One node, one template, settings that need no DNS.
    pub(crate) fn new() -> Self {
        Self::on(plain_sim(Setup::default()))
    }

    /// On this cluster.
    pub(crate) fn on(sim: Sim) -> Self {
        Self::of(World::new(sim, 7), &[])
    }

    /// In this world, with settings beyond the usual ones; an empty one removes.
    pub(crate) fn of(world: World, changes: &[(&str, &str)]) -> Self {
        Self::of_kind(Kind::Lxc, world, changes)
    }

    /// The same, with sandboxes of this kind.
    pub(crate) fn of_kind(kind: Kind, world: World, changes: &[(&str, &str)]) -> Self {
        let provider = [("SANDBOX_PROVIDER", "pve-vm")];
        let provider = provider.iter().filter(|_| kind == Kind::Qemu);
        let changes: Vec<_> = provider.chain(changes).copied().collect();
        // Without a domain a Worker needs the way into the private network.
        let private_network = changes.contains(&("PVE_PUBLIC_DOMAIN", ""));
        let platform = Platform { private_network, ..WORKERS };
        let service = Service::new(&settings(&changes), platform);
        assert_eq!(service.misconfigured(), [] as [&str; 0]);
        let (service, dice) = (Rc::new(service), Rc::new(Cell::new(1)));
        Self { world, platform, service, dice, name: "", kind, morph: None }
    }

    /// In an empty account of Morph Cloud.
    pub(crate) fn on_morph(seed: u64, changes: &[(&str, &str)]) -> Self {
        let world = World::new(Sim::new(Setup::default()), seed);
        let morph = Rc::new(RefCell::new(Morph::new(world.now(), morph::KEY)));
        let served = morph.clone();
        world.serve(morph::HOST, move |request, now| served.borrow_mut().answer(request, now));
        let changes: Vec<_> = ON_MORPH.iter().chain(changes).copied().collect();
        Self { morph: Some(morph), ..Self::of(world, &changes) }
    }

    /// The account at Morph Cloud, as it is now.
    pub(crate) fn account(&self) -> RefMut<'_, Morph> {
        let mut morph = self.morph.as_ref().expect("a stage on Morph").borrow_mut();
        morph.advance_to(self.world.now());
        morph
    }

    /// Whether its sandboxes are Morph's.
    pub(crate) fn is_on_morph(&self) -> bool {
        self.morph.is_some()
    }

    /// One node, one template of VMs.
    pub(crate) fn of_vms() -> Self {
        Self::with(Kind::Qemu)
    }

    /// One node, one template of this kind.
    pub(crate) fn with(kind: Kind) -> Self {
        Self::of_kind(kind, World::new(sim_of(kind, Setup::default()), 7), &[])
    }

    /// Another adapter on the same world.
    pub(crate) fn beside(&self, name: &'static str, changes: &[(&str, &str)]) -> Self {
        let dice = Rc::new(Cell::new(1 + 1000 * u64::from(name.bytes().fold(1, u8::wrapping_add))));
        let morph = self.morph.clone();
        let base = ON_MORPH.iter().filter(|_| morph.is_some());
        let changes: Vec<_> = base.chain(changes).copied().collect();
        Self { name, dice, morph, ..Self::of_kind(self.kind, self.world.clone(), &changes) }
    }

    /// What a careless log line would show.
    pub(crate) fn debugged(&self) -> String {
        format!("{:?}", self.service)
    }

    /// Asks, and waits for the answer.
    pub(crate) fn ask(&self, ask: Ask) -> Answer {
        self.world.run(self.pending(ask))
    }

    /// Asks; `None` when the operation dies.
    pub(crate) fn try_ask(&self, ask: Ask) -> Option<Answer> {
        self.world.try_run(self.pending(ask))
    }

    /// Asks; something else drives the world.
    pub(crate) fn pending(&self, ask: Ask) -> Pending {
        self.dice.set(self.dice.get() + 1);
        let seed: [u8; 32] = Sha256::digest(self.dice.get().to_be_bytes()).into();
        let (io, service, platform) = (self.world.io_named(self.name), self.service.clone(), self.platform);
        let world = self.world.clone();
        let (method, target) = (ask.method, ask.path.clone());
        Box::pin(async move {
            let response = handle(io, &service, platform, seed, ask.request()).await;
            let (head, body) = response.into_parts();
            let mut bytes = Vec::new();
            match body {
                Body::Whole(whole) => bytes = whole,
                Body::Stream(mut events) => {
                    while let Some(Ok(event)) = events.next().await {
                        bytes.extend(event);
                    }
                }
            }
            let body = String::from_utf8(bytes).expect("answers are UTF-8");
            let answer =
                Answer { status: head.status.as_u16(), headers: head.headers, body, at: world.now() };
            crate::contract::check(method, &target, &answer);
            answer
        })
    }

    /// What was said so far, for people who read a failure.
    pub(crate) fn told(&self) -> String {
        crate::transcripts::told(&self.world.transcript())
    }

    /// Requests to PVE so far, exec daemons not counted.
    pub(crate) fn pve_requests(&self) -> usize {
        self.world.requests().iter().filter(|it| it.path.starts_with("/api2/")).count()
    }

    /// Requests to PVE that asking this takes.
    pub(crate) fn counted(&self, ask: Ask) -> (Answer, usize) {
        let before = self.pve_requests();
        let answer = self.ask(ask);
        (answer, self.pve_requests() - before)
    }
}

/// The usual cluster: a template, and commands that only echo.
pub(crate) fn plain_sim(setup: Setup) -> Sim {
    let mut sim = Sim::new(setup);
    sim.add(Spec::template(TEMPLATE).tags(SNAPSHOT));
    echo(&mut sim);
    sim
}

/// The same with a template of this kind.
pub(crate) fn sim_of(kind: Kind, setup: Setup) -> Sim {
    if kind == Kind::Lxc {
        return plain_sim(setup);
    }
    let mut sim = Sim::new(setup);
    sim.add(Spec::vm_template(VM_TEMPLATE).tags(&SNAPSHOT.replace("pvelxc", "pvevm")));
    echo(&mut sim);
    sim
}

/// No real processes: every command prints its own text.
pub(crate) fn echo(sim: &mut Sim) {
    sim.set_runner(|_, command| vec![ExecLine::Stdout(asked(command).0), ExecLine::Exit(0)]);
}

/// Settings of deployment `prod`, with teams blue and red, and an admin.
pub(crate) fn settings(changes: &[(&str, &str)]) -> Vec<(String, String)> {
    let hash = |key: &str| hex::encode(Sha256::digest(key));
    let keys = format!("blue:{} red:{} ops:{}:admin", hash("key-blue"), hash("key-red"), hash("key-ops"));
    let usual = [
        ("PVE_API_URL", API),
        ("PVE_API_TOKEN", TOKEN),
        ("PVE_PUBLIC_DOMAIN", "sandbox.test"),
        ("EDGE_API_KEYS", &*keys),
        ("EDGE_SECRET", SECRET),
        ("EDGE_DEPLOYMENT", "prod"),
    ];
    let kept = usual.iter().filter(|(name, _)| changes.iter().all(|(changed, _)| changed != name));
    let all = kept.chain(changes).filter(|(_, value)| !value.is_empty());
    all.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

impl Ask {
    fn new(method: &'static str, path: impl Into<String>) -> Self {
        let authorization = ("authorization", "Bearer key-blue".to_owned());
        Self { method, path: path.into(), headers: vec![authorization], body: Vec::new() }
    }

    pub(crate) fn get(path: impl Into<String>) -> Self {
        Self::new("GET", path)
    }

    pub(crate) fn head(path: impl Into<String>) -> Self {
        Self::new("HEAD", path)
    }

    pub(crate) fn options(path: impl Into<String>) -> Self {
        Self::new("OPTIONS", path)
    }

    pub(crate) fn post(path: impl Into<String>, body: Value) -> Self {
        Self::new("POST", path).json(body)
    }

    pub(crate) fn patch(path: impl Into<String>, body: Value) -> Self {
        Self::new("PATCH", path).json(body)
    }

    pub(crate) fn delete(path: impl Into<String>) -> Self {
        Self::new("DELETE", path)
    }

    /// A sandbox of the usual preset.
    pub(crate) fn create() -> Self {
        Self::post("/api/sandboxes", serde_json::json!({}))
    }

    /// The same, with an Idempotency-Key.
    pub(crate) fn create_keyed(key: &str) -> Self {
        Self::create().header("idempotency-key", key)
    }

    /// Of the sandbox with this id.
    pub(crate) fn one(id: &str) -> Self {
        Self::get(format!("/api/sandboxes/{id}"))
    }

    /// Runs a command there.
    pub(crate) fn exec(id: &str, command: &str) -> Self {
        Self::post(format!("/api/sandboxes/{id}/exec"), serde_json::json!({"command": command}))
    }

    /// More time for it.
    pub(crate) fn extend(id: &str, seconds: u64) -> Self {
        Self::post(format!("/api/sandboxes/{id}/extend"), serde_json::json!({"ttlSeconds": seconds}))
    }

    /// Its end.
    pub(crate) fn end(id: &str) -> Self {
        Self::delete(format!("/api/sandboxes/{id}"))
    }

    pub(crate) fn json(self, body: Value) -> Self {
        Self { body: body.to_string().into_bytes(), ..self }.header("content-type", "application/json")
    }

    pub(crate) fn bytes(self, body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..self }
    }

    /// Replaces a header of that name.
    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.retain(|(known, _)| *known != name);
        self.headers.push((name, value.into()));
        self
    }

    /// As another caller: `blue`, `red` or `ops`.
    pub(crate) fn by(self, team: &str) -> Self {
        self.header("authorization", format!("Bearer key-{team}"))
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(known, _)| *known != name);
        self
    }

    fn request(self) -> Request<Vec<u8>> {
        let mut builder = Request::builder().method(self.method).uri(self.path);
        for (name, value) in self.headers {
            builder = builder.header(name, value);
        }
        let mut request = builder.body(self.body).expect("tests ask what HTTP can say");
        *request.headers_mut() = those_read(request.headers());
        request
    }
}

impl Answer {
    /// Its JSON; null when it has none.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    /// The `id` of the sandbox that it shows.
    pub(crate) fn id(&self) -> String {
        self.json()["id"].as_str().unwrap_or_else(|| panic!("no id in {self:?}")).to_owned()
    }

    /// The state of the sandbox that it shows, or nothing.
    pub(crate) fn state(&self) -> String {
        self.json()["state"].as_str().unwrap_or_default().to_owned()
    }

    /// The `code` of a problem, or nothing.
    pub(crate) fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }

    /// `Retry-After`, in seconds.
    pub(crate) fn retry_after(&self) -> Option<u64> {
        self.headers.get("retry-after")?.to_str().ok()?.parse().ok()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|it| it.to_str().ok()).unwrap_or_default()
    }
}

/// The VMID in a sandbox's id.
pub(crate) fn vmid_of(id: &str) -> u32 {
    id.split('-').nth(1).and_then(|it| it.parse().ok()).unwrap_or_else(|| panic!("no VMID in {id}"))
}
