//! Templates of VMs: copied, built through the guest agent, and offered, or a clear failure.

use http::HeaderMap;
use pve_edge_bed::sim::{
    AGENT, MINIMAL, MONITOR,
    execd::{Piece, Streamed},
};
use sha2::{Digest, Sha256};

use super::{
    PRESET, build, count, get,
    machines::{Machines, Work},
    sim, until,
};
use crate::stage::{SECRET, guests::mark, keys_of, prelude::*};

/// A template of VMs of the user's: no tags, no notes.
pub(super) const SOURCE: u32 = 9200;
const VERSION: &str = "0.1.0-0123456789ab";
/// Of the program: two pieces and a bit.
const BYTES: usize = 100_000;

fn program() -> Vec<u8> {
    (0..BYTES).map(|it| u8::try_from(it * 7 % 251).expect("a byte")).collect()
}

/// A cluster with the user's template, behind a deployment that has the daemon's programs.
pub(super) fn stage(work: Work) -> (Stage, Machines) {
    stage_of(Version::V9, Spec::vm_template(SOURCE), work)
}

pub(super) fn stage_of(version: Version, source: Spec, work: Work) -> (Stage, Machines) {
    let mut sim = sim(version, StorageKind::LvmThin);
    let agent = if version == Version::V9 { AGENT } else { MONITOR };
    let role = [MINIMAL, agent].concat();
    for who in ["edge@pve", "edge@pve!edge"] {
        sim.grant(who, "/", &role);
    }
    sim.add(source);
    sim.add(Spec::vm(150_000).description("somebody's"));
    let machines = Machines::of(&mut sim, work);
    let stage = Stage::of_kind(Kind::Qemu, World::new(sim, 7), &[]);
    stage.world.serve("assets", |request, _| {
        let row = json!({"sha256": hex::encode(Sha256::digest(program())), "bytes": BYTES});
        let (status, body) = match request.uri().path() {
            "/manifest.json" => {
                let manifest = json!({"version": VERSION, "x86_64": row, "aarch64": row});
                (200, manifest.to_string().into_bytes())
            }
            path if path == format!("/{VERSION}/x86_64") => (200, program()),
            _ => (404, Vec::new()),
        };
        Streamed { status, headers: HeaderMap::new(), pieces: vec![Piece::Bytes(body)] }
    });
    (stage, machines)
}

pub(super) fn body() -> Value {
    json!({"fromTemplate": SOURCE, "preset": PRESET, "packages": ["git"], "run": "echo it works"})
}

/// What is not ours.
pub(super) fn strangers(stage: &Stage) -> std::collections::BTreeMap<u32, String> {
    stage.world.sim().snapshot_of(|it| matches!(it.vmid, SOURCE | 150_000))
}

/// What the build has left in the VM is what a template is to have.
pub(super) fn assert_built(machines: &Machines, vmid: u32, told: &str) {
    let machine = machines.machine(vmid);
    assert_eq!(machine.begun, 1, "{told}: packages and script ran {} times", machine.begun);
    assert!(machine.installed == program(), "{told}: another program");
    assert!(machine.cleaned && machine.folder.is_none(), "{told}: {machine:?}");
}

#[test]
fn a_copy_of_a_template_of_vms_is_built_and_offered() {
    for version in [Version::V7_4, Version::V8, Version::V9] {
        let (stage, machines) = stage_of(version, Spec::vm_template(SOURCE), Work::Ends);
        let before = strangers(&stage);
        let made = until(&stage, &build(&body()), "ready");
        assert_eq!(made.json()["snapshotId"], format!("pvevm_{PRESET}_v1"), "{made:?}");
        assert_eq!(made.json()["daemon"], "guest", "{made:?}");
        let (id, vmid) = (made.id(), vmid_of(&made.id()));
        assert_built(&machines, vmid, "");
        // What a VM has not written when it is killed is lost.
        assert_eq!(
            (count(&stage, "POST", "/status/shutdown"), count(&stage, "POST", "/status/stop")),
            (1, 0)
        );
        let again = stage.ask(build(&body()));
        assert_eq!((again.status, again.id()), (200, id));
        assert_eq!(count(&stage, "POST", "/clone"), 1);
        let template = stage.world.sim().guest(vmid).cloned().expect("the template");
        assert!(template.config.is("template") && template.config.get("protection") == Some("1"));
        assert!(mark(&template).is_some_and(|it| it.base.is_some_and(|it| it.execd)));
        assert_eq!(strangers(&stage), before, "the source, or a stranger, was changed");
        // The model has no daemon: the simulator's is put there.
        stage.world.sim_mut().set_keys(vmid, &keys_of(SECRET));
        for wanted in [json!({"preset": PRESET}), json!({"snapshotId": made.json()["snapshotId"]})] {
            let sandbox = stage.ask(Ask::sandbox(wanted));
            assert_eq!(sandbox.shows(), "201 running", "{sandbox:?}\n{}", stage.told());
            assert_eq!(sandbox.json()["commands"], "guest", "{sandbox:?}");
        }
    }
}

