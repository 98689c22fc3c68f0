//! A model of guests under attack, in virtual time: the attacker delivers any recorded call anywhere, and chooses the
//! session that the edge signs; guests are rebooted, rolled back with their memory and their dice, deleted, and drawn
//! again in the same place; two deployments share one template. What verifies is the daemon's own code.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use pve_edge_guest::trust::{ClockAndDice, Identity, Keys, NotObeyed, Trust};
use pve_edge_guest_protocol::{
    Unique,
    call::{Body, Call, Operation, Signed},
    identity::HardwareAddress,
    keys::{EdgeKey, KeyFile},
};

const WORLDS: u64 = 120;
const STEPS: usize = 60;
const PLACES: usize = 3;

/// What the daemon's rules must keep from happening, and in how many worlds it did.
#[derive(Debug, Default, PartialEq, Eq)]
struct Broken {
    /// A guest obeyed a call that was for another one.
    elsewhere: usize,
    /// A call was obeyed twice.
    twice: usize,
    /// A call was obeyed more than 10 minutes after it was signed.
    late: usize,
    /// A guest did not obey its own deployment.
    locked_out: usize,
}

#[test]
fn no_attack_has_a_call_obeyed_elsewhere_or_twice_or_late() {
    assert_eq!(attack(true), Broken::default());
}

#[test]
fn without_renew_after_a_rollback_calls_are_obeyed_twice() {
    let broken = attack(false);
    assert!(broken.twice > 0, "the attacks find nothing: {broken:?}");
    assert_eq!((broken.elsewhere, broken.locked_out), (0, 0));
}

fn attack(does_renew: bool) -> Broken {
    let folder = tempfile::tempdir().unwrap();
    let deployments = ["home", "work"].map(|name| (name, EdgeKey::new(&[name.len() as u8; 32])));
    let keys = folder.path().join("keys");
    let lines = deployments.iter().map(|(name, key)| key.line(name));
    fs::write(&keys, KeyFile { lines: lines.collect() }.to_string()).unwrap();
    let mut broken = Broken::default();
    for seed in 0..WORLDS {
        let mut world = World {
            random: Random(seed),
            folder: folder.path(),
            keys: &keys,
            deployments: &deployments,
            does_renew,
            guests: Vec::new(),
            snapshots: BTreeMap::new(),
            wire: Vec::new(),
            now: 0,
            drawn: 0,
            found: Found::default(),
        };
        world.play();
        broken.elsewhere += usize::from(world.found.elsewhere);
        broken.twice += usize::from(world.found.twice);
        broken.late += usize::from(world.found.late);
        broken.locked_out += usize::from(world.found.locked_out);
    }
    broken
}

#[derive(Default)]
struct Found {
    elsewhere: bool,
    twice: bool,
    late: bool,
    locked_out: bool,
}

/// A sandbox, as the edge knows it.
#[derive(Clone, PartialEq, Eq)]
struct Sandbox {
    deployment: usize,
    id: String,
}

/// A guest: the daemon's memory, the guest's clock, and the state of its dice.
#[derive(Clone)]
struct Guest {
    sandbox: Sandbox,
    trust: Trust,
    clock: Arc<AtomicU64>,
    dice: Arc<AtomicU64>,
}

/// A call that the attacker has recorded.
struct Recorded {
    signed: Signed,
    operation: &'static str,
    to: Sandbox,
    at: u64,
    obeyed: usize,
}

struct World<'a> {
    random: Random,
    folder: &'a Path,
    keys: &'a Path,
    deployments: &'a [(&'static str, EdgeKey)],
    does_renew: bool,
    guests: Vec<Guest>,
    snapshots: BTreeMap<usize, (Guest, u64, u64)>,
    wire: Vec<Recorded>,
    now: u64,
    drawn: u64,
    found: Found,
}

