//! Whose sandbox is whose: what is not the caller's is not there.

use std::collections::BTreeMap;

use crate::stage::prelude::*;

/// Everything that can be asked of one sandbox.
fn everything(id: &str) -> Vec<Ask> {
    vec![
        Ask::one(id),
        Ask::change(id, json!({"name": "mine"})),
        Ask::extend(id, 60),
        Ask::exec(id, "id"),
        Ask::exec(id, "id").header("accept", "text/event-stream"),
        Ask::end(id),
    ]
}

fn with_one() -> (Stage, String) {
    let stage = Stage::new();
    let id = stage.ask(Ask::create_keyed("k").by("blue")).id();
    stage.world.advance(Duration::minutes(20));
    (stage, id)
}

fn all(stage: &Stage) -> BTreeMap<u32, String> {
    stage.world.sim().snapshot_of(|_| true)
}

fn listed(stage: &Stage, team: &str) -> usize {
    stage.ask(Ask::get("/api/sandboxes").by(team)).json()["items"].as_array().map_or(0, Vec::len)
}

/// All of it is 404, and nothing has changed.
fn assert_invisible(stage: &Stage, id: &str, team: &str) {
    let (before, ran) = (all(stage), stage.world.sim().executions().clone());
    for ask in everything(id) {
        let answer = stage.ask(ask.clone().by(team));
        assert_eq!(answer.refusal(), "404 not-found", "{ask:?}: {answer:?}");
    }
    stage.world.settle();
    assert_eq!((all(stage), stage.world.sim().executions()), (before, &ran));
}

#[test]
fn another_teams_sandbox_is_not_there() {
    let (stage, id) = with_one();
    assert_invisible(&stage, &id, "red");
    assert_eq!((listed(&stage, "blue"), listed(&stage, "red"), listed(&stage, "ops")), (1, 0, 1));
}

#[test]
fn an_admin_may_all_of_it() {
    let (stage, id) = with_one();
    for ask in everything(&id) {
        let answer = stage.ask(ask.clone().by("ops"));
        assert!(matches!(answer.status, 200 | 204), "{ask:?}: {answer:?}");
    }
}

#[test]
fn another_deployments_sandbox_is_not_there() {
    let (stage, id) = with_one();
    let staging = stage.beside("", &[("EDGE_DEPLOYMENT", "staging")]);
    for team in ["blue", "ops"] {
        assert_invisible(&staging, &id, team);
        assert_eq!(listed(&staging, team), 0);
    }
}

/// The same number, another nonce: an old id, or a guessed one.
#[test]
fn another_nonce_is_another_sandbox() {
    let (stage, id) = with_one();
    let other = stage.ask(Ask::create()).id();
    let nonce = other.split('-').nth(2).unwrap_or_default();
    assert_invisible(&stage, &format!("pvelxc-{}-{nonce}-pve1", vmid_of(&id)), "blue");
}

/// An administrator clones a sandbox: tags and notes come along, and count for nothing.
#[test]
fn inherited_marks_count_for_nothing() {
    let (stage, id) = with_one();
    let copy = 300_000;
    let spec = {
        let sim = stage.world.sim();
        let guest = sim.guest(vmid_of(&id)).expect("the sandbox");
        let notes = guest.config.description.clone().unwrap_or_default();
        Spec::guest(copy).tags(guest.config.get("tags").unwrap_or_default()).description(&notes).running()
    };
    stage.world.sim_mut().add(spec);
    assert_eq!(listed(&stage, "blue"), 1);
    assert_invisible(&stage, &id.replacen(&vmid_of(&id).to_string(), &copy.to_string(), 1), "blue");
    let replay = stage.ask(Ask::create_keyed("k"));
    assert_eq!((replay.status, replay.id()), (200, id.clone()));
    let before = stage.world.sim().snapshot_of(|it| it.vmid == copy);
    assert_eq!(stage.ask(Ask::end(&id)).status, 204);
    assert_eq!(stage.world.sim().snapshot_of(|it| it.vmid == copy), before);
}

/// Tags of one sandbox, notes of another: nobody acts on that.
#[test]
fn contradicting_marks_are_left_alone() {
    let (stage, id) = with_one();
    let notes = stage.world.sim().guest(vmid_of(&id)).and_then(|it| it.config.description.clone());
    let notes = notes.unwrap_or_default().replace("\"team\":\"blue\"", "\"team\":\"red\"");
    stage.world.sim_mut().admin_describe(vmid_of(&id), &notes);
    assert_invisible(&stage, &id, "blue");
    assert_invisible(&stage, &id, "red");
}

/// The head tag alone owns a guest; the next change writes the notes again.
#[test]
fn overwritten_notes_erase_nothing() {
    let (stage, id) = with_one();
    stage.world.sim_mut().admin_describe(vmid_of(&id), "do not touch, Bob");
    assert_eq!(stage.ask(Ask::one(&id)).status, 200);
    assert_eq!(stage.ask(Ask::extend(&id, 600)).status, 200);
    let notes = stage.world.sim().guest(vmid_of(&id)).and_then(|it| it.config.description.clone());
    let notes = notes.unwrap_or_default();
    assert!(notes.contains("do not touch, Bob") && notes.contains("{\"pve-edge\":1"), "{notes}");
    assert_eq!(stage.ask(Ask::exec(&id, "true")).status, 200);
    assert_eq!(stage.ask(Ask::end(&id)).status, 204);
}
