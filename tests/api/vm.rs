//! Sandboxes that are virtual machines.

use pve_edge_tests::{
    sim::{Kind, Setup, Spec, Storage, StorageKind, Version, execd::ExecLine},
    world::World,
};
use serde_json::{Value, json};
use time::Duration;

use crate::stage::{Answer, Ask, Stage, VM_TEMPLATE, plain_sim, sim_of, vmid_of};

fn created(stage: &Stage, body: Value) -> String {
    let answer = stage.ask(Ask::post("/api/sandboxes", body));
    assert_eq!((answer.status, &*answer.state()), (201, "running"), "{answer:?}\n{}", stage.told());
    answer.id()
}

fn act(stage: &Stage, id: &str, action: &str, body: Value) -> Answer {
    stage.ask(Ask::post(format!("/api/sandboxes/{id}/{action}"), body))
}

fn told(answer: &Answer) -> (u16, String, String) {
    let did = answer.json()["did"].as_str().unwrap_or_default().to_owned();
    (answer.status, did, answer.state())
}

fn outcome(status: u16, did: &str, state: &str) -> (u16, String, String) {
    (status, did.to_owned(), state.to_owned())
}

/// The number of the memory that runs.
fn memory(stage: &Stage, id: &str) -> Option<u64> {
    stage.world.sim().guest(vmid_of(id))?.run.as_ref().map(|run| run.memory)
}

fn config(stage: &Stage, id: &str, key: &str) -> Option<String> {
    stage.world.sim().guest(vmid_of(id))?.config.get(key).map(str::to_owned)
}

#[test]
fn a_created_one_runs_is_shown_listed_and_deleted() {
    let stage = Stage::of_vms();
    let id = created(&stage, json!({"metadata": {"pr": "7"}}));
    assert!(id.starts_with("pvevm-"), "{id}");
    let shown = stage.ask(Ask::one(&id));
    assert_eq!((shown.status, &*shown.state()), (200, "running"));
    assert_eq!(shown.json()["provider"], "pve-vm");
    assert_eq!(shown.json()["snapshotId"], "pvevm_1vcpu_1gb_8gb_v1");
    assert_eq!(shown.json()["templateVmid"], VM_TEMPLATE);
    stage.world.advance(Duration::minutes(1));
    let listed = stage.ask(Ask::get("/api/sandboxes?metadata.pr=7")).json();
    assert_eq!((&listed["items"][0]["id"], &listed["items"][0]["state"]), (&json!(id), &json!("running")));
    let guest = stage.world.sim().guest(vmid_of(&id)).cloned().expect("it is there");
    assert_eq!(guest.kind, Kind::Qemu);
    assert_eq!((guest.config.get("cores"), guest.config.get("memory")), (Some("1"), Some("1024")));
    assert_eq!((guest.config.get("onboot"), guest.config.lock()), (Some("0"), None));
    let answer = stage.ask(Ask::end(&id));
    assert!(matches!(answer.status, 202 | 204), "{answer:?}");
    stage.world.settle();
    assert_eq!(stage.ask(Ask::one(&id)).status, 404);
    assert_eq!(stage.world.sim().guests().count(), 1, "only the template is left");
    assert!(stage.world.sim().volumes().keys().all(|volid| volid.contains("9100")));
}

#[test]
fn all_versions_of_pve_make_one_and_run_a_command_in_it() {
    for version in [Version::V7_4, Version::V8, Version::V9] {
        for kind in [StorageKind::LvmThin, StorageKind::ZfsPool, StorageKind::Dir] {
            let storages = vec![Storage::new("s", kind)];
            let sim = sim_of(Kind::Qemu, Setup { version, storages, ..Setup::default() });
            let stage = Stage::of_kind(Kind::Qemu, World::new(sim, 7), &[]);
            let id = created(&stage, json!({}));
            let answer = stage.ask(Ask::exec(&id, "hello there"));
            assert_eq!(
                (answer.status, &answer.json()["exitCode"]),
                (200, &json!(0)),
                "{version:?} {answer:?}"
            );
            assert_eq!(answer.json()["stdout"], "hello there\n", "{version:?}");
        }
    }
}

