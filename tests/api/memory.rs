//! A VM's snapshot with its memory, and going back to what ran in it.

use crate::{
    stage::{Answer, Ask, Stage, vmid_of},
    truth::committed,
};
use pve_edge_core::pve::marks::{self, Want};
use pve_edge_tests::{sim::Kind, world::Fault};
use serde_json::{Value, json};
use time::Duration;

fn created(stage: &Stage, body: Value) -> String {
    let answer = stage.ask(Ask::post("/api/sandboxes", body));
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.id()
}

fn act(stage: &Stage, id: &str, action: &str, body: Value) -> Answer {
    stage.ask(Ask::post(format!("/api/sandboxes/{id}/{action}"), body))
}

fn keep(stage: &Stage, id: &str) -> String {
    let kept = act(stage, id, "snapshots", json!({"keep": true, "memory": true, "name": "ram"}));
    assert_eq!((kept.status, &kept.json()["memory"]), (201, &json!(true)), "{kept:?}\n{}", stage.told());
    // Names tell the second.
    stage.world.advance(Duration::seconds(2));
    kept.json()["snapshotId"].as_str().expect("an id").to_owned()
}

fn roll_back(id: &str, snapshot: &str) -> Ask {
    Ask::post(format!("/api/sandboxes/{id}/rollback"), json!({"snapshot": snapshot}))
}

/// The number of the memory that runs.
fn memory(stage: &Stage, id: &str) -> Option<u64> {
    stage.world.sim().guest(vmid_of(id))?.run.as_ref().map(|run| run.memory)
}

fn rollbacks(stage: &Stage) -> usize {
    stage.world.sim().tasks().iter().filter(|it| it.kind == "qmrollback").count()
}

#[test]
fn what_ran_then_runs_on_and_what_is_known_of_it_stays() {
    let stage = Stage::of_vms();
    let id = created(&stage, json!({"ttlSeconds": 600, "env": {"A": "1"}}));
    let vmid = vmid_of(&id);
    // An administrator's own hand: a machine of another size than it was created with, and later of a third.
    let resized = |memory: &str| {
        assert_eq!(act(&stage, &id, "stop", json!({})).status, 200);
        stage.world.sim_mut().admin_set(vmid, "memory", memory);
        assert_eq!(act(&stage, &id, "start", json!({})).status, 200);
    };
    resized("2048");
    let before = memory(&stage, &id);
    let snapshot = keep(&stage, &id);
    let list = stage.ask(Ask::get(format!("/api/sandboxes/{id}/snapshots"))).json();
    assert_eq!((&list["items"][0]["memory"], &list["items"][0]["status"]), (&json!(true), &json!("ready")));
    let patch = json!({"name": "later", "metadata": {"k": "v"}, "ttlSeconds": 36_000, "onExpiry": "stop"});
    let patched = stage.ask(Ask::patch(format!("/api/sandboxes/{id}"), patch));
    assert_eq!(patched.status, 200, "{patched:?}");
    resized("4096");
    let known = stage.ask(Ask::one(&id));
    assert_ne!(memory(&stage, &id), before);
    stage.world.advance(Duration::minutes(30));
    let answer = stage.ask(roll_back(&id, &snapshot));
    assert_eq!(
        (answer.status, &answer.json()["did"]),
        (200, &json!("rolled-back")),
        "{answer:?}\n{}",
        stage.told()
    );
    assert_eq!((answer.state(), memory(&stage, &id)), ("running".into(), before));
    for field in ["name", "metadata", "expiresAt", "onExpiry"] {
        assert_eq!(answer.json()[field], known.json()[field], "{field}");
    }
    let sim = stage.world.sim();
    let guest = sim.guest(vmid).expect("it is there");
    // Nothing waits for a start: it would be applied before a pause's memory is read.
    assert!(guest.config.pending.is_empty(), "{}", guest.config.text());
    assert_eq!(guest.config.get("memory"), Some("2048"));
    assert!(guest.config.is("protection"));
    let listed = marks::listed(vmid.try_into().expect("one"), guest.config.get("tags").expect("tags"));
    assert_eq!((listed.expect("ours").mark.doing, committed(guest).expect("ours").doing), (None, None));
    drop(sim);
    assert_eq!(stage.ask(Ask::exec(&id, "true")).status, 200);
    // A pause keeps that memory, and a resume brings it back.
    assert_eq!(act(&stage, &id, "pause", json!({"keeps": "memory"})).status, 200);
    assert_eq!((act(&stage, &id, "resume", json!({})).status, memory(&stage, &id)), (200, before));
    assert_eq!(rollbacks(&stage), 1);
    // It goes with its sandbox, memory and all.
    assert!(matches!(stage.ask(Ask::end(&id)).status, 202 | 204));
    stage.world.settle();
    assert!(stage.world.sim().volumes().keys().all(|volid| volid.contains("9100")));
}

