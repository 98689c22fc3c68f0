//! What somebody tried who wanted to break it: each of these was wrong once.

use crate::{
    stage::{Answer, Ask, SNAPSHOT, Stage, TEMPLATE, VM_TEMPLATE, sim_of, vmid_of},
    truth::committed,
};
use pve_edge_core::pve::marks::Want;
use pve_edge_tests::{
    sim::{Kind, Setup, Storage, StorageKind},
    world::{Fault, World},
};
use serde_json::{Value, json};
use time::Duration;

const BOTH: [Kind; 2] = [Kind::Lxc, Kind::Qemu];

fn created(stage: &Stage, body: Value) -> String {
    let answer = stage.ask(Ask::post("/api/sandboxes", body));
    assert_eq!(answer.status, 201, "{answer:?}\n{}", stage.told());
    answer.id()
}

fn act(stage: &Stage, id: &str, action: &str, body: Value) -> Answer {
    stage.ask(Ask::post(format!("/api/sandboxes/{id}/{action}"), body))
}

fn sweep(stage: &Stage) -> Answer {
    let answer = stage.ask(Ask::post("/api/gc", json!({})).by("ops"));
    assert_eq!(answer.status, 200, "{answer:?}");
    answer
}

fn zfs(kind: Kind, setup: Setup) -> Stage {
    let setup = Setup { storages: vec![Storage::new("store", StorageKind::ZfsPool)], ..setup };
    Stage::of_kind(kind, World::new(sim_of(kind, setup), 7), &[])
}

/// Nothing tells any more whose it was, and its VMID is taken for ever.
#[test]
fn a_destruction_that_crashed_is_told() {
    for kind in BOTH {
        let stage = Stage::with(kind);
        let id = created(&stage, json!({}));
        stage.world.sim_mut().setup_mut().destroy_secs = Duration::seconds(600);
        assert_eq!(stage.ask(Ask::end(&id)).status, 202);
        stage.world.advance(Duration::seconds(550));
        let lock =
            || stage.world.sim().guest(vmid_of(&id)).and_then(|it| it.config.lock().map(str::to_owned));
        assert_eq!(lock().as_deref(), Some("destroyed"));
        assert!(!sweep(&stage).body.contains("unlock"), "it is at work");
        stage.world.sim_mut().crash(vmid_of(&id));
        let tool = if kind == Kind::Lxc { "pct" } else { "qm" };
        let report = sweep(&stage);
        assert!(report.body.contains(&format!("{tool} unlock {}", vmid_of(&id))), "{report:?}");
        assert_eq!(lock().as_deref(), Some("destroyed"));
    }
}

/// Whoever unlocks what is being copied breaks the copy.
#[test]
fn a_long_copy_is_not_called_crashed() {
    let stage = zfs(Kind::Lxc, Setup { full_clone_secs: Duration::minutes(30), ..Setup::default() });
    let id = created(&stage, json!({"ttlSeconds": null}));
    stage.world.advance(Duration::minutes(15));
    let taken = act(&stage, &id, "snapshots", json!({}));
    assert_eq!(taken.status, 202, "{taken:?}");
    stage.world.advance(Duration::minutes(15));
    let report = sweep(&stage);
    assert!(!report.body.contains("unlock"), "{report:?}");
    let copy = vmid_of(taken.json()["snapshotId"].as_str().expect("an id"));
    stage.world.sim_mut().crash(vmid_of(&id));
    let report = sweep(&stage);
    assert!(report.body.contains(&format!("pct unlock {copy}")), "{report:?}");
}

/// A crashed rollback, snapshot or suspension, too, is for root alone to clear.
#[test]
fn every_lock_of_ours_that_lasts_is_told() {
    for lock in ["rollback", "snapshot", "snapshot-delete", "disk", "suspending"] {
        let stage = Stage::of_vms();
        let id = created(&stage, json!({"ttlSeconds": 60}));
        stage.world.advance(Duration::minutes(11));
        stage.world.sim_mut().set_lock(vmid_of(&id), Some(lock));
        let report = sweep(&stage);
        assert!(report.body.contains(&format!("qm unlock {}", vmid_of(&id))), "{lock}: {report:?}");
    }
}

