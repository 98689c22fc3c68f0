//! Sandboxes of both kinds whose time is up are deleted, stopped or paused, and in the end gone.

use crate::stage::prelude::*;

#[test]
fn what_has_expired_is_swept() {
    for (on_expiry, state) in [("delete", ""), ("stop", "stopped"), ("pause", "paused")] {
        let stage = Stage::of_vms();
        let id = stage.created(json!({"ttlSeconds": 60, "onExpiry": on_expiry}));
        stage.world.advance(Duration::seconds(61));
        for _ in 0..3 {
            let swept = stage.ask(Ask::gc());
            assert_eq!(swept.status, 200, "{swept:?}");
            stage.world.advance(Duration::seconds(61));
            stage.world.settle();
        }
        let shown = stage.ask(Ask::one(&id));
        let guest = stage.world.sim().guest(vmid_of(&id)).cloned();
        assert!(guest.as_ref().is_none_or(|guest| guest.run.is_none()), "{on_expiry}\n{}", stage.told());
        match state {
            "" => assert!(shown.status == 404 && guest.is_none(), "{shown:?}\n{}", stage.told()),
            state => assert_eq!((shown.status, &*shown.state()), (200, state), "{shown:?}"),
        }
        if on_expiry == "pause" {
            assert_eq!(
                guest.and_then(|guest| guest.config.lock().map(str::to_owned)).as_deref(),
                Some("suspended")
            );
        }
    }
}

/// What is not taken back in time goes, memory and all.
#[test]
fn a_paused_one_is_not_kept_for_ever() {
    let stage = Stage::of_vms();
    let id = stage.created(json!({}));
    stage.act(&id, "pause", json!({"keeps": "memory"}));
    stage.world.advance(Duration::days(6));
    assert_eq!(stage.ask(Ask::gc()).status, 200);
    assert_eq!(stage.ask(Ask::one(&id)).state(), "paused");
    for _ in 0..6 {
        stage.world.advance(Duration::days(8));
        stage.ask(Ask::gc());
        stage.world.settle();
    }
    assert_eq!(stage.world.sim().guests().count(), 1, "{}", stage.told());
}

#[test]
fn the_sweep_suspends_and_in_the_end_deletes() {
    for wait in [60, 600] {
        let stage = Stage::of_vms();
        let id = stage.created(json!({"ttlSeconds": wait, "onExpiry": "pause"}));
        stage.world.advance(Duration::seconds(wait + 1));
        let gc = || {
            let answer = stage.ask(Ask::gc());
            stage.world.advance(Duration::seconds(61));
            answer.json()["actions"].clone()
        };
        assert_eq!(gc()[0]["action"], "pause");
        assert_eq!(stage.config(&id, "lock"), "suspended", "{}", stage.told());
        assert_eq!(gc(), json!([]));
        assert_eq!(stage.ask(Ask::one(&id)).state(), "paused");
        stage.world.advance(Duration::days(7));
        for _ in 0..5 {
            gc();
        }
        assert!(!stage.exists(&id), "{}", stage.told());
    }
}

#[test]
fn the_sweep_leaves_other_vms_alone() {
    let mut sim = sim_of(Kind::Qemu, Setup::default());
    sim.add(Spec::vm(200_050).description("somebody's").running());
    sim.add(Spec::vm(200_051).tags("pe1.other").running());
    let before = sim.snapshot_of(|_| true);
    let stage = Stage::of_kind(Kind::Qemu, World::new(sim, 7), &[]);
    for _ in 0..3 {
        stage.world.advance(Duration::minutes(20));
        stage.ask(Ask::gc());
    }
    assert_eq!(stage.world.sim().snapshot_of(|_| true), before);
}

#[test]
fn a_sweep_that_dies_before_the_shutdown_leaves_it_to_the_next() {
    for fault in [Fault::NeverSent, Fault::Dies] {
        let stage = Stage::new();
        let id = stage.created(json!({"ttlSeconds": 60, "onExpiry": "stop"}));
        stage.world.advance(Duration::seconds(61));
        stage.world.fault_once(|seen| seen.path.ends_with("/status/shutdown"), fault);
        stage.try_ask(Ask::gc());
        assert!(stage.runs(&id));
        stage.world.advance(Duration::minutes(1));
        stage.sweep();
        stage.world.settle();
        assert!(stage.exists(&id) && !stage.runs(&id), "{}", stage.told());
    }
}