#[test]
fn sizes_are_applied_and_the_disk_grows() {
    let stage = Stage::of_vms();
    let id = created(&stage, json!({"cpu": 4, "memory": 4096, "disk": 16}));
    assert_eq!(config(&stage, &id, "cores").as_deref(), Some("4"));
    assert_eq!(config(&stage, &id, "memory").as_deref(), Some("4096"));
    assert!(config(&stage, &id, "scsi0").is_some_and(|disk| disk.ends_with("size=16G")));
}

#[test]
fn output_streams_and_exit_codes_are_those_of_the_command() {
    let stage = Stage::of_vms();
    let id = created(&stage, json!({}));
    stage.world.sim_mut().set_runner(|_, _| {
        vec![
            ExecLine::Stdout("grün".into()),
            ExecLine::Wait(std::time::Duration::from_secs(5)),
            ExecLine::Stderr("rot: ü".into()),
            ExecLine::Exit(3),
        ]
    });
    let began = stage.world.now();
    let answer = stage.ask(Ask::exec(&id, "x"));
    let json = answer.json();
    assert_eq!(
        (answer.status, &json["exitCode"], &json["timedOut"]),
        (200, &json!(3), &json!(false)),
        "{answer:?}"
    );
    assert_eq!((&json["stdout"], &json["stderr"]), (&json!("grün\n"), &json!("rot: ü\n")));
    assert!(answer.at - began < Duration::seconds(9));
    let events = stage.ask(Ask::exec(&id, "x").header("accept", "text/event-stream"));
    assert_eq!((events.status, events.header("content-type")), (200, "text/event-stream"), "{events:?}");
    for part in ["event: stdout", "grün", "event: stderr", "event: exit", "3"] {
        assert!(events.body.contains(part), "{part}: {}", events.body);
    }
}

#[test]
fn a_command_that_takes_too_long_is_ended_and_told_so() {
    let stage = Stage::of_vms();
    let id = created(&stage, json!({}));
    stage.world.sim_mut().set_runner(|_, _| {
        vec![
            ExecLine::Stdout("begun".into()),
            ExecLine::Wait(std::time::Duration::from_secs(3600)),
            ExecLine::Exit(0),
        ]
    });
    let ask = Ask::post(format!("/api/sandboxes/{id}/exec"), json!({"command": "x", "timeoutMs": 4000}));
    let answer = stage.ask(ask);
    assert_eq!((answer.status, &answer.json()["timedOut"]), (200, &json!(true)), "{answer:?}");
    assert_eq!(answer.json()["stdout"], "begun\n");
}

#[test]
fn a_template_without_an_agent_is_told_and_nothing_is_left() {
    let mut sim = sim_of(Kind::Qemu, Setup::default());
    sim.add(Spec::vm_template(9101).tags("pvevm_1vcpu_1gb_8gb_v2").set("agent", ""));
    let stage = Stage::of_kind(Kind::Qemu, World::new(sim, 7), &[]);
    let answer = stage.ask(Ask::create());
    assert_eq!((answer.status, &*answer.code()), (502, "guest-agent-missing"), "{answer:?}");
}

#[test]
fn stop_start_and_reboot() {
    let stage = Stage::of_vms();
    let id = created(&stage, json!({}));
    let first = memory(&stage, &id);
    assert_eq!(told(&act(&stage, &id, "stop", json!({}))), outcome(200, "stopped", "stopped"));
    assert_eq!(told(&act(&stage, &id, "stop", json!({"force": true}))), outcome(200, "nothing", "stopped"));
    let exec = stage.ask(Ask::exec(&id, "true"));
    assert_eq!((exec.status, exec.code()), (409, "not-running".into()));
    assert_eq!(told(&act(&stage, &id, "start", json!({}))), outcome(200, "started", "running"));
    let second = memory(&stage, &id);
    assert!(second.is_some() && second != first);
    assert_eq!(told(&act(&stage, &id, "reboot", json!({}))), outcome(200, "rebooted", "running"));
    stage.world.settle();
    let third = memory(&stage, &id);
    assert!(third.is_some() && third != second, "{}", stage.told());
    assert_eq!(stage.ask(Ask::exec(&id, "true")).status, 200);
}

