//! Virtual machines behind the same API: the same words, the same states, and
//! what only they can.

use pve_edge_tests::{sim::Spec, world::Fault};
use serde_json::{Value, json};
use time::Duration;

use crate::stage::{Answer, Ask, SNAPSHOT, Stage, vmid_of};

fn created(stage: &Stage, body: Value) -> String {
    let answer = stage.ask(Ask::post("/api/sandboxes", body));
    assert_eq!(answer.status, 201, "{answer:?}\n{}", stage.told());
    answer.id()
}

fn act(stage: &Stage, id: &str, action: &str, body: Value) -> Answer {
    stage.ask(Ask::post(format!("/api/sandboxes/{id}/{action}"), body))
}

fn config(stage: &Stage, id: &str, name: &str) -> String {
    let sim = stage.world.sim();
    sim.guest(vmid_of(id)).and_then(|it| it.config.get(name).map(str::to_owned)).unwrap_or_default()
}

fn is_gone(stage: &Stage, id: &str) -> bool {
    stage.world.sim().guest(vmid_of(id)).is_none()
}

/// Long enough that no request of before is executed any more.
fn settle(stage: &Stage) {
    stage.world.advance(Duration::seconds(120));
}

#[test]
fn a_vm_is_made_read_listed_and_deleted() {
    let stage = Stage::of_vms();
    let id = created(&stage, json!({"name": "build", "metadata": {"k": "v"}}));
    assert!(id.starts_with("pvevm-"), "{id}");
    let one = stage.ask(Ask::one(&id)).json();
    assert_eq!((&one["provider"], &one["state"]), (&json!("pve-vm"), &json!("running")));
    assert_eq!(one["snapshotId"], SNAPSHOT.replace("pvelxc", "pvevm"));
    let all = stage.ask(Ask::get("/api/sandboxes?metadata.k=v")).json();
    assert_eq!(all["items"][0]["id"], id);
    assert_eq!(config(&stage, &id, "protection"), "1");
    assert_eq!(config(&stage, &id, "name"), format!("vm-{}", vmid_of(&id)));
    assert_eq!(stage.ask(Ask::end(&id)).status, 204);
    assert!(is_gone(&stage, &id));
    assert_eq!(stage.ask(Ask::one(&id)).status, 404);
}

#[test]
fn a_command_runs_by_the_guest_agent() {
    let stage = Stage::of_vms();
    let id = created(&stage, json!({}));
    let answer = stage.ask(Ask::exec(&id, "grün"));
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json(), json!({"exitCode": 0, "stdout": "grün\n", "stderr": "", "timedOut": false}));
    let stream = stage.ask(Ask::exec(&id, "true").header("accept", "text/event-stream"));
    assert_eq!(
        stream.body,
        "event: stdout\ndata: {\"data\":\"true\\n\"}\n\nevent: exit\ndata: {\"exitCode\":0,\"timedOut\":false}\n\n"
    );
}

#[test]
fn a_command_is_never_sent_twice() {
    for fault in [Fault::Unanswered, Fault::Silent, Fault::CutBody(0), Fault::Refused(596, String::new())] {
        let stage = Stage::of_vms();
        let id = created(&stage, json!({}));
        let before = stage.world.requests().len();
        stage.ask(Ask::exec(&id, "true"));
        let sent = |from: usize| {
            let requests = stage.world.requests();
            let at = requests.iter().skip(from).position(|it| it.path.ends_with("/agent/exec"));
            (
                at.unwrap() + from,
                requests.iter().skip(from).filter(|it| it.path.ends_with("/agent/exec")).count(),
            )
        };
        let nth = sent(before).0 - before;
        let now = stage.world.requests().len();
        stage.world.fault_at(now + nth, fault.clone());
        let answer = stage.ask(Ask::exec(&id, "true"));
        assert_eq!((answer.status, answer.code()), (502, "exec-cut".into()), "{fault:?}");
        assert_eq!(sent(now).1, 1, "{fault:?}");
    }
}

