//! Tags and notes that others have changed or taken over: nothing is lost, doubled or anybody else's by that.

use crate::stage::prelude::*;

#[test]
fn tags_that_an_admin_clears_cost_nobody_a_sandbox() {
    let stage = Stage::new();
    let id = stage.created(json!({}));
    stage.world.sim_mut().admin_set(vmid_of(&id), "tags", "");
    stage.world.advance(Duration::minutes(11));
    stage.sweeps();
    assert!(stage.runs(&id), "{}", stage.told());
    assert_eq!(stage.ask(Ask::one(&id)).state(), "running");
    // The next change writes them again.
    assert_eq!(stage.ask(Ask::extend(&id, 3600)).status, 200);
    assert_eq!(stage.ask(Ask::get("/api/sandboxes")).json()["items"][0]["id"], *id);
}

#[test]
fn long_notes_keep_nothing_alive() {
    let stage = Stage::new();
    let id = stage.created(json!({"ttlSeconds": 60}));
    stage.world.sim_mut().admin_describe(vmid_of(&id), &"x".repeat(8150));
    stage.world.advance(Duration::seconds(61));
    stage.sweeps();
    assert!(!stage.exists(&id), "{}", stage.told());
}

#[test]
fn an_expiry_beyond_all_numbers_breaks_nothing() {
    let stage = Stage::new();
    let id = stage.created(json!({}));
    let mut sim = stage.world.sim_mut();
    let tags = sim.guest(vmid_of(&id)).unwrap().config.get("tags").unwrap().to_owned();
    let head = tags.split(';').find(|it| it.starts_with("pe1.")).unwrap();
    let mut fields: Vec<&str> = head.split('.').collect();
    fields[5] = "-9223372036854775808";
    sim.admin_set(vmid_of(&id), "tags", &fields.join("."));
    drop(sim);
    stage.sweep();
    assert_eq!(stage.ask(Ask::extend(&id, 60)).status, 200);
}

/// A listing does not find what an administrator's hand has changed: a sweep puts it right.
#[test]
fn tags_that_disagree_are_put_right() {
    for kind in BOTH {
        let stage = Stage::with(kind);
        let id = stage.created(json!({"ttlSeconds": 120, "metadata": {"a": "1"}}));
        let tags =
            || stage.world.sim().guest(vmid_of(&id)).map(|it| it.config.get("tags").unwrap_or("").to_owned());
        let old = tags().expect("tags");
        assert_eq!(stage.ask(Ask::extend(&id, 36_000)).status, 200);
        let right = tags();
        stage.world.advance(Duration::minutes(20));
        for wrong in ["", "web", &*old] {
            stage.world.sim_mut().admin_set(vmid_of(&id), "tags", wrong);
            let report = stage.sweep();
            assert!(report.body.contains("\"finish\"") && !report.body.contains("condemn"), "{report:?}");
            stage.world.advance(Duration::seconds(20));
            let listed = stage.ask(Ask::get("/api/sandboxes?metadata.a=1")).json();
            assert_eq!(listed["items"][0]["id"], *id, "{wrong}: {listed}");
            assert_eq!(stage.sweep().json()["actions"], json!([]));
        }
        assert_eq!(tags(), right);
        assert_eq!(stage.ask(Ask::one(&id)).state(), "running");
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
        let id = stage.created(json!({"metadata": {"a": "1"}}));
        let patched = stage.ask(Ask::change(&id, json!({"metadata": {"a": "2"}})));
        assert_eq!(patched.status, 200, "{patched:?}");
        assert_eq!(stage.act(&id, "stop", json!({})).status, 200);
        assert_eq!(stage.act(&id, "start", json!({})).status, 200);
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
    let id = stage.created(json!({}));
    let tags = stage.world.sim().guest(vmid_of(&id)).map(|it| it.config.get("tags").unwrap_or("").to_owned());
    assert!(tags.is_some_and(|it| !it.contains(SNAPSHOT)));
}