#[test]
fn what_is_stopped_runs_again_as_it_did() {
    let stage = Stage::of_vms();
    let id = created(&stage, json!({}));
    let before = memory(&stage, &id);
    let snapshot = keep(&stage, &id);
    assert_eq!(act(&stage, &id, "stop", json!({})).status, 200);
    let answer = stage.ask(roll_back(&id, &snapshot));
    assert_eq!(
        (answer.status, answer.state(), memory(&stage, &id)),
        (200, "running".into(), before),
        "{answer:?}"
    );
    let want = stage.world.sim().guest(vmid_of(&id)).and_then(committed).map(|it| it.want);
    assert_eq!(want, Some(Want::On));
}

/// PVE says no only after all is rolled back but the memory: nothing of ours is
/// given up for it, and nobody boots in its place what has lost it.
#[test]
fn memory_that_does_not_come_back_is_told_and_not_replaced_by_a_boot() {
    for wait in ["wait=20", "wait=0"] {
        let stage = Stage::of_vms();
        let id = created(&stage, json!({"ttlSeconds": 600}));
        let snapshot = keep(&stage, &id);
        assert_eq!(stage.ask(Ask::extend(&id, 36_000)).status, 200);
        stage.world.sim_mut().fail_next("qmrollback", "start failed: QEMU exited with code 1");
        let answer = stage.ask(roll_back(&id, &snapshot).header("prefer", wait));
        if wait == "wait=20" {
            assert_eq!(
                (answer.status, answer.code()),
                (502, "start-failed".into()),
                "{answer:?}\n{}",
                stage.told()
            );
        }
        stage.world.advance(Duration::minutes(1));
        stage.ask(Ask::one(&id));
        let shown = stage.ask(Ask::one(&id));
        assert_eq!((shown.status, shown.state()), (200, "error".into()), "{shown:?}\n{}", stage.told());
        assert!(shown.body.contains("memory"), "{shown:?}");
        for _ in 0..3 {
            stage.ask(Ask::post("/api/gc", json!({})).by("ops"));
            stage.world.advance(Duration::minutes(1));
        }
        assert_eq!(memory(&stage, &id), None, "{}", stage.told());
        let kept = stage.world.sim().guest(vmid_of(&id)).and_then(committed).expect("ours");
        assert!(
            kept.doing.is_none()
                && kept.expires.is_some_and(|it| it > stage.world.now().unix_timestamp() + 30_000)
        );
        // Once more, or without: as its owner says.
        let again = stage.ask(roll_back(&id, &snapshot));
        assert_eq!((again.status, again.state()), (200, "running".into()), "{again:?}\n{}", stage.told());
        assert!(memory(&stage, &id).is_some());
    }
}

#[test]
fn a_start_boots_what_has_lost_its_memory() {
    let stage = Stage::of_vms();
    let id = created(&stage, json!({}));
    let before = memory(&stage, &id);
    let snapshot = keep(&stage, &id);
    stage.world.sim_mut().fail_next("qmrollback", "start failed: QEMU exited with code 1");
    assert_eq!(stage.ask(roll_back(&id, &snapshot)).code(), "start-failed");
    assert_eq!(act(&stage, &id, "start", json!({})).state(), "running");
    assert!(memory(&stage, &id).is_some_and(|it| Some(it) != before));
}

/// It takes a while, under a file lock that a change waits for; nothing of that is told as an error.
#[test]
fn while_the_memory_comes_back_it_is_coming_up() {
    let stage = Stage::of_vms();
    let id = created(&stage, json!({}));
    let before = memory(&stage, &id);
    let snapshot = keep(&stage, &id);
    stage.world.sim_mut().setup_mut().start_secs = Duration::seconds(60);
    let answer = stage.ask(roll_back(&id, &snapshot).header("prefer", "wait=5"));
    assert_eq!((answer.status, answer.state()), (202, "creating".into()), "{answer:?}\n{}", stage.told());
    for _ in 0..3 {
        let shown = stage.ask(Ask::one(&id));
        assert_eq!((shown.status, shown.state()), (200, "creating".into()), "{shown:?}\n{}", stage.told());
        assert_eq!(stage.ask(Ask::exec(&id, "true")).status, 409);
    }
    stage.world.advance(Duration::minutes(1));
    let again = stage.ask(roll_back(&id, &snapshot));
    assert_eq!(
        (again.status, again.state(), memory(&stage, &id)),
        (200, "running".into(), before),
        "{again:?}"
    );
    assert_eq!(rollbacks(&stage), 1, "{}", stage.told());
}

