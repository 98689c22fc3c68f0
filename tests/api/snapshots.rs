//! Snapshots: taken of a sandbox that goes on, outliving it, with nothing of it in them.

mod templates;

use crate::stage::prelude::*;

#[test]
fn a_snapshot_leaves_the_sandbox_as_it_is_and_makes_others() {
    for kind in [StorageKind::LvmThin, StorageKind::ZfsPool, StorageKind::Rbd] {
        let stage = Stage::on_storage(Kind::Lxc, kind);
        let id = stage.created(json!({"metadata": {"a": "1"}}));
        let taken = stage.act(&id, "snapshots", json!({"name": "base", "metadata": {"b": "2"}}));
        assert!(matches!(taken.status, 201 | 202), "{taken:?}\n{}", stage.told());
        let snapshot = taken.snapshot_id();
        let shown = stage.ready(&snapshot);
        assert_eq!(
            (shown.json()["name"].as_str(), &shown.json()["metadata"]["b"]),
            (Some("base"), &json!("2"))
        );
        stage.world.settle();
        // The sandbox goes on, without a snapshot of PVE's left on it.
        let source = stage.ask(Ask::one(&id));
        assert_eq!((source.state(), &source.json()["metadata"]["a"]), ("running".into(), &json!("1")));
        assert_eq!(stage.ask(Ask::exec(&id, "true")).status, 200);
        let left = stage.world.sim().guest(vmid_of(&id)).unwrap().config.snapshots.len();
        assert_eq!(left, 0, "{kind:?}");
        // And others are made from it, even after the sandbox is gone.
        assert_eq!(stage.ask(Ask::end(&id)).status, 204);
        let child = stage.ask(Ask::sandbox(json!({"snapshotId": snapshot})));
        assert_eq!(child.shows(), "201 running", "{child:?}");
        assert_eq!(child.json()["snapshotId"], snapshot);
        assert_eq!(stage.ask(Ask::exec(&child.id(), "true")).status, 200);
    }
}

/// PVE's listing calls it no template for some seconds: what was said to be ready is listed as that.
#[test]
fn a_listing_knows_at_once_what_is_ready() {
    let stage = Stage::on_storage(Kind::Lxc, StorageKind::LvmThin);
    let id = stage.created(json!({}));
    let listed = |stage: &Stage, id: &str| {
        let all = stage.ask(Ask::get("/api/snapshots")).json();
        let items = all["items"].as_array().unwrap();
        items.iter().find(|it| it["snapshotId"] == id).unwrap_or_else(|| panic!("{all}"))["status"].clone()
    };
    stage.world.sim_mut().silence_stats(true);
    let taken = stage.ask(Ask::act(&id, "snapshots", json!({})).wait(25));
    assert_eq!((taken.status, &taken.json()["status"]), (201, &json!("ready")), "{taken:?}");
    assert_eq!(listed(&stage, &taken.snapshot_id()), "ready");
    stage.world.settle();
    // One that is being made is not, whatever the guest was that had its VMID.
    let another = stage.ask(Ask::act(&id, "snapshots", json!({})).wait(0));
    assert_eq!(another.status, 202, "{another:?}");
    let snapshot = another.snapshot_id();
    assert_eq!(stage.ask(Ask::snapshot(&snapshot).wait(0)).json()["status"], "pending");
    stage.ready(&snapshot);
    assert_eq!(listed(&stage, &snapshot), "ready");
}

#[test]
fn nothing_of_the_sandbox_is_in_the_template() {
    let stage = Stage::of(
        World::new(plain_sim(Setup::default()), 3),
        &[
            ("PVE_IP_POOL_CIDR", "10.0.0.0/16"),
            ("PVE_GATEWAY", "10.0.0.1"),
            ("PVE_PUBLIC_DOMAIN", "sandbox.test"),
        ],
    );
    let id = stage.created(json!({"metadata": {"private": "yes"}}));
    let taken = stage.act(&id, "snapshots", json!({}));
    let snapshot = taken.snapshot_id();
    stage.ready(&snapshot);
    let sim = stage.world.sim();
    let (source, template) = (sim.guest(vmid_of(&id)).unwrap(), sim.guest(vmid_of(&snapshot)).unwrap());
    let text = template.config.text();
    let token = source.run.as_ref().unwrap().token.clone().unwrap();
    assert!(template.config.is("template"), "{text}");
    for secret in [token.as_str(), "CMUX_EXECD", "private", &format!("pe1.prod.{}", vmid_of(&id)), "gw="] {
        assert!(!text.contains(secret), "{secret} in\n{text}");
    }
    assert!(template.config.get("net0").unwrap().contains("ip=dhcp"), "{text}");
}