#[test]
fn a_pause_keeps_memory_and_freezes_everything_until_it_is_resumed() {
    let stage = Stage::of_vms();
    let id = created(&stage, json!({"ttlSeconds": 600}));
    let before = memory(&stage, &id);
    let paused = act(&stage, &id, "pause", json!({}));
    assert_eq!(told(&paused), outcome(200, "paused", "paused"), "{paused:?}\n{}", stage.told());
    assert_eq!(paused.json()["keeps"], "memory");
    assert_eq!(memory(&stage, &id), None);
    assert_eq!(
        told(&act(&stage, &id, "pause", json!({"keeps": "memory"}))),
        outcome(200, "nothing", "paused")
    );
    stage.world.advance(Duration::hours(1));
    assert_eq!(stage.ask(Ask::one(&id)).state(), "paused", "its own time does not run");
    let patch = stage.ask(Ask::patch(format!("/api/sandboxes/{id}"), json!({"name": "x"})));
    let extend = stage.ask(Ask::extend(&id, 600));
    for refused in [patch, extend] {
        assert_eq!((refused.status, refused.code()), (409, "suspended".into()), "{refused:?}");
    }
    let exec = stage.ask(Ask::exec(&id, "true"));
    assert_eq!((exec.status, exec.code()), (409, "not-running".into()), "{exec:?}");
    let resumed = act(&stage, &id, "resume", json!({"ttlSeconds": 900}));
    assert_eq!(told(&resumed), outcome(200, "resumed", "running"), "{resumed:?}\n{}", stage.told());
    assert_eq!(memory(&stage, &id), before);
    assert_eq!(stage.ask(Ask::exec(&id, "true")).status, 200);
    stage.world.advance(Duration::seconds(901));
    assert_eq!(stage.ask(Ask::one(&id)).status, 404);
}

#[test]
fn a_start_of_a_paused_one_brings_memory_back_too() {
    let stage = Stage::of_vms();
    let id = created(&stage, json!({}));
    let before = memory(&stage, &id);
    act(&stage, &id, "pause", json!({"keeps": "memory"}));
    let started = act(&stage, &id, "start", json!({}));
    assert_eq!(told(&started), outcome(200, "resumed", "running"), "{started:?}\n{}", stage.told());
    assert_eq!(memory(&stage, &id), before);
}

#[test]
fn a_pause_to_disk_is_a_stop() {
    let stage = Stage::of_vms();
    let id = created(&stage, json!({}));
    let paused = act(&stage, &id, "pause", json!({"keeps": "disk"}));
    assert_eq!((told(&paused), &paused.json()["keeps"]), (outcome(200, "paused", "paused"), &json!("disk")));
    assert_eq!(config(&stage, &id, "lock"), None);
    let patched = stage.ask(Ask::patch(format!("/api/sandboxes/{id}"), json!({"name": "x"})));
    assert_eq!(patched.status, 200, "{patched:?}");
}

#[test]
fn a_paused_one_is_deleted() {
    let stage = Stage::of_vms();
    let id = created(&stage, json!({}));
    act(&stage, &id, "pause", json!({"keeps": "memory"}));
    stage.world.advance(Duration::minutes(5));
    let answer = stage.ask(Ask::end(&id));
    assert!(matches!(answer.status, 202 | 204), "{answer:?}\n{}", stage.told());
    stage.world.settle();
    assert_eq!(stage.world.sim().guests().count(), 1);
    assert!(stage.world.sim().volumes().keys().all(|volid| volid.contains("9100")), "memory and all");
}