#[test]
fn a_pause_keeps_the_memory_and_a_start_goes_on() {
    let stage = Stage::of_vms();
    let id = created(&stage, json!({"ttlSeconds": 600}));
    settle(&stage);
    let paused = act(&stage, &id, "pause", json!({}));
    assert_eq!((paused.status, paused.json()["keeps"].as_str()), (200, Some("memory")), "{}", stage.told());
    assert_eq!(paused.state(), "paused");
    assert_eq!(
        (config(&stage, &id, "lock"), config(&stage, &id, "protection")),
        ("suspended".into(), "0".into())
    );
    let again = act(&stage, &id, "pause", json!({}));
    assert_eq!((again.status, again.json()["did"].as_str()), (200, Some("nothing")));
    for refused in [Ask::extend(&id, 60), Ask::patch(format!("/api/sandboxes/{id}"), json!({"name": "x"}))] {
        let answer = stage.ask(refused);
        assert_eq!((answer.status, answer.code()), (409, "suspended".into()));
    }
    assert_eq!(act(&stage, &id, "stop", json!({})).code(), "suspended");
    stage.world.advance(Duration::days(1));
    assert_eq!(stage.ask(Ask::one(&id)).state(), "paused");
    let resumed = act(&stage, &id, "resume", json!({"ttlSeconds": 900}));
    assert_eq!((resumed.status, resumed.json()["did"].as_str()), (200, Some("resumed")), "{resumed:?}");
    assert_eq!((resumed.state(), config(&stage, &id, "protection")), ("running".into(), "1".into()));
    stage.world.advance(Duration::seconds(901));
    assert_eq!(stage.ask(Ask::one(&id)).status, 404);
}

#[test]
fn a_suspended_vm_can_be_deleted_whenever_it_was_suspended() {
    for wait in [0, 120] {
        let stage = Stage::of_vms();
        let id = created(&stage, json!({}));
        stage.world.advance(Duration::seconds(wait));
        assert_eq!(act(&stage, &id, "pause", json!({})).status, 200);
        assert_eq!(config(&stage, &id, "protection"), if wait == 0 { "1" } else { "0" });
        let answer = stage.ask(Ask::end(&id).header("prefer", "wait=25"));
        assert_eq!(answer.status, 204, "{wait}: {answer:?}\n{}", stage.told());
        assert!(is_gone(&stage, &id));
    }
}

#[test]
fn the_sweep_suspends_and_in_the_end_deletes() {
    for wait in [60, 600] {
        let stage = Stage::of_vms();
        let id = created(&stage, json!({"ttlSeconds": wait, "onExpiry": "pause"}));
        stage.world.advance(Duration::seconds(wait + 1));
        let gc = || {
            let answer = stage.ask(Ask::post("/api/gc", json!({})).by("ops"));
            stage.world.advance(Duration::seconds(61));
            answer.json()["actions"].clone()
        };
        assert_eq!(gc()[0]["action"], "pause");
        assert_eq!(config(&stage, &id, "lock"), "suspended", "{}", stage.told());
        assert_eq!(gc(), json!([]));
        assert_eq!(stage.ask(Ask::one(&id)).state(), "paused");
        stage.world.advance(Duration::days(7));
        for _ in 0..5 {
            gc();
        }
        assert!(is_gone(&stage, &id), "{}", stage.told());
    }
}

fn dies(stage: &Stage, id: &str, action: &str, nth: usize, fault: Fault) {
    stage.world.fault_at(stage.world.requests().len() + nth, fault);
    assert!(stage.try_ask(Ask::post(format!("/api/sandboxes/{id}/{action}"), json!({}))).is_none());
    settle(stage);
}

fn swept(stage: &Stage) -> Value {
    stage.ask(Ask::post("/api/gc", json!({})).by("ops")).json()["actions"].clone()
}

#[test]
fn who_dies_after_a_resume_leaves_a_sandbox_that_expires() {
    for on_expiry in ["delete", "pause"] {
        let stage = Stage::of_vms();
        let id = created(&stage, json!({"ttlSeconds": 600, "onExpiry": on_expiry}));
        settle(&stage);
        assert_eq!(act(&stage, &id, "pause", json!({})).status, 200);
        stage.world.advance(Duration::hours(1));
        // Its config, its start.
        dies(&stage, &id, "resume", 1, Fault::DiesAfter);
        assert_eq!(config(&stage, &id, "lock"), "");
        assert_eq!(swept(&stage)[0]["action"], "finish", "{}", stage.told());
        assert_eq!(swept(&stage), json!([]));
        assert_eq!(config(&stage, &id, "protection"), "1");
        stage.world.advance(Duration::minutes(61));
        let now = stage.ask(Ask::one(&id));
        assert!(now.status == 404 || now.state() == "paused", "{now:?}");
    }
}

