//! Power: idempotent, told truly, and never undone by a read.

mod suspended;

use crate::stage::prelude::*;

#[test]
fn stop_start_and_reboot_are_told_truly_and_repeat_nothing() {
    for kind in BOTH {
        let stage = Stage::with(kind);
        let id = stage.created(json!({}));
        let first = stage.memory(&id);
        assert_eq!(stage.act(&id, "stop", json!({})).outcome(), "200 stopped stopped");
        assert_eq!(stage.act(&id, "stop", json!({"force": true})).outcome(), "200 nothing stopped");
        assert_eq!(stage.ask(Ask::exec(&id, "true")).refusal(), "409 not-running");
        assert_eq!(stage.act(&id, "reboot", json!({})).refusal(), "409 not-running");
        assert_eq!(stage.act(&id, "start", json!({})).outcome(), "200 started running");
        assert_eq!(stage.act(&id, "start", json!({})).outcome(), "200 nothing running");
        let second = stage.memory(&id);
        assert!(second.is_some() && second != first, "{kind:?}");
        assert_eq!(stage.ask(Ask::exec(&id, "true")).status, 200);
        assert_eq!(stage.act(&id, "reboot", json!({})).outcome(), "200 rebooted running");
        stage.world.settle();
        let third = stage.memory(&id);
        assert!(third.is_some() && third != second, "{kind:?}\n{}", stage.told());
        assert_eq!(stage.ask(Ask::exec(&id, "true")).status, 200);
    }
}

#[test]
fn what_was_stopped_is_never_started_by_a_read() {
    for kind in BOTH {
        let stage = Stage::with(kind);
        let id = stage.created(json!({}));
        stage.act(&id, "stop", json!({}));
        for _ in 0..3 {
            assert_eq!(stage.ask(Ask::one(&id)).state(), "stopped");
            stage.ask(Ask::get("/api/sandboxes"));
            stage.ask(Ask::gc());
            stage.world.advance(Duration::minutes(1));
        }
        assert!(!stage.runs(&id));
    }
}

#[test]
fn a_guest_that_stopped_by_itself_is_stopped_and_stays_so() {
    for kind in BOTH {
        let stage = Stage::with(kind);
        let id = stage.created(json!({}));
        stage.world.advance(Duration::minutes(11));
        stage.world.sim_mut().set_running(vmid_of(&id), false);
        assert_eq!(stage.ask(Ask::one(&id)).state(), "stopped");
        assert!(!stage.runs(&id));
    }
}

#[test]
fn pause_says_what_it_keeps_and_resume_restarts_the_ttl() {
    let stage = Stage::new();
    let id = stage.created(json!({"ttlSeconds": 600}));
    let paused = stage.act(&id, "pause", json!({}));
    assert_eq!(paused.outcome(), "200 paused paused");
    assert_eq!(paused.json()["keeps"], "disk");
    assert_eq!(stage.act(&id, "pause", json!({"keeps": "disk"})).outcome(), "200 nothing paused");
    let refused = stage.ask(Ask::exec(&id, "true"));
    assert_eq!(refused.refusal(), "409 not-running");
    assert!(refused.body.contains("is paused: resume it first"), "{refused:?}");
    // A paused sandbox does not run out of its own time.
    stage.world.advance(Duration::days(1));
    assert_eq!(stage.ask(Ask::one(&id)).state(), "paused");
    let resumed = stage.act(&id, "resume", json!({"ttlSeconds": 900}));
    assert_eq!(resumed.outcome(), "200 started running");
    stage.world.advance(Duration::seconds(901));
    assert_eq!(stage.ask(Ask::one(&id)).status, 404);
}

#[test]
fn memory_is_kept_where_it_can_be_proved_and_refused_elsewhere() {
    let stage = Stage::new();
    let id = stage.created(json!({}));
    let refused = stage.act(&id, "pause", json!({"keeps": "memory"}));
    assert_eq!(refused.refusal(), "422 unsupported");
    assert!(stage.runs(&id));
    // PVE's checkpoint fails without criu: nothing is paused, and the answer says so.
    let criu = stage.beside("", &[("PVE_LXC_CRIU", "true")]);
    let failed = criu.act(&id, "pause", json!({"keeps": "memory"}));
    assert_eq!(failed.refusal(), "422 unsupported", "{failed:?}");
    assert_eq!(stage.ask(Ask::one(&id)).state(), "running");
}

