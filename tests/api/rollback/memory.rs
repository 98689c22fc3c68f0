//! A VM's snapshot with its memory, and going back to what ran in it.

use pve_edge_core::pve::marks::{self, Want};

use crate::stage::{guests::committed, prelude::*};

fn keep(stage: &Stage, id: &str) -> String {
    let kept = stage.act(id, "snapshots", json!({"keep": true, "memory": true, "name": "ram"}));
    assert_eq!((kept.status, &kept.json()["memory"]), (201, &json!(true)), "{kept:?}\n{}", stage.told());
    // Names tell the second.
    stage.world.advance(Duration::seconds(2));
    kept.snapshot_id()
}

fn rollbacks(stage: &Stage) -> usize {
    stage.world.sim().tasks().iter().filter(|it| it.kind == "qmrollback").count()
}

#[test]
fn what_ran_then_runs_on_and_what_is_known_of_it_stays() {
    let stage = Stage::of_vms();
    let id = stage.created(json!({"ttlSeconds": 600, "env": {"A": "1"}}));
    let vmid = vmid_of(&id);
    // An administrator's own hand: a machine of another size than it was created with, and later of a third.
    let resized = |memory: &str| {
        assert_eq!(stage.act(&id, "stop", json!({})).status, 200);
        stage.world.sim_mut().admin_set(vmid, "memory", memory);
        assert_eq!(stage.act(&id, "start", json!({})).status, 200);
    };
    resized("2048");
    let before = stage.memory(&id);
    let snapshot = keep(&stage, &id);
    let list = stage.ask(Ask::get(format!("/api/sandboxes/{id}/snapshots"))).json();
    assert_eq!((&list["items"][0]["memory"], &list["items"][0]["status"]), (&json!(true), &json!("ready")));
    let patch = json!({"name": "later", "metadata": {"k": "v"}, "ttlSeconds": 36_000, "onExpiry": "stop"});
    let patched = stage.ask(Ask::change(&id, patch));
    assert_eq!(patched.status, 200, "{patched:?}");
    resized("4096");
    let known = stage.ask(Ask::one(&id));
    assert_ne!(stage.memory(&id), before);
    stage.world.advance(Duration::minutes(30));
    let answer = stage.ask(Ask::rollback(&id, &snapshot));
    assert_eq!(
        (answer.status, &answer.json()["did"]),
        (200, &json!("rolled-back")),
        "{answer:?}\n{}",
        stage.told()
    );
    assert_eq!((answer.state(), stage.memory(&id)), ("running".into(), before));
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
    assert_eq!(stage.act(&id, "pause", json!({"keeps": "memory"})).status, 200);
    assert_eq!((stage.act(&id, "resume", json!({})).status, stage.memory(&id)), (200, before));
    assert_eq!(rollbacks(&stage), 1);
    // It goes with its sandbox, memory and all.
    assert!(matches!(stage.ask(Ask::end(&id)).status, 202 | 204));
    stage.world.settle();
    assert!(stage.world.sim().volumes().keys().all(|volid| volid.contains("9100")));
}

#[test]
fn what_is_stopped_runs_again_as_it_did() {
    let stage = Stage::of_vms();
    let id = stage.created(json!({}));
    let before = stage.memory(&id);
    let snapshot = keep(&stage, &id);
    assert_eq!(stage.act(&id, "stop", json!({})).status, 200);
    let answer = stage.ask(Ask::rollback(&id, &snapshot));
    assert_eq!(
        (answer.status, answer.state(), stage.memory(&id)),
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
        let id = stage.created(json!({"ttlSeconds": 600}));
        let snapshot = keep(&stage, &id);
        assert_eq!(stage.ask(Ask::extend(&id, 36_000)).status, 200);
        stage.world.sim_mut().fail_next("qmrollback", "start failed: QEMU exited with code 1");
        let answer = stage.ask(Ask::rollback(&id, &snapshot).header("prefer", wait));
        if wait == "wait=20" {
            assert_eq!(answer.refusal(), "502 start-failed", "{answer:?}\n{}", stage.told());
        }
        stage.world.advance(Duration::minutes(1));
        stage.ask(Ask::one(&id));
        let shown = stage.ask(Ask::one(&id));
        assert_eq!(shown.shows(), "200 error", "{shown:?}\n{}", stage.told());
        assert!(shown.body.contains("memory"), "{shown:?}");
        for _ in 0..3 {
            stage.ask(Ask::gc());
            stage.world.advance(Duration::minutes(1));
        }
        assert_eq!(stage.memory(&id), None, "{}", stage.told());
        let kept = stage.world.sim().guest(vmid_of(&id)).and_then(committed).expect("ours");
        assert!(
            kept.doing.is_none()
                && kept.expires.is_some_and(|it| it > stage.world.now().unix_timestamp() + 30_000)
        );
        // Once more, or without: as its owner says.
        let again = stage.ask(Ask::rollback(&id, &snapshot));
        assert_eq!(again.shows(), "200 running", "{again:?}\n{}", stage.told());
        assert!(stage.memory(&id).is_some());
    }
}

#[test]
fn a_start_boots_what_has_lost_its_memory() {
    let stage = Stage::of_vms();
    let id = stage.created(json!({}));
    let before = stage.memory(&id);
    let snapshot = keep(&stage, &id);
    stage.world.sim_mut().fail_next("qmrollback", "start failed: QEMU exited with code 1");
    assert_eq!(stage.ask(Ask::rollback(&id, &snapshot)).code(), "start-failed");
    assert_eq!(stage.act(&id, "start", json!({})).state(), "running");
    assert!(stage.memory(&id).is_some_and(|it| Some(it) != before));
}