/// A request that may ask nothing more of PVE tells how far it is, and the next one goes on.
#[test]
fn what_a_request_may_ask_is_enough_to_tell_how_far_it_is() {
    for (requests, guest) in (20..=60).map(|it| (it, true)).chain((12..=60).map(|it| (it, false))) {
        let told = format!("{requests}, guest {guest}");
        let mut wanted = body();
        wanted["guest"] = guest.into();
        let (mut stage, machines) = stage(Work::Ends);
        stage.platform.requests = requests;
        let begun = stage.ask(build(&wanted).wait(25));
        assert_eq!(begun.status, 202, "{told}: {begun:?}");
        let mut last = begun.clone();
        for _ in 0..200 {
            if last.json()["status"] == "ready" {
                break;
            }
            stage.world.advance(Duration::seconds(3));
            last = stage.ask(get(&begun.id()).wait(25));
            assert_eq!(last.status, 200, "{told}: {last:?}\n{}", stage.told());
        }
        assert_eq!(last.json()["status"], "ready", "{told}: {last:?}");
        assert_eq!(machines.begun(), 1, "{told}");
        let machine = machines.machine(vmid_of(&begun.id()));
        assert!(machine.cleaned && machine.folder.is_none(), "{told}: {machine:?}");
        assert_eq!(machine.installed == program(), guest, "{told}: another program");
    }
}

/// Nothing of the build is left, once its admin has deleted it.
fn assert_deleted(stage: &Stage, id: &str) {
    let deleted = stage.ask(Ask::delete(format!("/api/templates/{id}")).by("ops"));
    assert_eq!(deleted.status, 204, "{deleted:?}\n{}", stage.told());
    let ours = stage.world.sim().guests().filter(|it| mark(it).is_some()).count();
    assert_eq!(ours, 0, "{}", stage.told());
}

/// What cannot be built ends as `failed`, with the step and the reason, keeps that until it is deleted, and leaves nothing.
#[test]
fn what_cannot_be_built_says_at_which_step_and_why() {
    for (work, step, says) in [
        (Work::Fails(3), "running", "exit code 3"),
        (Work::Vanishes, "running", "disk full"),
        (Work::Restarts, "running", "how it ended is not known"),
        (Work::NoRoom, "packages", "disk full"),
    ] {
        let (stage, machines) = stage(work);
        let before = strangers(&stage);
        let failed = until(&stage, &build(&body()), "failed");
        assert_eq!(failed.json()["step"], step, "{work:?}: {failed:?}");
        let output = failed.json()["output"].as_str().unwrap_or_default().to_owned();
        assert!(output.contains(says), "{work:?}: {output}");
        assert_eq!(machines.begun(), u32::from(work != Work::NoRoom), "{work:?}");
        assert_eq!(stage.ask(Ask::sandbox(json!({"preset": PRESET}))).code(), "template-not-found");
        let vmid = vmid_of(&failed.id());
        assert!(stage.world.sim().guest(vmid).is_some_and(|it| it.run.is_none()), "{work:?}: it runs on");
        // Nothing is begun anew by who looks again.
        assert_eq!(until(&stage, &get(&failed.id()), "failed").json()["output"], output);
        assert_eq!(machines.begun(), u32::from(work != Work::NoRoom), "{work:?}");
        assert_deleted(&stage, &failed.id());
        assert_eq!(strangers(&stage), before, "{work:?}");
    }
}

#[test]
fn a_disk_without_room_for_the_daemon_is_told() {
    let (stage, machines) = stage(Work::Ends);
    machines.set_room(BYTES / 2);
    let failed = until(&stage, &build(&body()), "failed");
    assert_eq!(failed.json()["step"], "guest", "{failed:?}");
    assert!(failed.body.contains("is the disk full?"), "{failed:?}");
    assert_deleted(&stage, &failed.id());
}

/// Whoever has no agent is told before anything is claimed, or in the end, and never waits for ever.
#[test]
fn vms_without_an_agent_are_no_sources() {
    let (stage, _) = stage_of(Version::V9, Spec::vm_template(SOURCE).set("agent", "0"), Work::Ends);
    let answer = stage.ask(build(&body()));
    assert_eq!(answer.refusal(), "502 guest-agent-missing", "{answer:?}");
    assert!(answer.body.contains(&format!("qm set {SOURCE} --agent 1")), "{answer:?}");
    assert_eq!(count(&stage, "POST", "/clone"), 0);
    // It is said to be there, and nothing answers.
    let silent = Spec::vm_template(SOURCE).set("agent", "enabled=1,type=isa");
    let (stage, machines) = stage_of(Version::V9, silent, Work::Ends);
    let begun = stage.world.now();
    let failed = until(&stage, &build(&body()), "failed");
    assert_eq!(failed.json()["step"], "starting", "{failed:?}");
    assert!(failed.body.contains("install qemu-guest-agent"), "{failed:?}");
    assert!(stage.world.now() - begun < Duration::minutes(20), "{}", stage.world.now() - begun);
    assert_eq!(machines.begun(), 0);
    assert_deleted(&stage, &failed.id());
}