#[test]
fn power_on_old_pves_keeps_the_exec_token() {
    let setup = Setup { version: Version::V8, ..Setup::default() };
    let mut sim = Sim::new(setup);
    sim.add(Spec::template(TEMPLATE).tags(SNAPSHOT).set("hookscript", "local:snippets/hook.sh"));
    echo(&mut sim);
    let stage = Stage::on(sim);
    let id = stage.created(json!({}));
    stage.act(&id, "stop", json!({}));
    assert_eq!(stage.act(&id, "start", json!({})).outcome(), "200 started running");
    assert_eq!(stage.ask(Ask::exec(&id, "true")).status, 200);
}

#[test]
fn others_have_no_power_over_it() {
    for kind in BOTH {
        let stage = Stage::with(kind);
        let id = stage.created(json!({}));
        for action in ["start", "stop", "reboot", "pause", "resume"] {
            let ask = Ask::act(&id, action, json!({})).by("red");
            assert_eq!(stage.ask(ask).status, 404, "{action}");
        }
        assert!(stage.runs(&id));
    }
}

#[test]
fn a_locked_guest_is_409_and_untouched() {
    for kind in BOTH {
        let stage = Stage::with(kind);
        let id = stage.created(json!({}));
        stage.world.sim_mut().set_lock(vmid_of(&id), Some("backup"));
        for action in ["start", "stop", "reboot", "pause", "resume"] {
            let answer = stage.act(&id, action, json!({}));
            assert_eq!(answer.refusal(), "409 guest-locked", "{action}");
            assert_eq!(answer.json()["lock"], "backup");
        }
        assert!(stage.runs(&id));
    }
}

#[test]
fn bad_input_is_told_by_field() {
    let stage = Stage::new();
    let id = stage.created(json!({}));
    for (action, body, field) in [
        ("stop", json!({"timeoutSeconds": 0}), "timeoutSeconds"),
        ("stop", json!({"now": true}), "now"),
        ("pause", json!({"keeps": "everything"}), "keeps"),
        ("start", json!({"ttlSeconds": 0}), "ttlSeconds"),
    ] {
        let answer = stage.act(&id, action, body);
        assert_eq!(answer.status, 400, "{answer:?}");
        assert_eq!(answer.json()["errors"][0]["field"], field, "{answer:?}");
    }
}

/// Whoever dies on the way leaves a sandbox that the same request brings to its end.
fn every_request_may_fail(kind: Kind, cases: &[(&str, &str, bool)]) {
    for (from, action, running) in cases {
        let late = Fault::Late(std::time::Duration::from_secs(40));
        for fault in [Fault::NeverSent, Fault::Unanswered, late, Fault::Dies, Fault::DiesAfter] {
            for index in 0..8 {
                let world = World::new(sim_of(kind, Setup::default()), index);
                let stage = Stage::of_kind(kind, world, &[]);
                let id = stage.created(json!({}));
                stage.act(&id, from, json!({}));
                stage.world.advance(Duration::minutes(1));
                let at = stage.world.requests().len() + usize::try_from(index).unwrap();
                stage.world.fault_at(at, fault.clone());
                stage.try_ask(Ask::act(&id, action, json!({})));
                stage.world.clear_faults();
                stage.world.settle();
                let again = stage.act(&id, action, json!({}));
                let told = format!("{kind:?} {action} {fault:?} at {index}");
                assert_eq!(again.status, 200, "{told}: {again:?}\n{}", stage.told());
                assert_eq!(stage.runs(&id), *running, "{told}");
            }
        }
    }
}

#[test]
fn every_request_of_stop_and_start_may_fail() {
    let cases = [("start", "stop", false), ("stop", "start", true), ("start", "pause", false)];
    every_request_may_fail(Kind::Lxc, &cases);
    every_request_may_fail(Kind::Qemu, &cases);
}

#[test]
fn every_request_of_waking_a_suspended_vm_may_fail() {
    every_request_may_fail(Kind::Qemu, &[("pause", "resume", true), ("pause", "start", true)]);
}

/// Two power actions at once: the second is asked to come back.
#[test]
fn a_reboot_beside_a_stop_is_locked_out_and_not_failed() {
    for kind in BOTH {
        let stage = Stage::with(kind);
        let id = stage.created(json!({}));
        stage.world.sim_mut().setup_mut().stop_secs = Duration::seconds(40);
        let stop = Ask::act(&id, "stop", json!({"timeoutSeconds": 60}));
        let handle = stage.world.spawn(stage.pending(stop));
        stage.world.advance(Duration::seconds(2));
        let second = stage.beside("b", &[]).act(&id, "reboot", json!({}));
        assert_eq!(second.refusal(), "409 guest-locked", "{second:?}\n{}", stage.told());
        assert!(second.retry_after().is_some());
        stage.world.advance(Duration::minutes(2));
        drop(handle);
        assert_eq!(stage.act(&id, "stop", json!({})).state(), "stopped");
    }
}