/// It takes a while, under a file lock that a change waits for; nothing of that is told as an error.
#[test]
fn while_the_memory_comes_back_it_is_coming_up() {
    let stage = Stage::of_vms();
    let id = stage.created(json!({}));
    let before = stage.memory(&id);
    let snapshot = keep(&stage, &id);
    stage.world.sim_mut().setup_mut().start_secs = Duration::seconds(60);
    let answer = stage.ask(Ask::rollback(&id, &snapshot).wait(5));
    assert_eq!(answer.shows(), "202 creating", "{answer:?}\n{}", stage.told());
    for _ in 0..3 {
        let shown = stage.ask(Ask::one(&id));
        assert_eq!(shown.shows(), "200 creating", "{shown:?}\n{}", stage.told());
        assert_eq!(stage.ask(Ask::exec(&id, "true")).status, 409);
    }
    stage.world.advance(Duration::minutes(1));
    let again = stage.ask(Ask::rollback(&id, &snapshot));
    assert_eq!(
        (again.status, again.state(), stage.memory(&id)),
        (200, "running".into(), before),
        "{again:?}"
    );
    assert_eq!(rollbacks(&stage), 1, "{}", stage.told());
}

#[test]
fn memory_is_kept_where_there_is_one_and_where_it_can_be() {
    let vms = Stage::of_vms();
    let vm = vms.created(json!({}));
    let containers = Stage::with(Kind::Lxc);
    let container = containers.created(json!({}));
    for (stage, id, body) in [
        (&containers, &container, json!({"keep": true, "memory": true})),
        (&containers, &container, json!({"memory": true})),
        (&vms, &vm, json!({"memory": true})),
        (&vms, &vm, json!({"memory": true, "keep": false})),
    ] {
        let before = stage.world.requests().len();
        let answer = stage.act(id, "snapshots", body);
        assert_eq!(answer.refusal(), "422 unsupported", "{answer:?}");
        assert_eq!(stage.world.requests().len(), before, "PVE is not asked");
    }
    let bad = vms.act(&vm, "snapshots", json!({"keep": true, "memory": "yes"}));
    assert_eq!((bad.status, &bad.json()["errors"][0]["field"]), (400, &json!("memory")), "{bad:?}");
    // Without memory, and told so.
    let kept = vms.act(&vm, "snapshots", json!({"keep": true}));
    assert_eq!((kept.status, &kept.json()["memory"]), (201, &json!(false)));
    assert_eq!(vms.act(&vm, "stop", json!({})).status, 200);
    let stopped = vms.act(&vm, "snapshots", json!({"keep": true, "memory": true}));
    assert_eq!(stopped.refusal(), "409 not-running", "{stopped:?}");
    assert_eq!(vms.world.sim().guest(vmid_of(&vm)).map(|it| it.config.snapshots.len()), Some(1));
    assert_eq!(vms.act(&vm, "start", json!({})).status, 200);
    assert_eq!(vms.act(&vm, "pause", json!({})).status, 200);
    let suspended = vms.act(&vm, "snapshots", json!({"keep": true, "memory": true}));
    assert_eq!(suspended.refusal(), "409 suspended", "{suspended:?}");
}

#[test]
fn memory_that_cannot_be_saved_is_told_and_nothing_is_kept() {
    let stage = Stage::of_vms();
    let id = stage.created(json!({}));
    stage
        .world
        .sim_mut()
        .fail_next("qmsnapshot", "unable to save VM state and RAM - No space left on device");
    let answer = stage.act(&id, "snapshots", json!({"keep": true, "memory": true}));
    assert_eq!(answer.refusal(), "507 storage-full", "{answer:?}");
    let sim = stage.world.sim();
    let guest = sim.guest(vmid_of(&id)).expect("it is there");
    assert!(guest.config.snapshots.is_empty() && committed(guest).is_some_and(|it| it.doing.is_none()));
    assert!(guest.run.is_some());
}

/// One that stops at that moment is kept without memory, and the answer says so.
#[test]
fn what_stops_at_that_moment_is_told_to_have_none() {
    let stage = Stage::of_vms();
    let id = stage.created(json!({}));
    let vmid = vmid_of(&id);
    stage.world.hook(move |sim, moment, seen| {
        if moment == pve_edge_bed::world::Moment::Before
            && seen.method == "POST"
            && seen.path.ends_with("/snapshot")
        {
            sim.set_running(vmid, false);
        }
    });
    let answer = stage.act(&id, "snapshots", json!({"keep": true, "memory": true}));
    assert_eq!((answer.status, &answer.json()["memory"]), (201, &json!(false)), "{answer:?}");
}

/// The owner of what was never rolled back loses nothing, and it is not started for it.
#[test]
fn a_rollback_that_never_reached_pve_starts_nothing() {
    let stage = Stage::of_vms();
    let id = stage.created(json!({"ttlSeconds": null}));
    let snapshot = keep(&stage, &id);
    assert_eq!(stage.act(&id, "stop", json!({})).status, 200);
    stage.world.fault_once(|seen| seen.path.ends_with("/rollback"), Fault::Dies);
    assert!(stage.try_ask(Ask::rollback(&id, &snapshot)).is_none());
    stage.world.advance(Duration::minutes(5));
    for _ in 0..2 {
        stage.ask(Ask::gc());
        assert_eq!(stage.ask(Ask::one(&id)).state(), "stopped", "{}", stage.told());
    }
    assert_eq!((stage.memory(&id), rollbacks(&stage)), (None, 0));
}
