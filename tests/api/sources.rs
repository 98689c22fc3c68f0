//! What is cloned is the template that was listed: a listing is older than a config, and does not tell whose a guest is
//! whose tags were taken off.

use crate::stage::prelude::*;

/// A template without a tag.
const PLAIN: u32 = 105;

/// A snapshot is its team's by its notes, whatever becomes of its tags.
#[test]
fn a_snapshot_without_its_tags_is_nobody_elses() {
    let stage = Stage::on_storage(Kind::Lxc, StorageKind::LvmThin);
    let id = stage.created(json!({}));
    let taken = stage.act(&id, "snapshots", json!({})).snapshot_id();
    stage.ready(&taken);
    let vmid = vmid_of(&taken);
    stage.world.sim_mut().admin_set(vmid, "tags", "");
    let clones = clones(&stage);
    for by in ["red", "ops"] {
        let refused = stage.ask(Ask::sandbox(json!({"templateVmid": vmid})).by(by));
        assert_eq!(refused.refusal(), "422 template-not-found", "{refused:?}");
    }
    let refused = stage.ask(copy(vmid));
    assert_eq!(refused.refusal(), "400 invalid-request", "{refused:?}");
    assert_eq!(self::clones(&stage), clones, "{}", stage.told());
    // The sweep gives it its tags again, by which its team finds it.
    let missing = stage.ask(Ask::sandbox(json!({"snapshotId": taken})));
    assert_eq!(missing.status, 422, "{missing:?}");
    assert_eq!(stage.ask(Ask::gc()).status, 200);
    assert_eq!(stage.ask(Ask::sandbox(json!({"snapshotId": taken}))).status, 201, "{}", stage.told());
}

/// 1. A template is destroyed, and PVE gives its VMID to somebody's guest.
/// 2. PVE's listing calls that a template, until its daemon has looked again.
/// 3. A copy of it would be started, and offered to all teams.
#[test]
fn a_guest_that_the_listing_takes_for_a_template_is_not_copied() {
    let stage = with_plain();
    stage.world.sim_mut().silence_stats(true);
    stage.world.sim_mut().admin_set(PLAIN, "template", "0");
    let before = stage.world.sim().snapshot_of(|_| true);
    let sandbox = Ask::sandbox(json!({"templateVmid": PLAIN}));
    for (ask, told) in [(copy(PLAIN), "400 invalid-request"), (sandbox, "422 not-a-template")] {
        assert_eq!(stage.ask(ask).refusal(), told);
    }
    assert_eq!((clones(&stage), stage.world.sim().snapshot_of(|_| true)), (0, before));
}

/// PVE locks a template while it is copied: whoever copies it too comes after that.
#[test]
fn a_source_that_is_copied_already_is_waited_for() {
    let stage = with_plain();
    stage.world.sim_mut().set_lock(PLAIN, Some("disk"));
    let asked = stage.world.spawn(stage.pending(copy(PLAIN)));
    stage.world.advance(Duration::seconds(3));
    assert!(!asked.is_done(), "{:?}", asked.take());
    stage.world.sim_mut().set_lock(PLAIN, None);
    stage.world.advance(Duration::seconds(30));
    let begun = asked.take().unwrap();
    assert_eq!(begun.status, 202, "{begun:?}");
}

/// What nothing could be cloned from afterwards is not built at all.
#[test]
fn a_copy_on_a_storage_without_linked_clones_is_refused() {
    let mut sim = plain_sim(Setup::default());
    sim.add(Spec::template(PLAIN));
    sim.add_storage(Storage::new("files", StorageKind::Dir));
    let stage = Stage::on(sim);
    for (storage, told) in [("files", "422 linked-clone-unsupported"), ("nowhere", "400 invalid-request")] {
        let body = json!({"fromTemplate": PLAIN, "preset": "9vcpu_9gb_9gb", "storage": storage});
        let refused = stage.ask(Ask::post("/api/templates", body).by("ops"));
        assert_eq!(refused.refusal(), told, "{refused:?}");
    }
    assert_eq!(clones(&stage), 0);
}

