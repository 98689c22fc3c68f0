//! What is true of core on Morph Cloud's stand-in, in virtual time.

mod commands;
mod creation;
mod errors;
mod interleaving;
mod lifecycle;
mod matrix;
mod secrets;
mod settings;
mod snapshots;
mod sweep;

use pve_edge_bed::morph::{Instance, Spec};

use crate::stage::prelude::*;

/// The preset that is there from the beginning.
pub(crate) const PRESET: &str = "morph_1vcpu_1gb_8gb_v1";
/// Its sizes.
pub(crate) const SMALL: Spec = Spec { vcpus: 1, memory: 1024, disk_size: 8192 };

/// An account with one preset; what a stranger has in it; and a sandbox of
/// another deployment and of another team.
pub(crate) fn stage() -> Stage {
    stage_of(7, &[])
}

pub(crate) fn stage_of(seed: u64, changes: &[(&str, &str)]) -> Stage {
    let stage = Stage::on_morph(seed, changes);
    stage.account().add_snapshot(SMALL, &[("edge.deployment", "prod"), ("edge.preset", PRESET)]);
    stage
}

/// What others have in the account, which must stay as it is.
pub(crate) fn crowd(stage: &Stage) -> Vec<(String, Instance)> {
    let plain = stage.account().add_snapshot(SMALL, &[("theirs", "yes")]);
    stage.account().add_instance(&plain, &[("theirs", "yes")]);
    // Marked as ours, but for whose.
    stage.account().add_instance(&plain, &[("edge.deployment", "prod"), ("edge.phase", "committed")]);
    let staging = stage.beside("", &[("EDGE_DEPLOYMENT", "staging")]);
    stage.account().add_snapshot(SMALL, &[("edge.deployment", "staging"), ("edge.preset", PRESET)]);
    let forever = |ask: Ask| ask.json(json!({"ttlSeconds": null}));
    for (stage, ask) in [(&staging, Ask::create_keyed("k1")), (stage, Ask::create_keyed("k1").by("red"))] {
        let made = stage.ask(forever(ask));
        assert_eq!(made.status, 201, "{made:?}\n{}", stage.told());
    }
    stage.account().instances.iter().map(|(id, it)| (id.clone(), it.clone())).collect()
}

/// That others' things are as they were.
pub(crate) fn assert_untouched(stage: &Stage, before: &[(String, Instance)], told: &str) {
    let account = stage.account();
    for (id, instance) in before {
        assert_eq!(account.instances.get(id), Some(instance), "{told}: {id}\n{}", stage.told());
    }
}

/// Instances of deployment `prod` and team blue.
pub(crate) fn ours(stage: &Stage) -> Vec<String> {
    let is = |it: &Instance, name: &str, value: &str| it.metadata.get(name).is_some_and(|it| it == value);
    let account = stage.account();
    let mine = account
        .instances
        .iter()
        .filter(|(_, it)| is(it, "edge.deployment", "prod") && is(it, "edge.team", "blue"));
    mine.map(|(id, _)| id.clone()).collect()
}

/// A sandbox that is told to run does: finished, with a name for each service.
pub(crate) fn assert_runs(stage: &Stage, id: &str) {
    let account = stage.account();
    let it = account.instances.get(id).unwrap_or_else(|| panic!("{id} is not there\n{}", stage.told()));
    assert!(matches!(it.status, "ready" | "saving"), "{id} is {}\n{}", it.status, stage.told());
    assert_eq!(it.metadata.get("edge.phase").map(String::as_str), Some("committed"), "{id}");
    for port in [39378, 39377, 39383, 39380, 5173, 9776] {
        assert!(it.services.values().any(|it| *it == port), "{id} lacks {port}\n{}", stage.told());
    }
    assert!(!it.services.values().any(|it| *it == 39375), "{id}: its exec daemon is open to everyone");
}

/// A sandbox, made.
pub(crate) fn made(stage: &Stage, body: Value) -> Answer {
    let answer = stage.ask(Ask::sandbox(body));
    assert_eq!(answer.status, 201, "{answer:?}\n{}", stage.told());
    answer
}

/// Requests to Morph that asking this takes.
pub(crate) fn counted(stage: &Stage, ask: Ask) -> (Answer, usize) {
    let before = stage.world.requests().len();
    let answer = stage.ask(ask);
    (answer, stage.world.requests().len() - before)
}
