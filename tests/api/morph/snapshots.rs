//! Snapshots, and versions of presets.

use std::cell::RefCell;

use pve_edge_bed::sim::execd::Streamed;

use super::{made, stage};
use crate::stage::prelude::*;

#[test]
fn taken_listed_changed_used_deleted() {
    let stage = stage();
    let id = made(&stage, json!({})).id();
    let take = |body| Ask::act(&id, "snapshots", body);
    let taken = stage.ask(take(json!({"name": "deps", "metadata": {"repo": "app"}})));
    assert_eq!(taken.status, 201, "{taken:?}");
    let shown = taken.json();
    let snapshot = shown["snapshotId"].as_str().unwrap_or_default().to_owned();
    assert_eq!((&shown["name"], &shown["metadata"]), (&json!("deps"), &json!({"repo": "app"})));
    let path = format!("/api/snapshots/{snapshot}");
    assert_eq!(taken.header("location"), path);
    let got = stage.ask(Ask::get(&*path));
    assert_eq!(got.json(), shown);
    let listed = stage.ask(Ask::get("/api/snapshots")).json();
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(2), "{listed}");
    let patch = || Ask::patch(&*path, json!({"name": null, "metadata": {"step": "2"}}));
    let etag = got.header("etag").to_owned();
    let patched = stage.ask(patch().header("if-match", &etag)).json();
    assert_eq!(
        (&patched["name"], &patched["metadata"]),
        (&json!(null), &json!({"repo": "app", "step": "2"}))
    );
    assert_eq!(stage.ask(patch().header("if-match", etag)).status, 412);
    assert_eq!(stage.ask(Ask::patch(&*path, json!({"ttlSeconds": 5}))).code(), "invalid-request");
    let of_it = made(&stage, json!({"snapshotId": snapshot}));
    assert_eq!(of_it.json()["snapshotId"], json!(snapshot));
    assert_eq!(stage.ask(Ask::delete(&*path)).status, 204);
    assert_eq!((stage.ask(Ask::get(&*path)).status, stage.ask(Ask::delete(&*path)).status), (404, 404));
    assert_eq!(stage.ask(Ask::one(&id)).state(), "running");
    let hurried = stage.ask(take(json!({})).wait(0));
    assert_eq!((hurried.status, &hurried.json()["status"]), (202, &json!("pending")), "{hurried:?}");
    let done = stage.ask(Ask::get(hurried.header("location")).wait(20)).json();
    assert_eq!(done["status"], "ready");
}

#[test]
fn a_preset_gets_its_next_version() {
    let stage = stage();
    let id = made(&stage, json!({})).id();
    let promote = json!({"promote": {"preset": "1vcpu_1gb_8gb"}});
    let take = || Ask::act(&id, "snapshots", promote.clone());
    assert_eq!(stage.ask(take()).code(), "forbidden");
    let taken = stage.ask(take().by("ops"));
    assert_eq!((taken.status, &taken.json()["version"]), (201, &json!(2)), "{taken:?}");
    let made = made(&stage, json!({"preset": "1vcpu_1gb_8gb"}));
    assert_eq!(made.json()["snapshotId"], "morph_1vcpu_1gb_8gb_v2");
    let seen = stage.ask(Ask::get("/api/snapshots").by("red")).json();
    let ids: Vec<_> =
        seen["items"].as_array().into_iter().flatten().map(|it| it["snapshotId"].clone()).collect();
    assert_eq!(ids, ["morph_1vcpu_1gb_8gb_v1", "morph_1vcpu_1gb_8gb_v2"]);
    let preset = stage.ask(Ask::delete("/api/snapshots/morph_1vcpu_1gb_8gb_v2"));
    assert_eq!(preset.code(), "forbidden");
}

#[test]
fn an_answer_that_is_lost_takes_no_second_one() {
    let stage = stage();
    let id = made(&stage, json!({})).id();
    let before = stage.account().snapshots.len();
    let takes = |it: &Seen| it.method == "POST" && it.path.ends_with("/snapshot");
    stage.world.fault_once(takes, Fault::Unanswered);
    let taken = stage.act(&id, "snapshots", json!({}));
    assert_eq!(taken.status, 201, "{taken:?}");
    assert_eq!(stage.account().snapshots.len(), before + 1);
    stage.world.fault_if(move |it| takes(it).then_some(Fault::NeverSent));
    let refused = stage.act(&id, "snapshots", json!({}));
    assert_eq!(refused.code(), "morph-unreachable", "{refused:?}");
    assert_eq!(stage.account().snapshots.len(), before + 1);
}

/// Until it is made the version before it is the newest.
#[test]
fn a_version_that_is_being_made_is_not_taken_yet() {
    let stage = stage();
    let id = made(&stage, json!({})).id();
    stage.account().setup.snapshot = time::Duration::minutes(1);
    let promote = json!({"promote": {"preset": "1vcpu_1gb_8gb"}});
    let take = Ask::act(&id, "snapshots", promote).by("ops");
    assert_eq!(stage.ask(take.wait(0)).status, 202);
    for body in [json!({}), json!({"preset": "1vcpu_1gb_8gb"})] {
        assert_eq!(made(&stage, body).json()["snapshotId"], "morph_1vcpu_1gb_8gb_v1");
    }
    let config = stage.ask(Ask::get("/api/config/sandbox")).json();
    assert_eq!(config["presets"][0]["versions"].as_array().map(Vec::len), Some(1), "{config}");
    let early = stage.ask(Ask::sandbox(json!({"snapshotId": "morph_1vcpu_1gb_8gb_v2"})));
    assert_eq!(early.code(), "still-creating", "{early:?}");
    stage.world.advance(time::Duration::minutes(1));
    assert_eq!(made(&stage, json!({})).json()["snapshotId"], "morph_1vcpu_1gb_8gb_v2");
}

/// Its nonce tells what an answer does not.
#[test]
fn an_answer_that_names_no_snapshot_takes_no_second_one() {
    let stage = Stage::on_morph(7, &[("MORPH_BASE_URL", "https://mute.test/api")]);
    let saved = RefCell::new(Value::Null);
    stage.world.serve("mute.test", move |request, _| {
        let one = |id: &str, metadata: &Value| json!({"id": id, "created": 1, "status": "ready", "metadata": metadata});
        let (method, path) = (request.method().as_str(), request.uri().path());
        match (method, path.ends_with("/snapshot")) {
            ("POST", true) => {
                let body: Value = serde_json::from_slice(request.body()).unwrap_or_default();
                *saved.borrow_mut() = one("snapshot_a", &body["metadata"]);
                Streamed::json(200, &json!(null))
            }
            (_, true) => Streamed::json(200, &json!({"data": [*saved.borrow()]})),
            _ => Streamed::json(
                200,
                &one("morphvm_a", &json!({"edge.deployment": "prod", "edge.team": "blue", "edge.phase": "committed"})),
            ),
        }
    });
    let taken = stage.ask(Ask::post("/api/sandboxes/morphvm_a/snapshots", json!({})));
    assert_eq!((taken.status, &taken.json()["snapshotId"]), (201, &json!("snapshot_a")), "{taken:?}");
    let posts = |it: &&Seen| it.method == "POST";
    assert_eq!(stage.world.requests().iter().filter(posts).count(), 1);
}
