//! What becomes of a sandbox whose time is up.

use crate::stage::prelude::*;

/// A sandbox of one minute, and that minute over.
fn expired(on_expiry: &str) -> (Stage, String) {
    let stage = Stage::new();
    let answer = stage.ask(Ask::sandbox(json!({"ttlSeconds": 60, "onExpiry": on_expiry})));
    assert_eq!(answer.status, 201);
    stage.world.advance(Duration::seconds(61));
    (stage, answer.id())
}

#[test]
fn what_is_to_be_deleted_is_gone_at_once() {
    let (stage, id) = expired("delete");
    for ask in [Ask::one(&id), Ask::exec(&id, "true")] {
        assert_eq!(stage.ask(ask).status, 404);
    }
    stage.world.advance(Duration::minutes(2));
    assert_eq!(stage.listed(), [] as [String; 0]);
}

#[test]
fn extend_brings_it_back_until_it_is_condemned() {
    let (stage, id) = expired("delete");
    let answer = stage.ask(Ask::extend(&id, 600));
    assert_eq!(answer.shows(), "200 running", "{answer:?}");
    assert_eq!(stage.ask(Ask::one(&id)).status, 200);
    assert_eq!(stage.listed(), [id]);
}

#[test]
fn a_patch_that_leaves_it_expired_is_404() {
    let (stage, id) = expired("delete");
    let answer = stage.ask(Ask::change(&id, json!({"name": "late"})));
    assert_eq!(answer.status, 404, "{answer:?}");
    let answer = stage.ask(Ask::change(&id, json!({"onExpiry": "stop"})));
    assert_eq!(answer.shows(), "200 stopped", "{answer:?}");
}

#[test]
fn what_is_to_be_stopped_or_paused_is_shown_so() {
    for (on_expiry, state) in [("stop", "stopped"), ("pause", "paused")] {
        let (stage, id) = expired(on_expiry);
        let shown = stage.ask(Ask::one(&id));
        assert_eq!((shown.status, &*shown.state()), (200, state), "{shown:?}");
        assert_eq!(shown.json()["expiredAt"], shown.json()["expiresAt"]);
        assert_eq!(stage.listed(), [id]);
    }
}

/// No poll starts what was switched off from inside when it is older than ten minutes.
#[test]
fn a_get_restarts_nothing() {
    let stage = Stage::new();
    let id = stage.ask(Ask::create()).id();
    stage.world.advance(Duration::minutes(11));
    stage.world.sim_mut().set_running(crate::stage::vmid_of(&id), false);
    let shown = stage.ask(Ask::one(&id));
    assert_eq!(shown.shows(), "200 stopped");
    let exec = stage.ask(Ask::exec(&id, "true"));
    assert_eq!(exec.refusal(), "409 not-running", "{exec:?}");
}

#[test]
fn a_sandbox_that_expires_before_it_is_up_is_no_201() {
    let stage = Stage::new();
    for on_expiry in ["delete", "stop"] {
        let body = json!({"ttlSeconds": 1, "onExpiry": on_expiry});
        let answer = stage.ask(Ask::sandbox(body));
        assert_ne!(answer.status, 201, "{answer:?}");
    }
}

#[test]
fn what_never_expires_still_never_does_after_a_pause() {
    let stage = Stage::new();
    let id = stage.created(json!({"ttlSeconds": null}));
    stage.act(&id, "pause", json!({}));
    let resumed = stage.act(&id, "resume", json!({}));
    assert_eq!((resumed.state(), &resumed.json()["expiresAt"]), ("running".into(), &Value::Null));
}
