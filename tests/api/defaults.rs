//! Defaults of a template: as which user and where commands and files of its sandboxes begin.

use crate::stage::{SECRET, prelude::*};

const PRESET: &str = "2vcpu_2gb_8gb";

fn stage() -> Stage {
    Stage::with_daemon(Kind::Lxc, Setup::default(), SECRET)
}

/// A sandbox of a preset that an admin has made of another with these defaults.
fn made_with(stage: &Stage, from: &str, defaults: &Value) -> String {
    let mut promote = json!({"preset": PRESET});
    promote.as_object_mut().expect("a promotion").extend(defaults.as_object().cloned().unwrap_or_default());
    let ask = Ask::post(format!("/api/sandboxes/{from}/snapshots"), json!({"promote": promote})).by("ops");
    let taken = stage.ask(ask);
    assert!(matches!(taken.status, 201 | 202), "{taken:?}");
    stage.world.settle();
    let snapshot = taken.snapshot_id();
    assert_eq!(stage.ask(Ask::get(format!("/api/snapshots/{snapshot}")).by("ops")).json()["status"], "ready");
    stage.created(json!({"preset": PRESET}))
}

/// User and folder of a process.
fn begins(stage: &Stage, id: &str, body: Value) -> (String, String) {
    let started = stage.ask(Ask::post(format!("/api/sandboxes/{id}/processes"), body)).json();
    let told = |member: &str| started[member].as_str().unwrap_or_else(|| panic!("{started}")).to_owned();
    (told("user"), told("cwd"))
}

#[test]
fn sandboxes_of_a_template_begin_where_it_says() {
    let stage = stage();
    let first = stage.created(json!({}));
    assert_eq!(begins(&stage, &first, json!({"command": "x"})), ("root".into(), "/root".into()));
    let id = made_with(&stage, &first, &json!({"user": "1000", "cwd": "/srv"}));
    assert_eq!(begins(&stage, &id, json!({"command": "x"})), ("1000".into(), "/srv".into()));
    let said = json!({"command": "x", "user": "root", "cwd": "/tmp"});
    assert_eq!(begins(&stage, &id, said), ("root".into(), "/tmp".into()));
    // Relative paths too, and what is made of it has them also.
    let next = made_with(&stage, &id, &json!({"cwd": "/opt"}));
    assert_eq!(begins(&stage, &next, json!({"argv": ["x"]})), ("1000".into(), "/opt".into()));
    for (at, path) in [("/opt/note", "note"), ("/root/note", "/root/note")] {
        stage.world.sim_mut().put_file(vmid_of(&next), at, "kept");
        let read = stage.ask(Ask::get(format!("/api/sandboxes/{next}/files?path={path}")));
        assert_eq!((read.status, read.body.as_str()), (200, "kept"), "{path} {read:?}");
    }
    assert_eq!(stage.ask(Ask::get(format!("/api/sandboxes/{first}/files?path=note"))).status, 404);
}

#[test]
fn what_cannot_be_a_default_is_refused() {
    let stage = stage();
    let id = stage.created(json!({}));
    for (member, value) in [
        ("user", ""),
        ("user", "a:b"),
        ("cwd", "relative"),
        ("cwd", ""),
        ("cwd", &*format!("/{}", "x".repeat(256))),
    ] {
        let promote = json!({"promote": {"preset": PRESET, member: value}});
        let answer = stage.ask(Ask::post(format!("/api/sandboxes/{id}/snapshots"), promote).by("ops"));
        assert_eq!(answer.refusal(), "400 invalid-request", "{member} {value}");
        assert_eq!(answer.json()["errors"][0]["field"], format!("promote.{member}"));
        let template = json!({"appliance": "debian-13-standard", "preset": PRESET, member: value});
        let answer = stage.ask(Ask::post("/api/templates", template).by("ops"));
        assert_eq!(answer.json()["errors"][0]["field"], member, "{answer:?}");
    }
    let execd =
        json!({"appliance": "debian-13-standard", "preset": PRESET, "daemon": "execd", "user": "agent"});
    assert_eq!(stage.ask(Ask::post("/api/templates", execd).by("ops")).refusal(), "422 unsupported");
    let other = Stage::new();
    let id = other.created(json!({}));
    let promote = json!({"promote": {"preset": PRESET, "cwd": "/srv"}});
    let answer = other.ask(Ask::post(format!("/api/sandboxes/{id}/snapshots"), promote).by("ops"));
    assert_eq!(answer.refusal(), "422 unsupported");
}