#[test]
fn memory_is_kept_where_there_is_one_and_where_it_can_be() {
    let vms = Stage::of_vms();
    let vm = created(&vms, json!({}));
    let containers = Stage::with(Kind::Lxc);
    let container = created(&containers, json!({}));
    for (stage, id, body) in [
        (&containers, &container, json!({"keep": true, "memory": true})),
        (&containers, &container, json!({"memory": true})),
        (&vms, &vm, json!({"memory": true})),
        (&vms, &vm, json!({"memory": true, "keep": false})),
    ] {
        let before = stage.world.requests().len();
        let answer = act(stage, id, "snapshots", body);
        assert_eq!((answer.status, answer.code()), (422, "unsupported".into()), "{answer:?}");
        assert_eq!(stage.world.requests().len(), before, "PVE is not asked");
    }
    let bad = act(&vms, &vm, "snapshots", json!({"keep": true, "memory": "yes"}));
    assert_eq!((bad.status, &bad.json()["errors"][0]["field"]), (400, &json!("memory")), "{bad:?}");
    // Without memory, and told so.
    let kept = act(&vms, &vm, "snapshots", json!({"keep": true}));
    assert_eq!((kept.status, &kept.json()["memory"]), (201, &json!(false)));
    assert_eq!(act(&vms, &vm, "stop", json!({})).status, 200);
    let stopped = act(&vms, &vm, "snapshots", json!({"keep": true, "memory": true}));
    assert_eq!((stopped.status, stopped.code()), (409, "not-running".into()), "{stopped:?}");
    assert_eq!(vms.world.sim().guest(vmid_of(&vm)).map(|it| it.config.snapshots.len()), Some(1));
    assert_eq!(act(&vms, &vm, "start", json!({})).status, 200);
    assert_eq!(act(&vms, &vm, "pause", json!({})).status, 200);
    let suspended = act(&vms, &vm, "snapshots", json!({"keep": true, "memory": true}));
    assert_eq!((suspended.status, suspended.code()), (409, "suspended".into()), "{suspended:?}");
}

#[test]
fn memory_that_cannot_be_saved_is_told_and_nothing_is_kept() {
    let stage = Stage::of_vms();
    let id = created(&stage, json!({}));
    stage
        .world
        .sim_mut()
        .fail_next("qmsnapshot", "unable to save VM state and RAM - No space left on device");
    let answer = act(&stage, &id, "snapshots", json!({"keep": true, "memory": true}));
    assert_eq!((answer.status, answer.code()), (507, "storage-full".into()), "{answer:?}");
    let sim = stage.world.sim();
    let guest = sim.guest(vmid_of(&id)).expect("it is there");
    assert!(guest.config.snapshots.is_empty() && committed(guest).is_some_and(|it| it.doing.is_none()));
    assert!(guest.run.is_some());
}

/// One that stops at that moment is kept without memory, and the answer says so.
#[test]
fn what_stops_at_that_moment_is_told_to_have_none() {
    let stage = Stage::of_vms();
    let id = created(&stage, json!({}));
    let vmid = vmid_of(&id);
    stage.world.hook(move |sim, moment, seen| {
        if moment == pve_edge_tests::world::Moment::Before
            && seen.method == "POST"
            && seen.path.ends_with("/snapshot")
        {
            sim.set_running(vmid, false);
        }
    });
    let answer = act(&stage, &id, "snapshots", json!({"keep": true, "memory": true}));
    assert_eq!((answer.status, &answer.json()["memory"]), (201, &json!(false)), "{answer:?}");
}

/// The owner of what was never rolled back loses nothing, and it is not started for it.
#[test]
fn a_rollback_that_never_reached_pve_starts_nothing() {
    let stage = Stage::of_vms();
    let id = created(&stage, json!({"ttlSeconds": null}));
    let snapshot = keep(&stage, &id);
    assert_eq!(act(&stage, &id, "stop", json!({})).status, 200);
    stage.world.fault_once(|seen| seen.path.ends_with("/rollback"), Fault::Dies);
    assert!(stage.try_ask(roll_back(&id, &snapshot)).is_none());
    stage.world.advance(Duration::minutes(5));
    for _ in 0..2 {
        stage.ask(Ask::post("/api/gc", json!({})).by("ops"));
        assert_eq!(stage.ask(Ask::one(&id)).state(), "stopped", "{}", stage.told());
    }
    assert_eq!((memory(&stage, &id), rollbacks(&stage)), (None, 0));
}
