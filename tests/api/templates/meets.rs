//! Where templates meet teams, storages, snapshots and the sweep.

use sha2::{Digest, Sha256};

use super::{PRESET, body, build, cleaned_by_root, gc, get, sim, stage, until};
use crate::{ids::old_id, stage::prelude::*};

/// "The team's snapshots and all presets": also one that an admin's team has made.
#[test]
fn a_preset_is_listed_for_everybody() {
    let stage = stage();
    let made = until(&stage, &build(&body()), "ready");
    let seen = stage.ask(Ask::get("/api/snapshots").by("red"));
    assert!(seen.body.contains(&format!("\"presetId\":\"{PRESET}\"")), "{seen:?}");
    let of_red = stage.ask(Ask::sandbox(json!({"snapshotId": made.json()["snapshotId"]})).by("red"));
    assert_eq!(of_red.status, 201, "{of_red:?}");
    // What is listed to delete it is not theirs.
    assert_eq!(stage.ask(Ask::delete(format!("/api/snapshots/{}", made.id())).by("red")).status, 404);
}

/// Presets are everybody's: a key of the admin's team that is no admin's deletes none.
#[test]
fn a_preset_is_deleted_by_admins_alone() {
    let hash = |key: &str| hex::encode(Sha256::digest(key));
    let keys = format!("ops:{} ops:{}:admin", hash("key-blue"), hash("key-ops"));
    let world = World::new(sim(Version::V9, StorageKind::LvmThin), 7);
    let stage = Stage::of(world, &[("EDGE_API_KEYS", &keys)]);
    let made = until(&stage, &build(&body()), "ready");
    let answer = stage.ask(Ask::delete(format!("/api/snapshots/{}", made.id())));
    assert_eq!(answer.refusal(), "403 forbidden", "{answer:?}\n{}", stage.told());
    assert_eq!(stage.ask(get(&made.id())).json()["status"], "ready");
    assert_eq!(stage.ask(Ask::delete(format!("/api/snapshots/{}", made.id())).by("ops")).status, 204);
}

/// While an archive arrives its storage may come to have less room than another: it is not taken to be there.
#[test]
fn an_archive_is_used_only_where_it_is() {
    let mut cluster = sim(Version::V9, StorageKind::LvmThin);
    cluster.add_storage(Storage { id: "other".into(), ..Storage::local() });
    let stage = Stage::on(cluster);
    // Another one's file fills the first a little, between two requests.
    let first = stage.ask(build(&body()).wait(0));
    assert_eq!(first.json()["status"], "downloading", "{first:?}");
    let archive = first.json()["archive"].as_str().unwrap().to_owned();
    stage.world.sim_mut().add_archive(&archive.replace("debian", "another"));
    for _ in 0..10 {
        let answer = stage.ask(build(&body()));
        assert!(matches!(answer.status, 200..=202), "{answer:?}\n{}", stage.told());
        stage.world.advance(Duration::seconds(3));
    }
    until(&stage, &build(&body()), "ready");
}

/// A VM's number in a container's id is nobody's template, and no conflict.
#[test]
fn a_guest_of_another_kind_is_not_found() {
    let stage = stage();
    stage.world.sim_mut().add(Spec::vm_template(100_017));
    let id = &*old_id(100_017);
    for ask in [get(id), Ask::snapshot(id), Ask::delete(format!("/api/snapshots/{id}"))] {
        let answer = stage.ask(ask.clone());
        assert_eq!(answer.status, 404, "{ask:?} {answer:?}");
    }
}

/// A snapshot that is copied to the storage that is set can be cloned there, or is not made.
#[test]
fn a_snapshot_is_copied_where_it_can_be_cloned() {
    let mut cluster = sim(Version::V9, StorageKind::ZfsPool);
    cluster.add_storage(Storage::new("files", StorageKind::Dir));
    let world = World::new(cluster, 7);
    let plain = Stage::of(world.clone(), &[]);
    until(&plain, &build(&body()), "ready");
    let stage = Stage::of(world, &[("PVE_STORAGE", "files")]);
    let id = stage.ask(Ask::sandbox(json!({"preset": PRESET}))).id();
    let taken = stage.ask(Ask::act(&id, "snapshots", json!({})).wait(20));
    if taken.status == 422 {
        assert_eq!(taken.code(), "linked-clone-unsupported");
        return;
    }
    let own = taken.snapshot_id();
    for _ in 0..20 {
        stage.world.advance(Duration::seconds(5));
        stage.ask(gc());
    }
    let made = stage.ask(Ask::sandbox(json!({"snapshotId": own})));
    assert_eq!(made.status, 201, "{taken:?} {made:?}\n{}", stage.told());
}

/// Nobody has tried for ten minutes: that is no reason to give up.
#[test]
fn what_was_not_tried_is_not_given_up() {
    let stage = stage();
    let mut wanted = body();
    wanted["hookscript"] = json!("local:snippets/hook.sh");
    let waiting = until(&stage, &build(&wanted), "needs-root");
    let id = waiting.id();
    assert_eq!(stage.ask(cleaned_by_root(&stage, &waiting)).json()["status"], "needs-root");
    stage.world.sim_mut().admin_set(vmid_of(&id), "hookscript", "local:snippets/hook.sh");
    // The sweep commits it, and a backup begins at that moment.
    stage.ask(gc());
    stage.world.sim_mut().set_lock(vmid_of(&id), Some("backup"));
    stage.world.advance(Duration::minutes(20));
    stage.ask(gc());
    stage.world.sim_mut().set_lock(vmid_of(&id), None);
    for _ in 0..6 {
        stage.ask(gc());
        stage.world.advance(Duration::minutes(5));
    }
    let shown = stage.ask(get(&id));
    assert_eq!(shown.json()["status"], "ready", "{shown:?}\n{}", stage.told());
}