/// 1. A copy takes longer than the request that asks for it.
/// 2. It fails: PVE removes what it has made, whose it was to be included.
/// 3. Whoever looks is told why, by the only copy of that time.
#[test]
fn a_copy_that_fails_later_is_told() {
    const SAID: &str = "clone failed: no space left on device";
    let stage = with_plain();
    // An earlier one's failure tells nothing of this one.
    stage.world.sim_mut().fail_next("vzclone", "an earlier failure");
    assert_eq!(stage.ask(Ask::create()).status, 502);
    stage.world.advance(Duration::seconds(60));
    stage.world.sim_mut().fail_next("vzclone", "no space left on device");
    let template = stage.ask(copy(PLAIN).wait(0));
    assert_eq!(template.status, 202, "{template:?}");
    let look = || stage.ask(Ask::get(format!("/api/templates/{}", template.id())).by("ops"));
    stage.world.settle();
    let told = look();
    assert_eq!(told.json()["status"], "building", "{told:?}");
    assert!(told.json()["output"].as_str().is_some_and(|it| it.contains(SAID)), "{told:?}");
    stage.world.advance(Duration::seconds(100));
    let told = look();
    assert_eq!(told.refusal(), "507 storage-full", "{told:?}\n{}", stage.told());
    assert!(told.body.contains(SAID), "{told:?}");
    stage.world.sim_mut().fail_next("vzclone", "no space left on device");
    let sandbox = stage.ask(Ask::create().wait(0));
    assert_eq!(sandbox.status, 202, "{sandbox:?}");
    stage.world.settle();
    let told = stage.ask(Ask::one(&sandbox.id()));
    assert_eq!(told.shows(), "200 creating", "{told:?}");
    let problem = told.json()["problem"].to_string();
    // PVE's words may name what is another team's.
    assert!(problem.contains("no room") && !problem.contains(SAID), "{told:?}");
}

/// The storage's lock is nobody's: no other request was faster, and PVE removes what it had made.
#[test]
fn a_copy_that_does_not_get_the_storages_lock_has_failed() {
    const SAID: &str = "can't lock file '/var/lock/pve-manager/pve-storage-local-lvm' - got timeout";
    let stage = with_plain();
    stage.world.sim_mut().fail_next("vzclone", SAID);
    let told = stage.ask(Ask::create().wait(25));
    assert_eq!(told.refusal(), "502 clone-failed", "{told:?}\n{}", stage.told());
    assert!(told.body.contains("pve-storage-local-lvm"), "{told:?}");
    // Who asks later is told too.
    stage.world.advance(Duration::seconds(100));
    stage.world.sim_mut().fail_next("vzclone", SAID);
    let sandbox = stage.ask(Ask::create().wait(0));
    stage.world.settle();
    let told = stage.ask(Ask::one(&sandbox.id()));
    assert!(told.json()["problem"].is_string(), "{told:?}");
}

/// Whoever has waited for it is told why, as whoever looks later is.
#[test]
fn a_snapshots_copy_that_fails_is_told_with_its_cause() {
    let stage = Stage::on_storage(Kind::Lxc, StorageKind::ZfsPool);
    let id = stage.created(json!({}));
    // PVE takes its own snapshot first, and copies that.
    stage.world.sim_mut().fail_next("vzclone", "no space left on device");
    stage.world.advance(Duration::seconds(100));
    let told = stage.ask(Ask::act(&id, "snapshots", json!({})).wait(25));
    assert_eq!(told.refusal(), "507 storage-full", "{told:?}\n{}", stage.told());
    stage.world.settle();
    let left = stage.world.sim().guest(vmid_of(&id)).map(|it| it.config.snapshots.len());
    assert_eq!(left, Some(0), "{}", stage.told());
}

/// Of two copies of that time, each may be its own.
#[test]
fn what_may_be_anothers_failure_is_not_told() {
    let stage = with_plain();
    stage.world.sim_mut().fail_next("vzclone", "no space left on device");
    let template = stage.ask(copy(PLAIN).wait(0));
    stage.world.settle();
    assert_eq!(stage.ask(Ask::create()).status, 201);
    stage.world.advance(Duration::seconds(100));
    let told = stage.ask(Ask::get(format!("/api/templates/{}", template.id())).by("ops"));
    assert_eq!(told.refusal(), "404 not-found", "{told:?}");
}

/// 1. PVE crashes while it copies; disks may be missing, and the config does not tell.
/// 2. Root takes the lock off.
/// 3. What is left is offered to nobody, and goes.
#[test]
fn a_torn_copy_is_never_offered() {
    let stage = with_plain();
    stage.world.sim_mut().setup_mut().full_clone_secs = Duration::minutes(2);
    let begun = stage.ask(copy(PLAIN));
    stage.world.sim_mut().crash(PLAIN);
    stage.world.sim_mut().set_lock(PLAIN, None);
    stage.world.sim_mut().set_lock(vmid_of(&begun.id()), None);
    for _ in 0..20 {
        let told = stage.ask(Ask::get(format!("/api/templates/{}", begun.id())).by("ops"));
        assert_ne!(told.json()["status"], "ready", "{told:?}\n{}", stage.told());
        stage.world.advance(Duration::seconds(60));
        stage.ask(Ask::gc());
    }
    assert!(!stage.exists(&begun.id()), "{}", stage.told());
}

fn with_plain() -> Stage {
    let mut sim = plain_sim(Setup::default());
    sim.add(Spec::template(PLAIN));
    Stage::on(sim)
}

fn copy(vmid: u32) -> Ask {
    let body = json!({"fromTemplate": vmid, "preset": "9vcpu_9gb_9gb", "guest": false});
    Ask::post("/api/templates", body).by("ops")
}

fn clones(stage: &Stage) -> usize {
    stage.world.requests().iter().filter(|it| it.method == "POST" && it.path.ends_with("/clone")).count()
}
