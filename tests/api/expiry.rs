//! What becomes of a sandbox whose time is up.

use serde_json::json;
use time::Duration;

use crate::stage::{Ask, Stage};

/// A sandbox of one minute, and that minute over.
fn expired(on_expiry: &str) -> (Stage, String) {
    let stage = Stage::new();
    let answer = stage.ask(Ask::post("/api/sandboxes", json!({"ttlSeconds": 60, "onExpiry": on_expiry})));
    assert_eq!(answer.status, 201);
    stage.world.advance(Duration::seconds(61));
    (stage, answer.id())
}

fn listed(stage: &Stage) -> Vec<String> {
    let page = stage.ask(Ask::get("/api/sandboxes")).json();
    let items = page["items"].as_array().cloned().unwrap_or_default();
    items.iter().filter_map(|it| it["id"].as_str().map(str::to_owned)).collect()
}

#[test]
fn what_is_to_be_deleted_is_gone_at_once() {
    let (stage, id) = expired("delete");
    for ask in [Ask::one(&id), Ask::exec(&id, "true")] {
        assert_eq!(stage.ask(ask).status, 404);
    }
    stage.world.advance(Duration::minutes(2));
    assert_eq!(listed(&stage), [] as [String; 0]);
}

#[test]
fn extend_brings_it_back_until_it_is_condemned() {
    let (stage, id) = expired("delete");
    let answer = stage.ask(Ask::extend(&id, 600));
    assert_eq!((answer.status, &*answer.state()), (200, "running"), "{answer:?}");
    assert_eq!(stage.ask(Ask::one(&id)).status, 200);
    assert_eq!(listed(&stage), [id]);
}

#[test]
fn a_patch_that_leaves_it_expired_is_404() {
    let (stage, id) = expired("delete");
    let answer = stage.ask(Ask::patch(format!("/api/sandboxes/{id}"), json!({"name": "late"})));
    assert_eq!(answer.status, 404, "{answer:?}");
    let answer = stage.ask(Ask::patch(format!("/api/sandboxes/{id}"), json!({"onExpiry": "stop"})));
    assert_eq!((answer.status, &*answer.state()), (200, "stopped"), "{answer:?}");
}

#[test]
fn what_is_to_be_stopped_or_paused_is_shown_so() {
    for (on_expiry, state) in [("stop", "stopped"), ("pause", "paused")] {
        let (stage, id) = expired(on_expiry);
        let shown = stage.ask(Ask::one(&id));
        assert_eq!((shown.status, &*shown.state()), (200, state), "{shown:?}");
        assert_eq!(shown.json()["expiredAt"], shown.json()["expiresAt"]);
        assert_eq!(listed(&stage), [id]);
    }
}

#[test]
fn a_key_of_an_expired_sandbox_says_so() {
    let stage = Stage::new();
    let ask = Ask::post("/api/sandboxes", json!({"ttlSeconds": 60})).header("idempotency-key", "k");
    assert_eq!(stage.ask(ask.clone()).status, 201);
    stage.world.advance(Duration::seconds(61));
    let answer = stage.ask(ask);
    assert_eq!((answer.status, &*answer.code()), (409, "expired"), "{answer:?}");
}

/// A replay tells what is, however old the sandbox.
#[test]
fn a_replay_of_an_old_running_sandbox_says_running() {
    let stage = Stage::new();
    let id = stage.ask(Ask::create_keyed("k")).id();
    stage.world.advance(Duration::minutes(30));
    let writes = || stage.world.requests().iter().filter(|it| it.is_write()).count();
    let before = writes();
    let answer = stage.ask(Ask::create_keyed("k"));
    assert_eq!((answer.status, &*answer.state(), answer.id()), (200, "running", id));
    assert_eq!(writes(), before, "a replay of what runs changes nothing");
}

/// No poll starts what was switched off from inside when it is older than ten minutes.
#[test]
fn a_get_restarts_nothing() {
    let stage = Stage::new();
    let id = stage.ask(Ask::create()).id();
    stage.world.advance(Duration::minutes(11));
    stage.world.sim_mut().set_running(crate::stage::vmid_of(&id), false);
    let shown = stage.ask(Ask::one(&id));
    assert_eq!((shown.status, &*shown.state()), (200, "stopped"));
    let exec = stage.ask(Ask::exec(&id, "true"));
    assert_eq!((exec.status, &*exec.code()), (409, "not-running"), "{exec:?}");
}
