//! A pause that keeps a VM's memory: nothing of it changes until it is resumed.

use crate::stage::prelude::*;

/// Paused at once or later, by its own time or by its owner's word.
#[test]
fn a_pause_keeps_memory_and_freezes_everything_until_it_is_resumed() {
    for age in [0, 120] {
        let stage = Stage::of_vms();
        let id = stage.created(json!({"ttlSeconds": 600}));
        stage.world.advance(Duration::seconds(age));
        let before = stage.memory(&id);
        let paused = stage.act(&id, "pause", json!({}));
        assert_eq!(paused.outcome(), "200 paused paused", "{paused:?}\n{}", stage.told());
        assert_eq!(paused.json()["keeps"], "memory");
        let protection = if age == 0 { "1" } else { "0" };
        assert_eq!(stage.config(&id, "protection"), protection);
        assert_eq!((stage.memory(&id), &*stage.config(&id, "lock")), (None, "suspended"));
        for keeps in [json!({}), json!({"keeps": "memory"})] {
            assert_eq!(stage.act(&id, "pause", keeps).outcome(), "200 nothing paused");
        }
        stage.world.advance(Duration::hours(1));
        assert_eq!(stage.ask(Ask::one(&id)).state(), "paused", "its own time does not run");
        for frozen in
            [Ask::extend(&id, 60), Ask::change(&id, json!({"name": "x"})), Ask::act(&id, "stop", json!({}))]
        {
            assert_eq!(stage.ask(frozen).refusal(), "409 suspended");
        }
        assert_eq!(stage.ask(Ask::exec(&id, "true")).refusal(), "409 not-running");
        stage.world.advance(Duration::days(1));
        assert_eq!(stage.ask(Ask::one(&id)).state(), "paused");
        let resumed = stage.act(&id, "resume", json!({"ttlSeconds": 900}));
        assert_eq!(resumed.outcome(), "200 resumed running", "{resumed:?}\n{}", stage.told());
        assert_eq!((stage.memory(&id), &*stage.config(&id, "protection")), (before, "1"));
        assert_eq!(stage.ask(Ask::exec(&id, "true")).status, 200);
        stage.world.advance(Duration::seconds(901));
        assert_eq!(stage.ask(Ask::one(&id)).status, 404);
    }
}

#[test]
fn a_start_of_a_paused_one_brings_memory_back_too() {
    let stage = Stage::of_vms();
    let id = stage.created(json!({}));
    let before = stage.memory(&id);
    stage.act(&id, "pause", json!({"keeps": "memory"}));
    let started = stage.act(&id, "start", json!({}));
    assert_eq!(started.outcome(), "200 resumed running", "{started:?}\n{}", stage.told());
    assert_eq!(stage.memory(&id), before);
}

#[test]
fn a_pause_to_disk_is_a_stop() {
    let stage = Stage::of_vms();
    let id = stage.created(json!({}));
    let paused = stage.act(&id, "pause", json!({"keeps": "disk"}));
    assert_eq!((&*paused.outcome(), &paused.json()["keeps"]), ("200 paused paused", &json!("disk")));
    assert_eq!(stage.config(&id, "lock"), "");
    let patched = stage.ask(Ask::change(&id, json!({"name": "x"})));
    assert_eq!(patched.status, 200, "{patched:?}");
}

#[test]
fn a_paused_one_is_deleted_whenever_it_was_paused() {
    for (before, after) in [(0, 0), (0, 300), (120, 0)] {
        let stage = Stage::of_vms();
        let id = stage.created(json!({}));
        stage.world.advance(Duration::seconds(before));
        assert_eq!(stage.act(&id, "pause", json!({"keeps": "memory"})).status, 200);
        stage.world.advance(Duration::seconds(after));
        let answer = stage.ask(Ask::end(&id).wait(25));
        assert_eq!(answer.status, 204, "{before} {after}: {answer:?}\n{}", stage.told());
        stage.world.settle();
        assert_eq!(stage.world.sim().guests().count(), 1);
        assert!(stage.world.sim().volumes().keys().all(|volid| volid.contains("9100")), "memory and all");
    }
}

/// PVE leaves its lock, the VM runs on.
#[test]
fn memory_that_cannot_be_written_is_told() {
    let stage = Stage::of_vms();
    let id = stage.created(json!({}));
    stage.world.sim_mut().fail_next("qmsuspend", "no space left");
    let answer = stage.act(&id, "pause", json!({"keeps": "memory"}));
    assert!(answer.status >= 400 && !answer.code().is_empty(), "{answer:?}");
    assert!(stage.memory(&id).is_some());
}

fn dies(stage: &Stage, id: &str, action: &str, nth: usize, fault: Fault) {
    stage.world.fault_at(stage.world.requests().len() + nth, fault);
    assert!(stage.try_ask(Ask::act(id, action, json!({}))).is_none());
    stage.world.advance(Duration::seconds(120));
}

#[test]
fn who_dies_after_a_resume_leaves_a_sandbox_that_expires() {
    for on_expiry in ["delete", "pause"] {
        let stage = Stage::of_vms();
        let id = stage.created(json!({"ttlSeconds": 600, "onExpiry": on_expiry}));
        stage.world.advance(Duration::seconds(120));
        assert_eq!(stage.act(&id, "pause", json!({})).status, 200);
        stage.world.advance(Duration::hours(1));
        // Its config, its start.
        dies(&stage, &id, "resume", 1, Fault::DiesAfter);
        assert_eq!(stage.config(&id, "lock"), "");
        assert_eq!(stage.swept()[0]["action"], "finish", "{}", stage.told());
        assert_eq!(stage.swept(), json!([]));
        assert_eq!(stage.config(&id, "protection"), "1");
        stage.world.advance(Duration::minutes(61));
        let now = stage.ask(Ask::one(&id));
        assert!(now.status == 404 || now.state() == "paused", "{now:?}");
    }
}

#[test]
fn who_dies_before_a_suspension_loses_nothing() {
    let stage = Stage::of_vms();
    let id = stage.created(json!({"ttlSeconds": 600}));
    stage.world.advance(Duration::seconds(120));
    // Config and status, config and intent, the suspension.
    dies(&stage, &id, "pause", 4, Fault::Dies);
    assert_eq!(stage.swept(), json!([]));
    stage.world.advance(Duration::minutes(5));
    assert_eq!(stage.ask(Ask::one(&id)).state(), "running");
    let memory = stage.memory(&id);
    // Its time is up: the pause is done, with its memory.
    stage.world.advance(Duration::minutes(6));
    assert_eq!(stage.swept()[0]["action"], "pause", "{}", stage.told());
    stage.world.advance(Duration::seconds(120));
    assert_eq!(stage.config(&id, "lock"), "suspended");
    assert_eq!(stage.ask(Ask::one(&id)).state(), "paused");
    assert_eq!(stage.act(&id, "resume", json!({})).state(), "running");
    assert_eq!(stage.memory(&id), memory);
}
