//! Templates that snapshots become: half made, finished, in use and deleted.

use crate::stage::prelude::*;

#[test]
fn nothing_is_taken_of_what_is_half_made() {
    let stage = Stage::new();
    let id = stage.half_made(json!({}));
    let taken = stage.act(&id, "snapshots", json!({}));
    assert_eq!(taken.refusal(), "409 still-creating", "{taken:?}");
}

/// PVE calls a VM a template before its disks are such, and can fail in between.
#[test]
fn a_half_made_template_is_finished() {
    let stage = Stage::of_vms();
    let id = stage.created(json!({}));
    stage.world.sim_mut().fail_next("qmtemplate", "no space left");
    let taken = stage.act(&id, "snapshots", json!({}));
    let snapshot = taken.snapshot_id();
    let look = || stage.ask(Ask::snapshot(&snapshot).wait(10));
    stage.world.settle();
    assert!(stage.world.sim().guest(vmid_of(&snapshot)).is_some_and(|it| it.config.is("template")));
    assert_eq!(look().json()["status"], "pending");
    stage.world.advance(Duration::minutes(2));
    assert_eq!(look().json()["status"], "ready", "{}", stage.told());
    stage.created(json!({"snapshotId": snapshot}));
}

/// What is in use stays protected, whichever way PVE says so.
#[test]
fn a_snapshot_in_use_stays_protected() {
    for kind in BOTH {
        let stage = Stage::on_storage(kind, StorageKind::ZfsPool);
        let id = stage.created(json!({}));
        let snapshot = stage.act(&id, "snapshots", json!({})).snapshot_id();
        let path = format!("/api/snapshots/{snapshot}");
        stage.world.settle();
        assert_eq!(stage.ask(Ask::get(&*path).wait(20)).json()["status"], "ready");
        let made = stage.created(json!({"snapshotId": snapshot}));
        let refused = stage.ask(Ask::delete(&*path));
        assert_eq!(refused.refusal(), "409 snapshot-in-use", "{refused:?}");
        stage.world.settle();
        let protected = |vmid| stage.world.sim().guest(vmid).is_some_and(|it| it.config.is("protection"));
        assert!(protected(vmid_of(&snapshot)), "{kind:?} {}", stage.told());
        assert!(matches!(stage.ask(Ask::end(&made)).status, 202 | 204));
        stage.world.settle();
        assert!(matches!(stage.ask(Ask::delete(&*path)).status, 202 | 204));
    }
}

#[test]
fn what_is_in_use_is_refused_and_what_is_not_is_deleted() {
    let stage = Stage::on_storage(Kind::Lxc, StorageKind::ZfsPool);
    let id = stage.created(json!({}));
    let snapshot = stage.act(&id, "snapshots", json!({})).snapshot_id();
    stage.ready(&snapshot);
    let child = stage.created(json!({"snapshotId": snapshot}));
    let refused = stage.ask(Ask::delete(format!("/api/snapshots/{snapshot}")));
    assert_eq!(refused.refusal(), "409 snapshot-in-use", "{refused:?}");
    stage.world.settle();
    assert_eq!(stage.ask(Ask::end(&child)).status, 204);
    assert_eq!(stage.ask(Ask::delete(format!("/api/snapshots/{snapshot}"))).status, 204);
    assert_eq!(stage.ask(Ask::snapshot(&snapshot)).status, 404);
}

/// PVE's `protection` is taken off to delete it, and is back where that was refused.
#[test]
fn what_is_in_use_stays_protected() {
    let stage = Stage::on_storage(Kind::Lxc, StorageKind::ZfsPool);
    let id = stage.created(json!({}));
    let snapshot = stage.act(&id, "snapshots", json!({})).snapshot_id();
    stage.ready(&snapshot);
    stage.created(json!({"snapshotId": snapshot}));
    let protected = || stage.world.sim().guest(vmid_of(&snapshot)).unwrap().config.is("protection");
    assert!(protected());
    assert_eq!(stage.ask(Ask::delete(format!("/api/snapshots/{snapshot}"))).code(), "snapshot-in-use");
    stage.world.settle();
    assert!(protected(), "{}", stage.told());
}

/// Whatever PVE refuses for ten minutes is given up, in two runs, and only what is ours.
#[test]
fn a_template_that_is_never_made_is_given_up() {
    for refused in ["/template", "/config"] {
        let stage = Stage::new();
        let id = stage.created(json!({"ttlSeconds": null}));
        let source = vmid_of(&id).to_string();
        let status = if refused == "/template" { 500 } else { 403 };
        stage.world.fault_if(move |seen| {
            let hit = seen.is_write() && seen.path.ends_with(refused) && !seen.path.contains(&source);
            // Only a template's own marks are refused: condemning needs no tags of a half-made one.
            let hit = hit && (refused == "/template" || seen.body.contains("tags="));
            hit.then(|| Fault::Refused(status, "Permission check failed (/vms/1, VM.Allocate)".into()))
        });
        stage.act(&id, "snapshots", json!({}));
        let others = [TEMPLATE, vmid_of(&id), 100_500];
        let made = || stage.world.sim().guests().map(|it| it.vmid).find(|it| !others.contains(it));
        let exists = || made().is_some();
        let sweep = || stage.ask(Ask::gc());
        for _ in 0..3 {
            stage.world.advance(Duration::seconds(100));
            assert!(!sweep().body.contains("condemn"), "{}", stage.told());
        }
        // A stranger in the range of templates is nobody's to give up.
        stage.world.sim_mut().add(Spec::guest(100_500).description("somebody's"));
        stage.world.advance(Duration::seconds(400));
        assert!(sweep().body.contains("condemn"), "{refused}: {}", stage.told());
        assert!(exists());
        assert_eq!(stage.ask(Ask::get("/api/snapshots")).json()["items"].as_array().unwrap().len(), 1);
        stage.world.advance(Duration::seconds(61));
        assert!(sweep().body.contains("delete"), "{refused}: {}", stage.told());
        stage.world.settle();
        assert!(!exists(), "{refused}: {}", stage.told());
        assert!(stage.world.sim().guest(100_500).is_some());
        assert_eq!(stage.ask(Ask::one(&id)).state(), "running");
    }
}

#[test]
fn a_snapshot_of_a_vm_makes_vms() {
    let stage = Stage::of_vms();
    let id = stage.created(json!({}));
    let taken = stage.act(&id, "snapshots", json!({}));
    assert_eq!(taken.status, 201, "{taken:?}\n{}", stage.told());
    let snapshot = taken.snapshot_id();
    assert!(snapshot.starts_with("pvevm-"), "{snapshot}");
    let other = stage.created(json!({"snapshotId": snapshot}));
    assert!(other.starts_with("pvevm-") && other != id);
}
