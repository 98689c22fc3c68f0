//! Locks of PVE: those that a crash left are told with the command that removes them, others are waited for.

use crate::stage::prelude::*;

#[test]
fn only_a_crashed_clone_is_called_one() {
    let stage = Stage::new();
    // A backup of the template: no clone runs, and nothing has crashed.
    stage.world.sim_mut().set_lock(TEMPLATE, Some("backup"));
    let answer = stage.ask(Ask::create());
    assert_eq!(answer.refusal(), "503 template-locked");
    assert_eq!(answer.json()["lock"], "backup");
    assert!(answer.retry_after().is_some() && answer.json()["retryable"] == true, "{answer:?}");
    // Nobody knows which clones run.
    stage.world.sim_mut().set_lock(TEMPLATE, Some("disk"));
    stage
        .world
        .fault_if(|seen| seen.path.contains("/tasks?").then(|| Fault::Refused(500, "got timeout".into())));
    assert_eq!(stage.ask(Ask::create()).code(), "template-busy");
    stage.world.clear_faults();
    assert_eq!(stage.ask(Ask::create()).code(), "template-lock-stale");
}

/// Nothing tells any more whose it was, and its VMID is taken for ever.
#[test]
fn a_destruction_that_crashed_is_told() {
    for kind in BOTH {
        let stage = Stage::with(kind);
        let id = stage.created(json!({}));
        stage.world.sim_mut().setup_mut().destroy_secs = Duration::seconds(600);
        assert_eq!(stage.ask(Ask::end(&id)).status, 202);
        stage.world.advance(Duration::seconds(550));
        let lock =
            || stage.world.sim().guest(vmid_of(&id)).and_then(|it| it.config.lock().map(str::to_owned));
        assert_eq!(lock().as_deref(), Some("destroyed"));
        assert!(!stage.sweep().body.contains("unlock"), "it is at work");
        stage.world.sim_mut().crash(vmid_of(&id));
        let tool = if kind == Kind::Lxc { "pct" } else { "qm" };
        let report = stage.sweep();
        assert!(report.body.contains(&format!("{tool} unlock {}", vmid_of(&id))), "{report:?}");
        assert_eq!(lock().as_deref(), Some("destroyed"));
    }
}

/// Whoever unlocks what is being copied breaks the copy.
#[test]
fn a_long_copy_is_not_called_crashed() {
    let stage = Stage::on_storage(Kind::Lxc, StorageKind::ZfsPool);
    stage.world.sim_mut().setup_mut().full_clone_secs = Duration::minutes(30);
    let id = stage.created(json!({"ttlSeconds": null}));
    stage.world.advance(Duration::minutes(15));
    let taken = stage.act(&id, "snapshots", json!({}));
    assert_eq!(taken.status, 202, "{taken:?}");
    stage.world.advance(Duration::minutes(15));
    let report = stage.sweep();
    assert!(!report.body.contains("unlock"), "{report:?}");
    let copy = vmid_of(taken.json()["snapshotId"].as_str().expect("an id"));
    stage.world.sim_mut().crash(vmid_of(&id));
    let report = stage.sweep();
    assert!(report.body.contains(&format!("pct unlock {copy}")), "{report:?}");
}

/// The task of a copy is about its source.
#[test]
fn a_template_whose_copy_crashed_is_told() {
    const SOURCE: u32 = 105;
    let mut sim = plain_sim(Setup { full_clone_secs: Duration::minutes(30), ..Setup::default() });
    sim.add(Spec::template(SOURCE));
    let stage = Stage::on(sim);
    let body = json!({"fromTemplate": SOURCE, "preset": "9vcpu_9gb_9gb", "guest": false});
    let begun = stage.ask(Ask::post("/api/templates", body).by("ops"));
    assert_eq!(begun.status, 202, "{begun:?}");
    let look = || stage.ask(Ask::get(format!("/api/templates/{}", begun.id())).by("ops"));
    stage.world.advance(Duration::minutes(15));
    assert_eq!(look().json()["status"], "building");
    let report = stage.sweep();
    assert!(!report.body.contains("unlock"), "{report:?}");
    stage.world.sim_mut().crash(SOURCE);
    let told = look();
    assert_eq!(told.refusal(), "503 template-lock-stale", "{told:?}");
    let command = format!("pct unlock {}", vmid_of(&begun.id()));
    assert!(told.body.contains(&command), "{told:?}");
    let report = stage.sweep();
    assert!(report.body.contains(&command), "{report:?}");
}

/// A crashed rollback, snapshot or suspension, too, is for root alone to clear.
#[test]
fn every_lock_of_ours_that_lasts_is_told() {
    for lock in ["rollback", "snapshot", "snapshot-delete", "disk", "suspending"] {
        let stage = Stage::of_vms();
        let id = stage.created(json!({"ttlSeconds": 60}));
        stage.world.advance(Duration::minutes(11));
        stage.world.sim_mut().set_lock(vmid_of(&id), Some(lock));
        let report = stage.sweep();
        assert!(report.body.contains(&format!("qm unlock {}", vmid_of(&id))), "{lock}: {report:?}");
    }
}