#[test]
fn what_has_expired_is_swept() {
    for (on_expiry, state) in [("delete", ""), ("stop", "stopped"), ("pause", "paused")] {
        let stage = Stage::of_vms();
        let id = created(&stage, json!({"ttlSeconds": 60, "onExpiry": on_expiry}));
        stage.world.advance(Duration::seconds(61));
        for _ in 0..3 {
            let swept = stage.ask(Ask::post("/api/gc", json!({})).by("ops"));
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
    let id = created(&stage, json!({}));
    act(&stage, &id, "pause", json!({"keeps": "memory"}));
    stage.world.advance(Duration::days(6));
    assert_eq!(stage.ask(Ask::post("/api/gc", json!({})).by("ops")).status, 200);
    assert_eq!(stage.ask(Ask::one(&id)).state(), "paused");
    for _ in 0..6 {
        stage.world.advance(Duration::days(8));
        stage.ask(Ask::post("/api/gc", json!({})).by("ops"));
        stage.world.settle();
    }
    assert_eq!(stage.world.sim().guests().count(), 1, "{}", stage.told());
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
        stage.ask(Ask::post("/api/gc", json!({})).by("ops"));
    }
    assert_eq!(stage.world.sim().snapshot_of(|_| true), before);
}

/// One deployment has both: a preset says which.
#[test]
fn containers_and_vms_live_side_by_side() {
    let mut sim = plain_sim(Setup::default());
    sim.add(Spec::vm_template(VM_TEMPLATE).tags("pvevm_1vcpu_1gb_8gb_v1"));
    let stage = Stage::on(sim);
    let vm = created(&stage, json!({"snapshotId": "pvevm_1vcpu_1gb_8gb_v1"}));
    let lxc = created(&stage, json!({}));
    assert!(vm.starts_with("pvevm-") && lxc.starts_with("pvelxc-"), "{vm} {lxc}");
    let swapped = vm.replacen("pvevm-", "pvelxc-", 1);
    assert_eq!(stage.ask(Ask::one(&swapped)).status, 404, "another kind's id is nobody's");
    assert_eq!(stage.ask(Ask::end(&swapped)).status, 404);
    stage.world.advance(Duration::minutes(1));
    let listed = stage.ask(Ask::get("/api/sandboxes")).body;
    assert!(listed.contains(&vm) && listed.contains(&lxc));
    assert!(memory(&stage, &vm).is_some());
}

#[test]
fn eight_at_once_from_one_template_wait_for_nobody() {
    let stage = Stage::of_vms();
    let began = stage.world.now();
    let asked = (0..8).map(|_| stage.pending(Ask::create()));
    let answers: Vec<Answer> = stage.world.run_all(asked).into_iter().flatten().collect();
    assert_eq!(answers.len(), 8);
    for answer in &answers {
        assert_eq!(answer.status, 201, "{answer:?}");
    }
    let mut ids: Vec<String> = answers.iter().map(Answer::id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 8);
    let setup = stage.world.sim().setup().clone();
    let last = answers.iter().map(|it| it.at).max().expect("eight");
    let work = setup.clone_secs + setup.start_secs + setup.vm_boot;
    assert!(last - began < work * 2, "{} of {work}", last - began);
}

#[test]
fn a_locked_one_is_409_and_untouched() {
    let stage = Stage::of_vms();
    let id = created(&stage, json!({}));
    stage.world.sim_mut().set_lock(vmid_of(&id), Some("backup"));
    for action in ["start", "stop", "reboot", "pause", "resume"] {
        let answer = act(&stage, &id, action, json!({}));
        assert_eq!((answer.status, answer.code()), (409, "guest-locked".into()), "{action}: {answer:?}");
    }
    assert!(memory(&stage, &id).is_some());
}

/// A pause whose saving of memory fails: PVE leaves its lock, the VM runs on.
#[test]
fn memory_that_cannot_be_written_is_told() {
    let stage = Stage::of_vms();
    let id = created(&stage, json!({}));
    stage.world.sim_mut().fail_next("qmsuspend", "no space left");
    let answer = act(&stage, &id, "pause", json!({"keeps": "memory"}));
    assert!(answer.status >= 400, "{answer:?}");
    assert!(!answer.code().is_empty());
    assert!(memory(&stage, &id).is_some());
}