#[test]
fn a_snapshot_is_its_teams_and_a_preset_everybodys() {
    let stage = Stage::new();
    let id = stage.created(json!({}));
    let own = stage.act(&id, "snapshots", json!({})).snapshot_id();
    stage.ready(&own);
    let red = |ask: Ask| stage.ask(ask.by("red"));
    assert_eq!(red(Ask::snapshot(&own)).status, 404);
    assert_eq!(red(Ask::delete(format!("/api/snapshots/{own}"))).status, 404);
    assert_eq!(red(Ask::sandbox(json!({"snapshotId": own}))).code(), "template-not-found");
    assert!(!red(Ask::get("/api/snapshots")).body.contains(&own));
    assert!(stage.ask(Ask::get("/api/snapshots")).body.contains(&own));
    // Promotion is an admin's.
    let promote = json!({"promote": {"preset": "1vcpu_1gb_8gb"}});
    assert_eq!(stage.act(&id, "snapshots", promote.clone()).code(), "forbidden");
    stage.world.settle();
    let promoted = stage.ask(Ask::act(&id, "snapshots", promote).by("ops"));
    assert_eq!(
        (&promoted.json()["presetId"], &promoted.json()["version"]),
        (&json!("1vcpu_1gb_8gb"), &json!(2))
    );
    for _ in 0..20 {
        stage.world.advance(Duration::seconds(5));
        stage.ask(Ask::gc());
    }
    let config = red(Ask::get("/api/config/sandbox"));
    let versions = config.json()["presets"][0]["versions"].as_array().unwrap().len();
    assert_eq!(versions, 2, "{config:?}");
    let newest = red(Ask::sandbox(json!({"preset": "1vcpu_1gb_8gb"})));
    assert_eq!((newest.status, &newest.json()["snapshotId"]), (201, &json!("pvelxc_1vcpu_1gb_8gb_v2")));
}

#[test]
fn a_snapshot_is_no_sandbox_and_no_sandbox_a_snapshot() {
    let stage = Stage::new();
    let id = stage.created(json!({}));
    let snapshot = stage.act(&id, "snapshots", json!({})).snapshot_id();
    stage.ready(&snapshot);
    assert_eq!(stage.ask(Ask::one(&snapshot)).status, 404);
    assert_eq!(stage.ask(Ask::end(&snapshot)).status, 404);
    assert_eq!(stage.ask(Ask::exec(&snapshot, "true")).status, 404);
    assert_eq!(stage.ask(Ask::snapshot(&id)).status, 404);
    assert_eq!(stage.ask(Ask::delete(format!("/api/snapshots/{id}"))).status, 404);
    let items = stage.ask(Ask::get("/api/sandboxes")).json()["items"].as_array().unwrap().len();
    assert_eq!(items, 1);
}

#[test]
fn a_storage_without_snapshots_is_told() {
    // A template on a directory makes no linked clones, so the sandbox's disk is put there by an admin.
    let stage = Stage::new();
    let id = stage.created(json!({}));
    let mut sim = stage.world.sim_mut();
    sim.add_storage(Storage::new("local", StorageKind::Dir));
    sim.admin_set(vmid_of(&id), "rootfs", "local:200000/vm-200000-disk-0.raw,size=8G");
    drop(sim);
    let refused = stage.act(&id, "snapshots", json!({}));
    assert_eq!(refused.refusal(), "422 snapshot-unsupported", "{refused:?}");
    assert!(refused.body.contains("local"), "{refused:?}");
}

#[test]
fn a_sandbox_outlives_its_copy() {
    let stage = Stage::new();
    let id = stage.created(json!({"ttlSeconds": 60}));
    let snapshot = stage.act(&id, "snapshots", json!({})).snapshot_id();
    stage.world.advance(Duration::seconds(120));
    assert_eq!(stage.ask(Ask::one(&id)).state(), "running");
    stage.ready(&snapshot);
}

/// Whoever dies on the way: asking again and the sweep leave either nothing or a template that is ready.
#[test]
fn every_request_of_a_snapshot_may_fail() {
    for fault in [Fault::NeverSent, Fault::Unanswered, Fault::Dies, Fault::DiesAfter] {
        for index in 0..16 {
            let stage = Stage::of(World::new(plain_sim(Setup::default()), index), &[]);
            let id = stage.created(json!({}));
            let at = stage.world.requests().len() + usize::try_from(index).unwrap();
            stage.world.fault_at(at, fault.clone());
            stage.try_ask(Ask::act(&id, "snapshots", json!({})));
            stage.world.clear_faults();
            for _ in 0..12 {
                stage.world.advance(Duration::seconds(20));
                stage.ask(Ask::gc());
            }
            stage.world.settle();
            let sim = stage.world.sim();
            for guest in sim.guests().filter(|it| it.vmid != TEMPLATE && it.vmid != vmid_of(&id)) {
                let text = guest.config.text();
                assert!(
                    guest.config.is("template"),
                    "{fault:?} at {index}: half made\n{text}\n{}",
                    stage.told()
                );
            }
            drop(sim);
            let shown = stage.ask(Ask::one(&id));
            assert_eq!(shown.state(), "running", "{fault:?} at {index}: {shown:?}");
        }
    }
}