impl World<'_> {
    fn play(&mut self) {
        for place in 0..PLACES {
            let sandbox = self.draw_sandbox(place);
            let guest = self.boot(place, sandbox);
            self.guests.push(guest);
        }
        for _ in 0..STEPS {
            let place = self.random.below(PLACES);
            match self.random.below(100) {
                0..20 => self.owner_calls(place),
                20..40 => self.edge_signs_for_the_attacker(),
                40..70 => self.attacker_delivers(place),
                70..78 => self.pass(),
                78..82 => self.guests[place] = self.boot(place, self.guests[place].sandbox.clone()),
                82..88 => self.snapshot(place),
                88..97 => self.roll_back(place),
                _ => {
                    let sandbox = self.draw_sandbox(place);
                    self.guests[place] = self.boot(place, sandbox);
                }
            }
        }
    }

    fn draw_sandbox(&mut self, place: usize) -> Sandbox {
        self.drawn += 1;
        Sandbox { deployment: self.random.below(2), id: format!("pvelxc-{place}-{}", self.drawn) }
    }

    fn boot(&mut self, place: usize, sandbox: Sandbox) -> Guest {
        let cards = self.cards(place);
        fs::create_dir_all(cards.join("eth0")).unwrap();
        let address = HardwareAddress::of(self.deployments[sandbox.deployment].0, &sandbox.id);
        fs::write(cards.join("eth0/address"), format!("{address}\n")).unwrap();
        let (clock, dice) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(self.random.next())));
        let world = ClockAndDice {
            clock: Arc::new({
                let clock = clock.clone();
                move || Duration::from_secs(clock.load(Relaxed))
            }),
            dice: Arc::new({
                let dice = dice.clone();
                move || unique(dice.fetch_add(1, Relaxed))
            }),
        };
        let trust = Trust::new(Keys::new(self.keys.to_owned()), Identity { cards }, world);
        Guest { sandbox, trust, clock, dice }
    }

    fn cards(&self, place: usize) -> PathBuf {
        self.folder.join(place.to_string())
    }

    fn pass(&mut self) {
        let seconds = [1, 20, 250, 550][self.random.below(4)];
        self.now += seconds;
        for guest in &self.guests {
            guest.clock.fetch_add(seconds, Relaxed);
        }
    }

    /// Signs a call as the edge does. The attacker has recorded it.
    fn sign(&mut self, to: Sandbox, session: Unique, operation: Operation) -> usize {
        let name = operation.name();
        let call = unique(self.random.next());
        let call = Call { to: to.id.clone(), session, call, operation, body: Some(Body::of(b"")) };
        let signed = call.sign(&self.deployments[to.deployment].1).unwrap();
        self.wire.push(Recorded { signed, operation: name, to, at: self.now, obeyed: 0 });
        self.wire.len() - 1
    }

    /// Delivers a recorded call, and looks at what happens.
    fn deliver(&mut self, call: usize, place: usize) -> Result<(), NotObeyed> {
        let (guest, recorded) = (&mut self.guests[place], &mut self.wire[call]);
        let Signed { call, signature } = &recorded.signed;
        let taken = guest.trust.take(recorded.operation, call, signature)?;
        if let Operation::Renew {} = taken.operation {
            guest.trust.renew::<()>(taken.call, |_| Ok(())).unwrap();
        }
        recorded.obeyed += 1;
        self.found.elsewhere |= guest.sandbox != recorded.to;
        self.found.twice |= recorded.obeyed > 1;
        self.found.late |= self.now - recorded.at > 600;
        Ok(())
    }

    fn owner_calls(&mut self, place: usize) {
        let to = self.guests[place].sandbox.clone();
        let session = self.guests[place].trust.session();
        let call = self.sign(to, session, Operation::Hello {});
        self.found.locked_out |= self.deliver(call, place).is_err();
    }

    /// The attacker answers in the place of a guest: with the session of any guest, for any sandbox that there was.
    fn edge_signs_for_the_attacker(&mut self) {
        let place = self.random.below(PLACES);
        let session = self.guests[place].trust.session();
        let to = match self.random.below(self.wire.len() + PLACES) {
            it if it < PLACES => self.guests[it].sandbox.clone(),
            it => self.wire[it - PLACES].to.clone(),
        };
        let operation = if self.random.below(5) == 0 { Operation::Renew {} } else { Operation::Hello {} };
        self.sign(to, session, operation);
    }

    fn attacker_delivers(&mut self, place: usize) {
        if !self.wire.is_empty() {
            let call = self.random.below(self.wire.len());
            let _ = self.deliver(call, place);
        }
    }

    fn snapshot(&mut self, place: usize) {
        let guest = self.guests[place].clone();
        let (clock, dice) = (guest.clock.load(Relaxed), guest.dice.load(Relaxed));
        self.snapshots.insert(place, (guest, clock, dice));
    }

    /// Rolls a guest back to a snapshot of its memory; the edge's first call then is `renew`.
    fn roll_back(&mut self, place: usize) {
        let Some((guest, clock, dice)) = self.snapshots.get(&place) else { return };
        if guest.sandbox != self.guests[place].sandbox {
            return;
        }
        guest.clock.store(*clock, Relaxed);
        guest.dice.store(*dice, Relaxed);
        self.guests[place] = guest.clone();
        if self.does_renew {
            let to = self.guests[place].sandbox.clone();
            let session = self.guests[place].trust.session();
            let call = self.sign(to, session, Operation::Renew {});
            self.found.locked_out |= self.deliver(call, place).is_err();
        }
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut it = self.0;
        it = (it ^ (it >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        it = (it ^ (it >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        it ^ (it >> 31)
    }

    fn below(&mut self, most: usize) -> usize {
        (self.next() % most as u64) as usize
    }
}

fn unique(number: u64) -> Unique {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    Unique(bytes)
}