#[test]
fn what_the_token_lacks_is_named() {
    let (stage, _) = stage(Work::Ends);
    for who in ["edge@pve", "edge@pve!edge"] {
        stage.world.sim_mut().grant(who, "/", MINIMAL);
    }
    let failed = until(&stage, &build(&body()), "failed");
    assert_eq!(failed.json()["step"], "starting", "{failed:?}");
    assert!(failed.body.contains("VM.GuestAgent.Unrestricted"), "{failed:?}");
    assert_deleted(&stage, &failed.id());
}

#[test]
fn what_is_for_containers_alone_is_refused() {
    for (changes, field) in [
        (json!({"features": "nesting=1"}), "features"),
        (json!({"hookscript": "local:snippets/hook.sh"}), "hookscript"),
        (json!({"execd": "manual"}), "execd"),
        (json!({"daemon": "execd"}), "execd"),
    ] {
        let (stage, _) = stage(Work::Ends);
        let mut wanted = body();
        wanted.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        let answer = stage.ask(build(&wanted));
        assert_eq!(answer.refusal(), "400 invalid-request", "{changes}: {answer:?}");
        assert_eq!(answer.json()["errors"][0]["field"], field, "{changes}: {answer:?}");
        assert_eq!(count(&stage, "POST", "/clone"), 0, "{changes}");
    }
}

/// Without the daemon, commands go through the agent.
#[test]
fn the_daemon_is_left_out_where_it_is_not_wanted() {
    let (stage, machines) = stage(Work::Ends);
    let mut wanted = body();
    wanted["guest"] = json!(false);
    let made = until(&stage, &build(&wanted), "ready");
    let machine = machines.machine(vmid_of(&made.id()));
    assert!(machine.cleaned && machine.begun == 1 && machine.installed.is_empty(), "{machine:?}");
    let sandbox = stage.ask(Ask::sandbox(json!({"preset": PRESET})));
    assert_eq!(sandbox.shows(), "201 running", "{sandbox:?}\n{}", stage.told());
    assert_eq!(sandbox.json()["commands"], "agent", "{sandbox:?}");
    assert_eq!(stage.ask(Ask::exec(&sandbox.id(), "true")).status, 200);
}

/// Nobody asks for it any more, and it is made; or it never ends, and is given up.
#[test]
fn the_sweep_carries_a_build_on_or_gives_it_up() {
    let (stage, machines) = stage(Work::Ends);
    let id = until(&stage, &build(&body()).wait(0), "building").id();
    for _ in 0..30 {
        stage.sweep();
        stage.world.advance(Duration::seconds(60));
    }
    let shown = stage.ask(get(&id));
    assert_eq!(shown.json()["status"], "ready", "{shown:?}\n{}", stage.told());
    assert_built(&machines, vmid_of(&id), "by the sweep");

    let (stage, machines) = self::stage(Work::RunsOn);
    let before = strangers(&stage);
    let id = until(&stage, &build(&body()).wait(0), "building").id();
    for _ in 0..30 {
        stage.sweep();
        stage.world.advance(Duration::hours(1));
    }
    assert_eq!(stage.ask(get(&id)).status, 404, "{}", stage.told());
    assert!(stage.world.sim().guest(vmid_of(&id)).is_none(), "{}", stage.told());
    assert_eq!((machines.begun(), strangers(&stage)), (1, before));
}

/// A build that runs is stopped and deleted.
#[test]
fn one_that_is_being_built_is_deleted() {
    let (stage, machines) = stage(Work::RunsOn);
    let id = until(&stage, &build(&body()), "building").id();
    while machines.begun() == 0 {
        stage.ask(get(&id));
    }
    assert_deleted(&stage, &id);
    assert_eq!(stage.ask(get(&id)).status, 404);
}

/// An agent may be silent for a while, where the VM is busy or the agent starts anew; not for long.
#[test]
fn an_agent_that_falls_silent_is_waited_for_and_given_up() {
    let (stage, machines) = stage(Work::RunsOn);
    let id = until(&stage, &build(&body()), "building").id();
    while machines.begun() == 0 {
        stage.ask(get(&id));
    }
    stage.world.advance(Duration::minutes(15));
    let set_agent = |agent| stage.world.sim_mut().admin_set(vmid_of(&id), "agent", agent);
    for _ in 0..2 {
        // Not added up: in between it answers.
        set_agent("enabled=1,type=isa");
        let shown = stage.ask(get(&id));
        assert_eq!(shown.json()["status"], "building", "{shown:?}");
        assert!(shown.body.contains("does not answer yet"), "{shown:?}");
        stage.world.advance(Duration::seconds(80));
        set_agent("1");
        let shown = stage.ask(get(&id));
        assert_eq!((&shown.json()["status"], &shown.json()["step"]), (&json!("building"), &json!("running")));
    }
    set_agent("enabled=1,type=isa");
    let failed = until(&stage, &get(&id), "failed");
    assert!(failed.body.contains("install qemu-guest-agent"), "{failed:?}");
    assert_eq!(machines.begun(), 1);
    assert_deleted(&stage, &id);
}