/// What is answered 202 and does not come to pass leaves the template as protected as it was.
#[test]
fn a_deletion_that_fails_unseen_leaves_it_protected() {
    let stage = Stage::on(sim(Version::V9, StorageKind::ZfsPool));
    let id = until(&stage, &build(&body()), "ready").id();
    let used = stage.ask(Ask::sandbox(json!({"preset": PRESET})));
    assert_eq!(used.status, 201);
    let answer = stage.ask(Ask::delete(format!("/api/templates/{id}")).by("ops").wait(0));
    assert!(matches!(answer.status, 202 | 409), "{answer:?}");
    stage.world.settle();
    stage.ask(gc());
    let sim = stage.world.sim();
    assert_eq!(sim.guest(vmid_of(&id)).unwrap().config.get("protection"), Some("1"), "{answer:?}");
}

/// A snapshot of a sandbox that an image made keeps what the image says of itself, and no token.
#[test]
fn a_snapshot_keeps_the_images_environment() {
    let stage = stage();
    let mut wanted = body();
    wanted.as_object_mut().unwrap().remove("appliance");
    wanted["image"] = json!("registry.test/sandbox:3");
    until(&stage, &build(&wanted), "ready");
    let id = stage.ask(Ask::sandbox(json!({"preset": PRESET}))).id();
    let taken = stage.ask(Ask::act(&id, "snapshots", json!({})).wait(20));
    let own = taken.snapshot_id();
    stage.world.advance(Duration::seconds(30));
    stage.ask(Ask::snapshot(&own).wait(20));
    let sim = stage.world.sim();
    let env = |vmid| sim.guest(vmid).unwrap().config.get("env").unwrap_or_default().to_owned();
    assert!(env(vmid_of(&id)).contains("PATH=") && env(vmid_of(&id)).contains("TOKEN"));
    assert!(
        env(vmid_of(&own)).contains("PATH=") && !env(vmid_of(&own)).contains("TOKEN"),
        "{:?}",
        env(vmid_of(&own))
    );
}

/// A preset's name may say what nobody can have: that is told before anything is got.
#[test]
fn a_presets_sizes_have_bounds() {
    for (preset, field) in
        [("9000vcpu_1gb_8gb", "cpu"), ("1vcpu_999999gb_8gb", "memory"), ("1vcpu_1gb_999999gb", "disk")]
    {
        let stage = stage();
        let mut wanted = body();
        wanted["preset"] = json!(preset);
        let answer = stage.ask(build(&wanted));
        assert_eq!(answer.refusal(), "400 invalid-request", "{preset}: {answer:?}");
        assert_eq!(answer.json()["errors"][0]["field"], field, "{answer:?}");
        assert_eq!(stage.world.requests().len(), 0);
    }
}

/// Promoted and built at once: never one version twice.
#[test]
fn a_promoted_one_and_a_built_one_get_different_versions() {
    for seed in 0..12 {
        let stage = Stage::of(World::new(sim(Version::V9, StorageKind::LvmThin), seed), &[]);
        until(&stage, &build(&body()).header("idempotency-key", "first"), "ready");
        let id = stage.ask(Ask::sandbox(json!({"preset": PRESET}))).id();
        let beside = stage.beside("b", &[]);
        let two = build(&body()).header("idempotency-key", "two");
        let promote = Ask::act(&id, "snapshots", json!({"promote": {"preset": PRESET}}));
        let promote = promote.by("ops").wait(20);
        let waiting = until(&beside, &two, "needs-root");
        let built = beside.pending(cleaned_by_root(&beside, &waiting));
        let answers = stage.world.run_all(vec![stage.pending(promote), built]);
        for _ in 0..6 {
            stage.world.advance(Duration::seconds(20));
            stage.ask(gc());
        }
        until(&beside, &two, "ready");
        let all = stage.ask(Ask::get("/api/snapshots").by("ops"));
        let items = all.json()["items"].as_array().unwrap().clone();
        let mut versions: Vec<u64> = items.iter().filter_map(|it| it["version"].as_u64()).collect();
        versions.sort_unstable();
        assert_eq!(versions, [1, 2, 3], "seed {seed} {answers:?}\n{}", stage.told());
    }
}

/// Who may see nothing is told so, and not that there is nothing.
#[test]
fn a_blind_token_is_told() {
    let stage = stage();
    let id = until(&stage, &build(&body()), "ready").id();
    for who in ["edge@pve", "edge@pve!edge"] {
        stage.world.sim_mut().revoke(who);
    }
    let answer = stage.ask(get(&id));
    assert_eq!(answer.code(), "pve-no-audit", "{answer:?}");
}

/// A version of a preset that nothing can have the sizes of is not made.
#[test]
fn a_promoted_presets_sizes_have_bounds() {
    let stage = stage();
    until(&stage, &build(&body()), "ready");
    let id = stage.ask(Ask::sandbox(json!({"preset": PRESET})).by("ops")).id();
    let promote = json!({"promote": {"preset": "9000vcpu_1gb_8gb"}});
    let before = stage.world.requests().len();
    let answer = stage.ask(Ask::act(&id, "snapshots", promote).by("ops"));
    assert_eq!(answer.refusal(), "400 invalid-request", "{answer:?}");
    assert!(answer.body.contains("promote.preset"), "{answer:?}");
    assert_eq!(stage.world.requests().len(), before);
}