/// An administrator may reserve the tag by which a preset is found.
#[test]
fn a_registered_preset_tag_is_no_obstacle() {
    for kind in BOTH {
        let stage = Stage::with(kind);
        let preset =
            if kind == Kind::Lxc { SNAPSHOT.to_owned() } else { SNAPSHOT.replace("pvelxc", "pvevm") };
        stage.world.sim_mut().set_tag_access("free", &[], &[&preset]);
        let id = created(&stage, json!({"metadata": {"a": "1"}}));
        let patched = stage.ask(Ask::patch(format!("/api/sandboxes/{id}"), json!({"metadata": {"a": "2"}})));
        assert_eq!(patched.status, 200, "{patched:?}");
        assert_eq!(act(&stage, &id, "stop", json!({})).status, 200);
        assert_eq!(act(&stage, &id, "start", json!({})).status, 200);
        let tags =
            || stage.world.sim().guest(vmid_of(&id)).map(|it| it.config.get("tags").unwrap_or("").to_owned());
        assert!(tags().is_some_and(|it| it.contains(&preset) && it.contains("pe1.prod.")), "{:?}", tags());
        stage.world.advance(Duration::minutes(1));
        // Nobody takes it for a template, whatever its number and whatever PVE tells of it.
        let narrow = stage.beside("narrow", &[("PVE_VMID_RANGE", "900000-900009")]);
        for stage in [&stage, &narrow] {
            let templates = stage.ask(Ask::get("/api/snapshots")).json();
            let vmid = if kind == Kind::Lxc { TEMPLATE } else { VM_TEMPLATE };
            assert_eq!(templates["items"].as_array().map(Vec::len), Some(1), "{templates}");
            assert_eq!(templates["items"][0]["templateVmid"], vmid);
        }
        let listed = stage.ask(Ask::get("/api/sandboxes?metadata.a=2")).json();
        assert_eq!(listed["items"][0]["id"], *id);
        assert!(matches!(stage.ask(Ask::end(&id)).status, 202 | 204));
    }
}

/// Where PVE lets the tag be taken off it is.
#[test]
fn a_sandbox_has_no_tag_of_its_template() {
    let stage = Stage::new();
    let id = created(&stage, json!({}));
    let tags = stage.world.sim().guest(vmid_of(&id)).map(|it| it.config.get("tags").unwrap_or("").to_owned());
    assert!(tags.is_some_and(|it| !it.contains(SNAPSHOT)));
}

/// PVE calls a VM a template before its disks are such, and can fail in between.
#[test]
fn a_half_made_template_is_finished() {
    let stage = Stage::of_vms();
    let id = created(&stage, json!({}));
    stage.world.sim_mut().fail_next("qmtemplate", "no space left");
    let taken = act(&stage, &id, "snapshots", json!({}));
    let snapshot = taken.json()["snapshotId"].as_str().expect("an id").to_owned();
    let look = || stage.ask(Ask::get(format!("/api/snapshots/{snapshot}")).header("prefer", "wait=10"));
    stage.world.settle();
    assert!(stage.world.sim().guest(vmid_of(&snapshot)).is_some_and(|it| it.config.is("template")));
    assert_eq!(look().json()["status"], "pending");
    stage.world.advance(Duration::minutes(2));
    assert_eq!(look().json()["status"], "ready", "{}", stage.told());
    created(&stage, json!({"snapshotId": snapshot}));
}

