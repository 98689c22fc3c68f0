//! Several adapters, clients and faults on one cluster, in an order that a
//! seed decides; what must be true is looked at after every request.

mod actor;
mod book;

use std::{cell::RefCell, rc::Rc, time::Duration};

use self::{actor::Actor, book::Book};
use crate::stage::prelude::*;

/// Worlds that every run goes through.
const SEEDS: u64 = 150;
/// Others that once found something.
const FOUND: [u64; 2] = [275, 665];

#[test]
fn whatever_the_order_nothing_is_lost_doubled_or_touched() {
    worlds(Kind::Lxc, SEEDS);
}

/// Of VMs a few fewer: what is shared has been looked at.
#[test]
fn nor_is_it_with_virtual_machines() {
    worlds(Kind::Qemu, SEEDS / 2);
}

fn worlds(kind: Kind, many: u64) {
    seeds(many).into_iter().chain(FOUND).for_each(|seed| world_of(kind, seed));
}

/// The seed of `PVE_EDGE_SEED`, or the first `PVE_EDGE_WORLDS`, or `many`.
pub(crate) fn seeds(many: u64) -> Vec<u64> {
    let set = |name: &str| std::env::var(name).ok().and_then(|it| it.parse().ok());
    let one = set("PVE_EDGE_SEED").map(|seed| vec![seed]);
    one.unwrap_or_else(|| (0..set("PVE_EDGE_WORLDS").unwrap_or(many)).collect())
}

/// Says how to repeat what failed.
pub(crate) struct Tell(pub(crate) u64, pub(crate) Stage);

impl Drop for Tell {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}\nPVE_EDGE_SEED={} cargo test --test api interleaving", self.1.told(), self.0);
        }
    }
}

fn world_of(kind: Kind, seed: u64) {
    let mut dice = Dice(seed);
    let stage = stage_of(kind, seed, &mut dice);
    let _tell = Tell(seed, stage.clone());
    let book = Rc::new(RefCell::new(Book::new(&stage.world.sim())));
    let watching = book.clone();
    stage.world.hook(move |sim, moment, seen| {
        if moment == Moment::After {
            watching.borrow_mut().check(sim, seen);
        }
    });
    inject(&stage, dice.fork());
    let many = 2 + dice.below(3);
    let actors = (0..many).map(|nth| Actor::new(nth, &stage, book.clone(), dice.fork()).act());
    let ended =
        stage.world.run_all(actors.map(|it| Box::pin(it) as std::pin::Pin<Box<dyn Future<Output = ()>>>));
    assert!(ended.iter().all(Option::is_some), "a client is stuck");
    stage.world.clear_faults();
    stage.world.settle();
    // Whatever was not answered will not be executed any more.
    stage.world.advance(time::Duration::seconds(100));
    stage.world.unhook();
    actor::look_back(&stage, &book);
}

/// Two nodes, others' guests, a neighbour deployment; tasks of uneven length.
fn stage_of(kind: Kind, seed: u64, dice: &mut Dice) -> Stage {
    let mut setup = Setup { nodes: vec![Node::new("pve1"), Node::new("pve2")], seed, ..Setup::default() };
    setup.clone_secs = time::Duration::milliseconds(200 + dice.below(3000) as i64);
    setup.start_secs = time::Duration::milliseconds(200 + dice.below(2000) as i64);
    let mut sim = sim_of(kind, setup);
    sim.add(Spec::guest(100).running());
    sim.add(Spec::vm(101));
    sim.add(Spec::guest(200_001).description("somebody's"));
    let world = pve_edge_bed::world::World::new(sim, seed);
    // A small range: VMIDs are drawn twice, and met again.
    let stage = Stage::of_kind(kind, world, &[("PVE_VMID_RANGE", "200000-200011")]);
    let staging = stage.beside("", &[("EDGE_DEPLOYMENT", "staging"), ("PVE_VMID_RANGE", "200000-200011")]);
    assert_eq!(staging.ask(Ask::create_keyed("shared-0")).status, 201);
    stage.world.latency(1, 1 + dice.below(400));
    stage
}

/// Now and then a request meets a fault; an operation dies.
fn inject(stage: &Stage, mut dice: Dice) {
    let rate = [0, 2, 5, 10][dice.below(4) as usize];
    stage.world.fault_if(move |_: &Seen| {
        if dice.below(100) >= rate {
            return None;
        }
        Some(match dice.below(9) {
            0 => Fault::Refused(500, "unexpected failure".into()),
            1 => Fault::Refused(596, String::new()),
            2 => Fault::NeverSent,
            3 => Fault::Unanswered,
            4 => Fault::Late(Duration::from_secs(1 + dice.below(40))),
            5 => Fault::Slow(Duration::from_secs(1 + dice.below(12))),
            6 => Fault::CutBody(0),
            7 => Fault::Dies,
            _ => Fault::DiesAfter,
        })
    });
}

/// SplitMix64: small, and the same everywhere.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }

    pub(crate) fn fork(&mut self) -> Self {
        Self(self.below(u64::MAX))
    }
}