#[test]
fn who_dies_before_a_suspension_loses_nothing() {
    let stage = Stage::of_vms();
    let id = created(&stage, json!({"ttlSeconds": 600}));
    settle(&stage);
    // Config and status, config and what shall be, the suspension.
    dies(&stage, &id, "pause", 4, Fault::Dies);
    assert_eq!(swept(&stage), json!([]));
    stage.world.advance(Duration::minutes(5));
    assert_eq!(stage.ask(Ask::one(&id)).state(), "running");
    let memory = stage.world.sim().guest(vmid_of(&id)).and_then(|it| it.run.as_ref().map(|run| run.memory));
    // Its time is up: what was meant is done, with its memory.
    stage.world.advance(Duration::minutes(6));
    assert_eq!(swept(&stage)[0]["action"], "pause", "{}", stage.told());
    settle(&stage);
    assert_eq!(
        (config(&stage, &id, "lock"), stage.ask(Ask::one(&id)).state()),
        ("suspended".into(), "paused".into())
    );
    assert_eq!(act(&stage, &id, "resume", json!({})).state(), "running");
    assert_eq!(
        stage.world.sim().guest(vmid_of(&id)).and_then(|it| it.run.as_ref().map(|run| run.memory)),
        memory
    );
}

#[test]
fn without_an_agent_it_is_told_what_the_template_lacks() {
    let stage = Stage::of_vms();
    let tags = SNAPSHOT.replace("pvelxc_1vcpu", "pvevm_0vcpu");
    let lacking = Spec::vm_template(9101).tags(&tags).set("agent", "0");
    stage.world.sim_mut().add(lacking);
    let answer = stage.ask(Ask::post("/api/sandboxes", json!({"templateVmid": 9101})));
    assert_eq!((answer.status, answer.code()), (502, "guest-agent-missing".into()), "{answer:?}");
}

#[test]
fn a_snapshot_of_a_vm_makes_vms() {
    let stage = Stage::of_vms();
    let id = created(&stage, json!({}));
    let taken = stage.ask(Ask::post(format!("/api/sandboxes/{id}/snapshots"), json!({})));
    assert_eq!(taken.status, 201, "{taken:?}\n{}", stage.told());
    let snapshot = taken.json()["snapshotId"].as_str().unwrap().to_owned();
    assert!(snapshot.starts_with("pvevm-"), "{snapshot}");
    let other = created(&stage, json!({"snapshotId": snapshot}));
    assert!(other.starts_with("pvevm-") && other != id);
}

#[test]
fn both_kinds_are_served_whatever_is_made_by_default() {
    let stage = Stage::of_vms();
    let template = Spec::template(crate::stage::TEMPLATE).tags(SNAPSHOT);
    stage.world.sim_mut().add(template);
    let vm = created(&stage, json!({}));
    let container = created(&stage, json!({"snapshotId": SNAPSHOT}));
    assert!(vm.starts_with("pvevm-") && container.starts_with("pvelxc-"), "{vm} {container}");
    let presets = stage.ask(Ask::get("/api/config/sandbox")).json();
    assert_eq!(presets["presets"].as_array().unwrap().len(), 1);
    assert_eq!(presets["presets"][0]["versions"][0]["snapshotId"], SNAPSHOT.replace("pvelxc", "pvevm"));
    assert_eq!(
        (&presets["provider"], &presets["capabilities"]["hibernate"]),
        (&json!("pve-vm"), &json!(true))
    );
    for id in [vm, container] {
        assert_eq!(stage.ask(Ask::one(&id)).state(), "running");
        assert_eq!(stage.ask(Ask::exec(&id, "true")).status, 200);
        assert_eq!(stage.ask(Ask::end(&id)).status, 204);
    }
}
