//! Power: idempotent, told truly, and never undone by a read.

use pve_edge_tests::{
    sim::{Kind, Setup, Sim},
    world::{Fault, World},
};
use serde_json::{Value, json};
use time::Duration;

use crate::stage::{Answer, Ask, Stage, sim_of, vmid_of};

fn created(stage: &Stage, body: Value) -> String {
    let answer = stage.ask(Ask::post("/api/sandboxes", body));
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.id()
}

fn act(stage: &Stage, id: &str, action: &str, body: Value) -> Answer {
    stage.ask(Ask::post(format!("/api/sandboxes/{id}/{action}"), body))
}

fn told(answer: &Answer) -> (u16, String, String) {
    let did = answer.json()["did"].as_str().unwrap_or_default().to_owned();
    (answer.status, did, answer.state())
}

fn is_running(stage: &Stage, id: &str) -> bool {
    stage.world.sim().guest(vmid_of(id)).unwrap().run.is_some()
}

fn outcome(status: u16, did: &str, state: &str) -> (u16, String, String) {
    (status, did.to_owned(), state.to_owned())
}

#[test]
fn stop_and_start_are_idempotent() {
    let stage = Stage::new();
    let id = created(&stage, json!({}));
    assert_eq!(told(&act(&stage, &id, "stop", json!({}))), outcome(200, "stopped", "stopped"));
    assert_eq!(told(&act(&stage, &id, "stop", json!({"force": true}))), outcome(200, "nothing", "stopped"));
    let exec = stage.ask(Ask::exec(&id, "true"));
    assert_eq!((exec.status, exec.code()), (409, "not-running".into()));
    assert_eq!(told(&act(&stage, &id, "start", json!({}))), outcome(200, "started", "running"));
    assert_eq!(told(&act(&stage, &id, "start", json!({}))), outcome(200, "nothing", "running"));
    assert_eq!(stage.ask(Ask::exec(&id, "true")).status, 200);
}

#[test]
fn what_was_stopped_is_never_started_by_a_read() {
    let stage = Stage::new();
    let id = created(&stage, json!({}));
    act(&stage, &id, "stop", json!({}));
    for _ in 0..3 {
        assert_eq!(stage.ask(Ask::one(&id)).state(), "stopped");
        stage.ask(Ask::get("/api/sandboxes"));
        stage.ask(Ask::post("/api/gc", json!({})).by("ops"));
        stage.world.advance(Duration::minutes(1));
    }
    assert!(!is_running(&stage, &id));
}

#[test]
fn a_guest_that_stopped_by_itself_is_stopped_and_stays_so() {
    let stage = Stage::new();
    let id = created(&stage, json!({}));
    stage.world.advance(Duration::minutes(11));
    stage.world.sim_mut().set_running(vmid_of(&id), false);
    assert_eq!(stage.ask(Ask::one(&id)).state(), "stopped");
    assert!(!is_running(&stage, &id));
}

#[test]
fn reboot_ends_with_a_ready_sandbox_and_starts_nothing() {
    let stage = Stage::new();
    let id = created(&stage, json!({}));
    assert_eq!(told(&act(&stage, &id, "reboot", json!({}))), outcome(200, "rebooted", "running"));
    act(&stage, &id, "stop", json!({}));
    let refused = act(&stage, &id, "reboot", json!({}));
    assert_eq!((refused.status, refused.code()), (409, "not-running".into()));
}

#[test]
fn pause_says_what_it_keeps_and_resume_restarts_the_ttl() {
    let stage = Stage::new();
    let id = created(&stage, json!({"ttlSeconds": 600}));
    let paused = act(&stage, &id, "pause", json!({}));
    assert_eq!(told(&paused), outcome(200, "paused", "paused"));
    assert_eq!(paused.json()["keeps"], "disk");
    assert_eq!(told(&act(&stage, &id, "pause", json!({"keeps": "disk"}))), outcome(200, "nothing", "paused"));
    let refused = stage.ask(Ask::exec(&id, "true"));
    assert_eq!((refused.status, refused.code()), (409, "not-running".into()));
    assert!(refused.body.contains("is paused: resume it first"), "{refused:?}");
    // A paused sandbox does not run out of its own time.
    stage.world.advance(Duration::days(1));
    assert_eq!(stage.ask(Ask::one(&id)).state(), "paused");
    let resumed = act(&stage, &id, "resume", json!({"ttlSeconds": 900}));
    assert_eq!(told(&resumed), outcome(200, "started", "running"));
    stage.world.advance(Duration::seconds(901));
    assert_eq!(stage.ask(Ask::one(&id)).status, 404);
}

