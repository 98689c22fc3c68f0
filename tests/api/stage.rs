//! A deployment on a simulated cluster, asked as an adapter asks it.

mod acts;
mod ask;
pub(crate) mod client;
pub(crate) mod guests;
pub(crate) mod prelude;

use std::{
    cell::{Cell, RefCell, RefMut},
    future::Future,
    pin::Pin,
    rc::Rc,
    time::Duration,
};

use pve_edge_bed::{
    morph::{self, Morph},
    sim::{
        Kind, Setup, Sim, Spec, Storage, StorageKind, TOKEN,
        execd::{ExecLine, asked},
    },
    world::{API, World},
};
use pve_edge_core::{access::secret::Keyring, api::Service, io::Platform};
use sha2::{Digest, Sha256};

pub(crate) use self::ask::{Answer, Ask};

/// What Workers allow one request.
pub(crate) const WORKERS: Platform = Platform {
    name: "workers",
    max_wait: Duration::from_secs(25),
    requests: 40,
    answer_bytes: 4 << 20,
    request_bytes: None,
    streams: true,
    upgrades: true,
    private_network: false,
    in_guest_network: false,
    unverified_tls: false,
};

/// A preset whose disk is that of [`Spec::template`]s.
pub(crate) const SNAPSHOT: &str = "pvelxc_1vcpu_1gb_8gb_v1";
/// The template of it.
pub(crate) const TEMPLATE: u32 = 9000;
/// The template of the same sizes of VMs.
pub(crate) const VM_TEMPLATE: u32 = 9100;
/// What a sandbox on PVE may be.
pub(crate) const BOTH: [Kind; 2] = [Kind::Lxc, Kind::Qemu];
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

/// An answer that is still to come.
pub(crate) type Pending = Pin<Box<dyn Future<Output = Answer>>>;

impl Stage {
    /// One node, one template, settings that need no DNS.
    pub(crate) fn new() -> Self {
        Self::on(plain_sim(Setup::default()))
    }

    /// The same, where file systems are grown and mounted at once.
    pub(crate) fn at_once() -> Self {
        Self::on(plain_sim(Setup::default().without_mount_protection()))
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
        assert_eq!(service.misconfigured(), []);
        let (service, dice) = (Rc::new(service), Rc::new(Cell::new(1)));
        Self { world, platform, service, dice, name: "", kind, morph: None }
    }

    /// With exactly these settings, wrong ones too, on this platform.
    pub(crate) fn with_settings(settings: &[(String, String)], platform: Platform) -> Self {
        let service = Rc::new(Service::new(settings, platform));
        let world = World::new(plain_sim(Setup::default()), 7);
        Self { world, platform, service, dice: Rc::new(Cell::new(1)), name: "", kind: Kind::Lxc, morph: None }
    }

    /// In an empty account of Morph Cloud.
    pub(crate) fn on_morph(seed: u64, changes: &[(&str, &str)]) -> Self {
        let world = World::new(Sim::new(Setup::default()), seed);
        let morph = served(&world, Morph::new(world.now(), morph::KEY));
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

    /// One node, one template of this kind with our own daemon in it, which obeys these secrets.
    pub(crate) fn with_daemon(kind: Kind, setup: Setup, secrets: &str) -> Self {
        let mut sim = Sim::new(setup);
        let template = match kind {
            Kind::Lxc => Spec::template(TEMPLATE),
            Kind::Qemu => Spec::vm_template(VM_TEMPLATE),
        };
        sim.add(template.tags(preset_of(kind)).with_daemon(&keys_of(secrets)));
        echo(&mut sim);
        Self::of_kind(kind, World::new(sim, 7), &[])
    }

    /// One node, and this template of containers.
    pub(crate) fn from_template(template: Spec) -> Self {
        let mut sim = Sim::new(Setup::default());
        sim.add(template.tags(SNAPSHOT));
        echo(&mut sim);
        Self::on(sim)
    }

    /// One node, one template of this kind, on a storage of this kind.
    pub(crate) fn on_storage(kind: Kind, storage: StorageKind) -> Self {
        let setup = Setup { storages: vec![Storage::new("store", storage)], ..Setup::default() };
        Self::of_kind(kind, World::new(sim_of(kind, setup), 7), &[])
    }

    /// Another adapter on the same world.
    pub(crate) fn beside(&self, name: &'static str, changes: &[(&str, &str)]) -> Self {
        let dice = Rc::new(Cell::new(1 + 1000 * u64::from(name.bytes().fold(1, u8::wrapping_add))));
        let morph = self.morph.clone();
        let base = ON_MORPH.iter().filter(|_| morph.is_some());
        let changes: Vec<_> = base.chain(changes).copied().collect();
        Self { name, dice, morph, ..Self::of_kind(self.kind, self.world.clone(), &changes) }
    }

    /// Another stage that begins as this one is now: its world, its dice and, on Morph, its account.
    pub(crate) fn fork(&self) -> Self {
        let (world, dice) = (self.world.fork(), Rc::new(Cell::new(self.dice.get())));
        let morph = self.morph.as_ref().map(|it| served(&world, it.borrow().clone()));
        Self { world, dice, morph, ..self.clone() }
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
        let (method, target) = (ask.method, ask.path.clone());
        let answer = self.world.answer(self.name, &self.service, self.platform, seed, ask.request());
        Box::pin(async move {
            let (response, at) = answer.await;
            let (head, body) = response.into_parts();
            let body = String::from_utf8(body).expect("answers are UTF-8");
            let answer = Answer { status: head.status.as_u16(), headers: head.headers, body, at };
            // Names of sandboxes are no paths of the API.
            if target.starts_with('/') {
                crate::contract::check(method, &target, &answer);
            }
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

/// Has this account answered in this world.
fn served(world: &World, account: Morph) -> morph::Shared {
    let morph = Rc::new(RefCell::new(account));
    let served = morph.clone();
    world.serve(morph::HOST, move |request, now| served.borrow_mut().answer(request, now));
    morph
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
    sim.add(Spec::vm_template(VM_TEMPLATE).tags(preset_of(kind)));
    echo(&mut sim);
    sim
}

/// The version of the preset of [`sim_of`].
pub(crate) fn preset_of(kind: Kind) -> &'static str {
    if kind == Kind::Lxc { SNAPSHOT } else { "pvevm_1vcpu_1gb_8gb_v1" }
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

/// The lines of `prod` in a file of keys, under these secrets.
pub(crate) fn keys_of(secrets: &str) -> String {
    let secrets = Keyring::parse(secrets).expect("secrets");
    let lines = secrets.all().map(|it| format!("{}\n", it.guest_key("prod").line("prod")));
    lines.collect()
}

/// The VMID in a sandbox's id.
pub(crate) fn vmid_of(id: &str) -> u32 {
    id.split('-').nth(1).and_then(|it| it.parse().ok()).unwrap_or_else(|| panic!("no VMID in {id}"))
}