#[test]
fn its_name_and_metadata_can_be_changed() {
    let stage = Stage::new();
    let id = stage.created(json!({}));
    let snapshot =
        stage.act(&id, "snapshots", json!({"name": "a", "metadata": {"x": "1", "y": "2"}})).snapshot_id();
    let path = format!("/api/snapshots/{snapshot}");
    let etag = stage.ready(&snapshot).header("etag").to_owned();
    let patch = |body: Value| Ask::patch(&*path, body);
    let changed =
        stage.ask(patch(json!({"name": "b", "metadata": {"x": null, "z": "3"}})).header("if-match", &*etag));
    assert_eq!((changed.status, &changed.json()["name"]), (200, &json!("b")), "{changed:?}");
    assert_eq!(changed.json()["metadata"], json!({"y": "2", "z": "3"}));
    assert_ne!(changed.header("etag"), etag);
    let shown = stage.ask(Ask::get(&*path));
    assert_eq!((&shown.json(), shown.header("etag")), (&changed.json(), changed.header("etag")));
    let listed = stage.ask(Ask::get("/api/snapshots"));
    let item =
        listed.json()["items"].as_array().unwrap().iter().find(|it| it["snapshotId"] == snapshot).cloned();
    assert_eq!(item.unwrap()["metadata"], json!({"y": "2", "z": "3"}));
    // Bad input, another version and others' keys change nothing.
    assert_eq!(stage.ask(patch(json!({"name": "c"})).header("if-match", etag)).status, 412);
    for (body, field) in [(json!({"ttlSeconds": 5}), "ttlSeconds"), (json!({"name": ""}), "name")] {
        let answer = stage.ask(patch(body));
        assert_eq!((answer.status, &answer.json()["errors"][0]["field"]), (400, &json!(field)), "{answer:?}");
    }
    assert_eq!(stage.ask(patch(json!({"name": "c"})).by("red")).status, 404);
    assert_eq!(stage.ask(Ask::patch("/api/snapshots/pvelxc_1vcpu_1gb_8gb_v1", json!({}))).status, 403);
    assert_eq!(stage.ask(Ask::get(&*path)).json()["name"], "b");
    assert_eq!(stage.ask(patch(json!({"name": null})).by("ops")).json()["name"], Value::Null);
}

/// What is copied goes where it is set, or where there is room; a linked clone stays.
#[test]
fn the_storage_of_a_full_copy() {
    let small = |kind| Storage { total: 20 << 30, ..Storage::new("store", kind) };
    let filled = |kind| Storage { total: 9 << 30, ..Storage::new("store", kind) };
    let (zfs, thin) = (StorageKind::ZfsPool, StorageKind::LvmThin);
    let set = [("PVE_STORAGE", "tank")];
    for (own, changes, expected) in [
        (Storage::new("store", zfs), &[][..], "store"),
        (Storage::new("store", zfs), &set, "tank"),
        // With the template's, 16 of 20 GiB are in use.
        (small(zfs), &[], "wide"),
        (filled(zfs), &set, "tank"),
        (filled(thin), &set, "store"),
    ] {
        let told = format!("{own:?} {changes:?}");
        let wide = Storage { total: 2 << 40, ..Storage::new("wide", zfs) };
        // More room, but no template there could be cloned.
        let plain = Storage { total: 4 << 40, ..Storage::new("plain", StorageKind::Dir) };
        let setup = Setup { storages: vec![own, Storage::new("tank", zfs), wide, plain], ..Setup::default() };
        let stage = Stage::of(World::new(plain_sim(setup), 3), changes);
        let id = stage.created(json!({}));
        let snapshot = stage.act(&id, "snapshots", json!({})).snapshot_id();
        stage.ready(&snapshot);
        let sim = stage.world.sim();
        let rootfs = sim.guest(vmid_of(&snapshot)).and_then(|it| it.config.get("rootfs")).unwrap_or_default();
        assert_eq!(rootfs.split(':').next(), Some(expected), "{told}: {rootfs}");
    }
}

#[test]
fn where_one_volume_cannot_be_linked_everything_is_copied() {
    let stage = Stage::on_storage(Kind::Lxc, StorageKind::LvmThin);
    let id = stage.created(json!({}));
    let refused = "Linked clone feature for 'nfs:200000/vm-200000-disk-1.raw' is not available";
    stage.world.fault_if(move |seen| {
        let links = seen.path.ends_with("/clone") && !seen.body.contains("full=1");
        links.then(|| Fault::Refused(500, refused.into()))
    });
    let taken = stage.act(&id, "snapshots", json!({}));
    assert!(matches!(taken.status, 201 | 202), "{taken:?}\n{}", stage.told());
    stage.world.clear_faults();
    stage.ready(&taken.snapshot_id());
}