#[test]
fn memory_is_kept_where_it_can_be_proved_and_refused_elsewhere() {
    let stage = Stage::new();
    let id = created(&stage, json!({}));
    let refused = act(&stage, &id, "pause", json!({"keeps": "memory"}));
    assert_eq!((refused.status, refused.code()), (422, "unsupported".into()));
    assert!(is_running(&stage, &id));
    // PVE's checkpoint fails without criu: nothing is paused, and the answer says so.
    let criu = stage.beside("", &[("PVE_LXC_CRIU", "true")]);
    let failed = act(&criu, &id, "pause", json!({"keeps": "memory"}));
    assert_eq!((failed.status, failed.code()), (422, "unsupported".into()), "{failed:?}");
    assert_eq!(stage.ask(Ask::one(&id)).state(), "running");
}

#[test]
fn power_on_old_pves_keeps_the_exec_token() {
    let setup = Setup { version: pve_edge_tests::sim::Version::V8, ..Setup::default() };
    let mut sim = Sim::new(setup);
    sim.add(
        pve_edge_tests::sim::Spec::template(crate::stage::TEMPLATE)
            .tags(crate::stage::SNAPSHOT)
            .set("hookscript", "local:snippets/hook.sh"),
    );
    crate::stage::echo(&mut sim);
    let stage = Stage::on(sim);
    let id = created(&stage, json!({}));
    act(&stage, &id, "stop", json!({}));
    assert_eq!(told(&act(&stage, &id, "start", json!({}))), outcome(200, "started", "running"));
    assert_eq!(stage.ask(Ask::exec(&id, "true")).status, 200);
}

#[test]
fn others_have_no_power_over_it() {
    let stage = Stage::new();
    let id = created(&stage, json!({}));
    for action in ["start", "stop", "reboot", "pause", "resume"] {
        let ask = Ask::post(format!("/api/sandboxes/{id}/{action}"), json!({})).by("red");
        assert_eq!(stage.ask(ask).status, 404, "{action}");
    }
    assert!(is_running(&stage, &id));
}

#[test]
fn a_locked_guest_is_409_and_untouched() {
    let stage = Stage::new();
    let id = created(&stage, json!({}));
    stage.world.sim_mut().set_lock(vmid_of(&id), Some("backup"));
    for action in ["start", "stop", "reboot", "pause", "resume"] {
        let answer = act(&stage, &id, action, json!({}));
        assert_eq!((answer.status, answer.code()), (409, "guest-locked".into()), "{action}");
        assert_eq!(answer.json()["lock"], "backup");
    }
    assert!(is_running(&stage, &id));
}

#[test]
fn bad_input_is_told_by_field() {
    let stage = Stage::new();
    let id = created(&stage, json!({}));
    for (action, body, field) in [
        ("stop", json!({"timeoutSeconds": 0}), "timeoutSeconds"),
        ("stop", json!({"now": true}), "now"),
        ("pause", json!({"keeps": "everything"}), "keeps"),
        ("start", json!({"ttlSeconds": 0}), "ttlSeconds"),
    ] {
        let answer = act(&stage, &id, action, body);
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
                let id = created(&stage, json!({}));
                act(&stage, &id, from, json!({}));
                stage.world.advance(Duration::minutes(1));
                let at = stage.world.requests().len() + usize::try_from(index).unwrap();
                stage.world.fault_at(at, fault.clone());
                stage.try_ask(Ask::post(format!("/api/sandboxes/{id}/{action}"), json!({})));
                stage.world.clear_faults();
                stage.world.settle();
                let again = act(&stage, &id, action, json!({}));
                let told = format!("{kind:?} {action} {fault:?} at {index}");
                assert_eq!(again.status, 200, "{told}: {again:?}\n{}", stage.told());
                assert_eq!(is_running(&stage, &id), *running, "{told}");
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