/// PVE suspends long after its caller gave up: what is paused by that is kept as long as any other.
#[test]
fn a_late_suspension_holds_as_long_as_any() {
    for resumed in [false, true] {
        let stage = Stage::of_vms();
        let id = created(&stage, json!({"ttlSeconds": 600}));
        let late = Fault::Late(std::time::Duration::from_secs(40));
        stage.world.fault_once(|seen| seen.path.ends_with("/suspend"), late);
        let answer = act(&stage, &id, "pause", json!({}));
        assert!(answer.status >= 500, "{answer:?}");
        if resumed {
            assert_eq!(act(&stage, &id, "resume", json!({"ttlSeconds": 600})).state(), "running");
        }
        stage.world.advance(Duration::minutes(1));
        assert_eq!(stage.ask(Ask::one(&id)).state(), "paused", "{}", stage.told());
        let again = act(&stage, &id, "pause", json!({}));
        assert_eq!((again.status, again.state()), (200, "paused".into()), "{again:?}\n{}", stage.told());
        stage.world.advance(Duration::days(1));
        for _ in 0..3 {
            sweep(&stage);
            stage.world.advance(Duration::minutes(2));
        }
        assert_eq!(stage.ask(Ask::one(&id)).state(), "paused", "{}", stage.told());
        assert_eq!(act(&stage, &id, "resume", json!({})).state(), "running");
    }
}

/// A listing does not find what an administrator's hand has changed: a sweep puts it right.
#[test]
fn tags_that_disagree_are_put_right() {
    for kind in BOTH {
        let stage = Stage::with(kind);
        let id = created(&stage, json!({"ttlSeconds": 120, "metadata": {"a": "1"}}));
        let tags =
            || stage.world.sim().guest(vmid_of(&id)).map(|it| it.config.get("tags").unwrap_or("").to_owned());
        let old = tags().expect("tags");
        assert_eq!(stage.ask(Ask::extend(&id, 36_000)).status, 200);
        let right = tags();
        stage.world.advance(Duration::minutes(20));
        for wrong in ["", "web", &*old] {
            stage.world.sim_mut().admin_set(vmid_of(&id), "tags", wrong);
            let report = sweep(&stage);
            assert!(report.body.contains("\"finish\"") && !report.body.contains("condemn"), "{report:?}");
            stage.world.advance(Duration::seconds(20));
            let listed = stage.ask(Ask::get("/api/sandboxes?metadata.a=1")).json();
            assert_eq!(listed["items"][0]["id"], *id, "{wrong}: {listed}");
            assert_eq!(sweep(&stage).json()["actions"], json!([]));
        }
        assert_eq!(tags(), right);
        assert_eq!(stage.ask(Ask::one(&id)).state(), "running");
    }
}

/// Who finds that it cannot be finished does not overrule its owner.
#[test]
fn what_was_stopped_meanwhile_is_no_error() {
    let stage = Stage::new();
    let id = created(&stage, json!({}));
    assert_eq!(act(&stage, &id, "stop", json!({})).status, 200);
    // An exec daemon that lets everyone in: whoever starts it has to stop it again.
    stage.world.sim_mut().admin_set(vmid_of(&id), "env", "A=1");
    let mut config_reads = 0;
    stage.world.fault_if(move |seen| {
        config_reads += usize::from(seen.method == "GET" && seen.path.ends_with("/config"));
        (config_reads == 3).then(|| {
            config_reads += 1;
            Fault::Slow(std::time::Duration::from_secs(5))
        })
    });
    let start = Ask::post(format!("/api/sandboxes/{id}/start"), json!({}));
    let handle = stage.world.spawn(stage.pending(start));
    stage.world.advance(Duration::seconds(6));
    let stopped = act(&stage.beside("owner", &[]), &id, "stop", json!({"force": true}));
    assert_eq!(stopped.status, 200, "{stopped:?}\n{}", stage.told());
    stage.world.advance(Duration::seconds(20));
    let answer = handle.take().unwrap_or_else(|| panic!("{}", stage.told()));
    assert_eq!(answer.code(), "exec-unprotected", "{answer:?}\n{}", stage.told());
    let shown = stage.ask(Ask::one(&id));
    assert_eq!(shown.state(), "stopped", "{shown:?}\n{}", stage.told());
    let want = stage.world.sim().guest(vmid_of(&id)).and_then(committed).map(|it| it.want);
    assert_eq!(want, Some(Want::Off));
}

