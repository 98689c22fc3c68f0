//! Requests that PVE executes long after their caller gave up.

use crate::stage::prelude::*;

const LATE: std::time::Duration = std::time::Duration::from_secs(40);

/// A keyed sandbox whose first DELETE is on its way for 40 s.
fn with_a_late_delete(kind: Kind) -> (Stage, String) {
    let stage = Stage::with(kind);
    let id = stage.ask(Ask::create_keyed("k")).id();
    stage.world.fault_once(|seen| seen.method == "DELETE", Fault::Late(LATE));
    (stage, id)
}

/// The same key draws the same VMID: the DELETE was meant for the guest before.
#[test]
fn a_late_delete_does_not_meet_the_next_guest_of_the_vmid() {
    for kind in BOTH {
        let (stage, id) = with_a_late_delete(kind);
        assert_eq!(stage.ask(Ask::end(&id)).status, 204);
        let next = stage.ask(Ask::create_keyed("k"));
        assert_eq!((next.status, vmid_of(&next.id())), (201, vmid_of(&id)));
        assert_ne!(next.id(), id);
        stage.world.advance(Duration::minutes(2));
        let shown = stage.ask(Ask::one(&next.id()));
        assert_eq!(shown.shows(), "200 running", "{}", stage.told());
        assert_eq!(stage.ask(Ask::one(&id)).status, 404);
    }
}

/// Its owner heard of no deletion, thought again, and was granted more time.
#[test]
fn a_late_delete_does_not_undo_an_extend() {
    for kind in BOTH {
        let (stage, id) = with_a_late_delete(kind);
        // The second DELETE fails too, so that the owner is told of a failure.
        stage
            .world
            .fault_once(|seen| seen.method == "DELETE" && seen.index > 0, Fault::Refused(500, "x".into()));
        let answer = stage.ask(Ask::end(&id));
        assert!(answer.status >= 500, "{answer:?}");
        let extended = stage.ask(Ask::extend(&id, 9000));
        if kind == Kind::Qemu {
            // It takes more than one step to destroy a VM, and the first has condemned it.
            assert_eq!(extended.refusal(), "409 condemned", "{extended:?}");
            continue;
        }
        assert_eq!(extended.status, 200, "{extended:?}");
        stage.world.advance(Duration::minutes(2));
        let shown = stage.ask(Ask::one(&id));
        assert_eq!(shown.shows(), "200 running", "{}", stage.told());
    }
}

/// The clone that was repeated made the sandbox; the first one comes after its end.
#[test]
fn a_late_clone_brings_nothing_back() {
    for kind in BOTH {
        let stage = Stage::with(kind);
        stage.world.fault_once(|seen| seen.path.ends_with("/clone"), Fault::Late(LATE));
        let answer = stage.ask(Ask::create());
        assert_eq!(answer.status, 201, "{answer:?}");
        let id = answer.id();
        assert_eq!(stage.ask(Ask::end(&id)).status, 204);
        for _ in 0..60 {
            stage.world.advance(Duration::seconds(2));
            let shown = stage.ask(Ask::one(&id));
            assert!(shown.status == 404 || shown.state() != "running", "{shown:?}\n{}", stage.told());
        }
        assert_eq!(stage.ask(Ask::one(&id)).status, 404);
        // What the late clone made is half-made and carries our intent: the sweep's work.
        let sim = stage.world.sim();
        let guest = sim.guest(vmid_of(&id)).expect("the late clone's guest");
        assert!(
            guest.run.is_none()
                && crate::stage::guests::committed(guest).is_none()
                && crate::stage::guests::mark(guest).is_some()
        );
    }
}

/// Nor does the same key go on with what the late clone made.
#[test]
fn a_late_clone_is_not_what_its_key_makes_next() {
    for kind in BOTH {
        let stage = Stage::with(kind);
        stage.world.fault_once(|seen| seen.path.ends_with("/clone"), Fault::Late(LATE));
        let first = stage.ask(Ask::create_keyed("k"));
        assert_eq!((first.status, stage.ask(Ask::end(&first.id())).status), (201, 204));
        stage.world.advance(Duration::minutes(1));
        let next = stage.ask(Ask::create_keyed("k"));
        assert_eq!(next.status, 201, "{next:?}\n{}", stage.told());
        assert_ne!(next.id(), first.id());
        assert_eq!(stage.ask(Ask::one(&first.id())).status, 404);
    }
}

/// A PUT that is executed late has a digest that is not true any more.
#[test]
fn a_late_extend_does_not_undo_a_later_one() {
    for kind in BOTH {
        let stage = Stage::with(kind);
        let id = stage.ask(Ask::create()).id();
        stage.world.fault_once(|seen| seen.method == "PUT", Fault::Late(LATE));
        stage.ask(Ask::extend(&id, 60));
        let expires = stage.ask(Ask::extend(&id, 9000)).json()["expiresAt"].clone();
        stage.world.advance(Duration::minutes(2));
        assert_eq!(stage.ask(Ask::one(&id)).json()["expiresAt"], expires);
    }
}

/// PVE suspends long after its caller gave up: what is paused by that is kept as long as any other.
#[test]
fn a_late_suspension_holds_as_long_as_any() {
    for resumed in [false, true] {
        let stage = Stage::of_vms();
        let id = stage.created(json!({"ttlSeconds": 600}));
        let late = Fault::Late(LATE);
        stage.world.fault_once(|seen| seen.path.ends_with("/suspend"), late);
        let answer = stage.act(&id, "pause", json!({}));
        assert!(answer.status >= 500, "{answer:?}");
        if resumed {
            assert_eq!(stage.act(&id, "resume", json!({"ttlSeconds": 600})).state(), "running");
        }
        stage.world.advance(Duration::minutes(1));
        assert_eq!(stage.ask(Ask::one(&id)).state(), "paused", "{}", stage.told());
        let again = stage.act(&id, "pause", json!({}));
        assert_eq!(again.shows(), "200 paused", "{again:?}\n{}", stage.told());
        stage.world.advance(Duration::days(1));
        for _ in 0..3 {
            stage.sweep();
            stage.world.advance(Duration::minutes(2));
        }
        assert_eq!(stage.ask(Ask::one(&id)).state(), "paused", "{}", stage.told());
        assert_eq!(stage.act(&id, "resume", json!({})).state(), "running");
    }
}
