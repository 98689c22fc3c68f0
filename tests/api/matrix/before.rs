//! A cluster that is not empty, and what an operation begins with.

use std::collections::BTreeMap;

use crate::stage::prelude::*;

/// Guests of others, as they were.
pub(super) struct Neighbours(BTreeMap<u32, String>);

impl Neighbours {
    /// Nobody touched them.
    pub(super) fn assert_untouched(&self, stage: &Stage, told: &str) {
        let now = snapshot(stage, |vmid| self.0.contains_key(&vmid));
        if self.0 != now {
            let changed = self.0.iter().find(|(vmid, text)| now.get(vmid) != Some(text));
            panic!("{told}: {changed:?} was touched\n{}", stage.told());
        }
    }

    /// Guests beyond them.
    pub(super) fn new_ones(&self, stage: &Stage) -> Vec<u32> {
        stage.world.sim().guests().map(|it| it.vmid).filter(|it| !self.0.contains_key(it)).collect()
    }
}

/// Everything about these guests; a template's lock comes and goes with every clone.
fn snapshot(stage: &Stage, which: impl Fn(u32) -> bool) -> BTreeMap<u32, String> {
    let mut all = stage.world.sim().snapshot_of(|guest| which(guest.vmid));
    for text in all.values_mut() {
        *text = text.lines().filter(|line| *line != "lock: disk").collect::<Vec<_>>().join("\n");
    }
    all
}

/// Two nodes; others' guests, inside the range of sandboxes too; sandboxes of
/// another deployment, of another team, and one of the caller's own.
pub(super) fn crowded(kind: Kind) -> (Stage, Neighbours) {
    let setup = Setup::two_nodes();
    let mut sim = sim_of(kind, setup);
    sim.add(Spec::guest(100).running().tags("db;prod"));
    sim.add(Spec::vm(101));
    sim.add(Spec::template(9001).tags("base"));
    sim.add(Spec::guest(200_123).description("somebody's").node("pve2"));
    let stage = Stage::of_kind(kind, World::new(sim, 7), &[]);
    let staging = stage.beside("", &[("EDGE_DEPLOYMENT", "staging")]);
    for answer in [
        staging.ask(Ask::create_keyed("k1")),
        stage.ask(Ask::create_keyed("k1").by("red")),
        stage.ask(Ask::create_keyed("mine")),
    ] {
        assert_eq!(answer.status, 201, "{answer:?}");
    }
    stage.world.advance(Duration::minutes(30));
    let neighbours = snapshot(&stage, |_| true);
    (stage, Neighbours(neighbours))
}

/// The storage is shared, and the template's node has little memory left: clones go to the other one.
pub(super) fn shared(stage: &Stage) -> String {
    let mut sim = stage.world.sim_mut();
    let setup = sim.setup_mut();
    setup.storages.iter_mut().for_each(|it| it.shared = true);
    setup.nodes.iter_mut().filter(|it| it.name == "pve1").for_each(|it| it.memory.1 = it.memory.0);
    String::new()
}

/// Only others' guests.
pub(super) fn nothing(_: &Stage) -> String {
    String::new()
}

/// A creation that ended right after its claim; nothing is committed.
pub(super) fn half_made(stage: &Stage) -> String {
    let answer = stage.ask(Ask::create_keyed("half").wait(0));
    assert_eq!(answer.shows(), "202 creating");
    stage.world.settle();
    answer.id()
}

/// A sandbox a minute old, which a GET still looks into.
pub(super) fn running(stage: &Stage) -> String {
    let answer = stage.ask(Ask::create_keyed("target"));
    assert_eq!(answer.status, 201, "{answer:?}");
    stage.world.advance(Duration::minutes(1));
    answer.id()
}

/// A sandbox twenty minutes old.
pub(super) fn long_running(stage: &Stage) -> String {
    let id = running(stage);
    stage.world.advance(Duration::minutes(20));
    id
}

/// A sandbox that was stopped a while ago.
pub(super) fn stopped(stage: &Stage) -> String {
    switched(stage, "stop")
}

/// A sandbox that was paused a while ago.
pub(super) fn paused(stage: &Stage) -> String {
    switched(stage, "pause")
}

fn switched(stage: &Stage, verb: &str) -> String {
    let id = running(stage);
    let answer = stage.act(&id, verb, json!({}));
    assert_eq!(answer.status, 200, "{answer:?}");
    stage.world.advance(Duration::minutes(20));
    id
}

/// A sandbox that was given a new name, metadata and a longer life since it was given a snapshot, when it
/// was about to expire; one with memory has another by now. And the way back.
pub(super) fn kept(stage: &Stage, memory: bool) -> (String, Ask) {
    let id = running(stage);
    assert_eq!(stage.ask(Ask::extend(&id, 300)).status, 200);
    let kept = stage.act(&id, "snapshots", json!({"keep": true, "memory": memory}));
    assert_eq!(kept.status, 201, "{kept:?}");
    if memory {
        for verb in ["stop", "start"] {
            assert_eq!(stage.act(&id, verb, json!({})).status, 200);
        }
    }
    assert_eq!(stage.ask(Ask::extend(&id, 36_000)).status, 200);
    let newer = json!({"name": "newer", "metadata": {"later": "1"}});
    assert_eq!(stage.ask(Ask::change(&id, newer)).status, 200);
    stage.world.advance(Duration::minutes(20));
    let ask = Ask::rollback(&id, &kept.snapshot_id()).wait(20);
    (id, ask)
}