/// Two power actions at once: the second is asked to come back.
#[test]
fn a_reboot_beside_a_stop_is_locked_out_and_not_failed() {
    for kind in BOTH {
        let stage = Stage::with(kind);
        let id = created(&stage, json!({}));
        stage.world.sim_mut().setup_mut().stop_secs = Duration::seconds(40);
        let stop = Ask::post(format!("/api/sandboxes/{id}/stop"), json!({"timeoutSeconds": 60}));
        let handle = stage.world.spawn(stage.pending(stop));
        stage.world.advance(Duration::seconds(2));
        let second = act(&stage.beside("b", &[]), &id, "reboot", json!({}));
        assert_eq!(
            (second.status, second.code()),
            (409, "guest-locked".into()),
            "{second:?}\n{}",
            stage.told()
        );
        assert!(second.retry_after().is_some());
        stage.world.advance(Duration::minutes(2));
        drop(handle);
        assert_eq!(act(&stage, &id, "stop", json!({})).state(), "stopped");
    }
}

/// `EDGE_SECRET` is put right again; nothing was known against the sandbox.
#[test]
fn a_wrong_secret_marks_nobody() {
    for kind in BOTH {
        let stage = Stage::with(kind);
        stage.world.sim_mut().setup_mut().boot = Duration::seconds(30);
        stage.world.sim_mut().setup_mut().vm_boot = Duration::seconds(30);
        let create = Ask::post("/api/sandboxes", json!({"env": {"A": "1"}})).header("prefer", "wait=6");
        let made = stage.ask(create);
        assert_eq!((made.status, made.state()), (202, "creating".into()), "{made:?}");
        let id = made.id();
        let wrong = stage.beside("wrong", &[("EDGE_SECRET", "another-secret-of-the-tests-0123456789")]);
        stage.world.advance(Duration::minutes(1));
        let shown = wrong.ask(Ask::one(&id));
        assert_eq!((shown.status, shown.code()), (404, "not-found".into()), "{shown:?}");
        let shown = stage.ask(Ask::one(&id));
        assert_eq!((shown.status, shown.state()), (200, "running".into()), "{shown:?}");
        assert_eq!(stage.ask(Ask::exec(&id, "true")).status, 200);
    }
}

/// PVE's work on a young one says nothing of whether it has booted.
#[test]
fn what_boots_while_it_is_locked_is_not_said_to_run() {
    for kind in BOTH {
        let stage = Stage::with(kind);
        stage.world.sim_mut().setup_mut().boot = Duration::seconds(30);
        stage.world.sim_mut().setup_mut().vm_boot = Duration::seconds(30);
        let made = stage.ask(Ask::create().header("prefer", "wait=6"));
        assert_eq!((made.status, made.state()), (202, "creating".into()), "{made:?}");
        let id = made.id();
        stage.world.sim_mut().set_lock(vmid_of(&id), Some("snapshot"));
        assert_eq!(stage.ask(Ask::one(&id)).state(), "creating", "{}", stage.told());
        stage.world.advance(Duration::minutes(1));
        assert_eq!(stage.ask(Ask::one(&id)).state(), "running", "{}", stage.told());
    }
}

/// What is in use stays protected, whichever way PVE says so.
#[test]
fn a_snapshot_in_use_stays_protected() {
    for kind in BOTH {
        let stage = zfs(kind, Setup::default());
        let id = created(&stage, json!({}));
        let snapshot =
            act(&stage, &id, "snapshots", json!({})).json()["snapshotId"].as_str().expect("an id").to_owned();
        let path = format!("/api/snapshots/{snapshot}");
        stage.world.settle();
        assert_eq!(stage.ask(Ask::get(&*path).header("prefer", "wait=20")).json()["status"], "ready");
        let made = created(&stage, json!({"snapshotId": snapshot}));
        let refused = stage.ask(Ask::delete(&*path));
        assert_eq!((refused.status, refused.code()), (409, "snapshot-in-use".into()), "{refused:?}");
        stage.world.settle();
        let protected = |vmid| stage.world.sim().guest(vmid).is_some_and(|it| it.config.is("protection"));
        assert!(protected(vmid_of(&snapshot)), "{kind:?} {}", stage.told());
        assert!(matches!(stage.ask(Ask::end(&made)).status, 202 | 204));
        stage.world.settle();
        assert!(matches!(stage.ask(Ask::delete(&*path)).status, 202 | 204));
    }
}
