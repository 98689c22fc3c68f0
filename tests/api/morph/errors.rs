//! What Morph says when it does not do what it is asked to.

use pve_edge_bed::{
    morph::HOST,
    sim::execd::{Piece, Streamed},
};

use super::{made, stage, stage_of};
use crate::stage::prelude::*;

#[test]
fn health_tells_what_is_missing() {
    let stage = stage();
    let health = |stage: &Stage| {
        let answer = stage.ask(Ask::get("/api/health/sandbox"));
        (answer.status, answer.json()["reasons"][0]["code"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(health(&stage), (200, String::new()));
    stage.account().snapshots.clear();
    assert_eq!(health(&stage), (503, "template-not-found".into()));
    assert_eq!(stage.ask(Ask::create()).code(), "template-not-found");
    let wrong = stage_of(7, &[("MORPH_API_KEY", "another")]);
    assert_eq!(health(&wrong), (503, "morph-unauthorized".into()));
    let answer = wrong.ask(Ask::get("/api/sandboxes"));
    assert_eq!(answer.refusal(), "502 morph-unauthorized");
    let away = stage_of(7, &[("MORPH_BASE_URL", "https://nowhere.test/api")]);
    assert_eq!(health(&away), (503, "morph-unreachable".into()));
}

#[test]
fn each_refusal_has_a_code() {
    let stage = stage();
    let id = made(&stage, json!({})).id();
    let refused = |status, text: &str| Fault::Refused(status, text.to_owned());
    for (fault, status, code) in [
        (refused(401, "no"), 502, "morph-unauthorized"),
        (refused(402, "Payment required"), 502, "morph-error"),
        (refused(409, "Instance is busy"), 409, "conflict"),
        (refused(422, "nope"), 502, "morph-error"),
        (refused(429, "Slow down"), 503, "morph-busy"),
        (refused(500, "oops"), 502, "morph-error"),
        (Fault::NeverSent, 503, "morph-unreachable"),
        (Fault::Unanswered, 504, "morph-timeout"),
        (Fault::Silent, 504, "morph-timeout"),
    ] {
        stage.world.fault_once(|it: &Seen| it.path.ends_with("/ttl"), fault.clone());
        let answer = stage.ask(Ask::extend(&id, 600));
        stage.world.clear_faults();
        assert_eq!((answer.status, &*answer.code()), (status, code), "{fault:?}: {answer:?}");
    }
    // The longest text is short.
    stage.world.fault_once(|it: &Seen| it.method == "GET", refused(400, &"x".repeat(9000)));
    assert!(stage.ask(Ask::one(&id)).body.len() < 800);
}

#[test]
fn what_is_not_morph_is_not_taken_for_it() {
    for (status, body) in [(200, "<html>"), (502, "<html>"), (302, ""), (524, "x"), (200, "{}"), (200, "[]")]
    {
        let stage = Stage::on_morph(7, &[("MORPH_BASE_URL", "https://other.test/x/api/")]);
        stage.world.serve("other.test", move |_, _| Streamed {
            status,
            headers: Default::default(),
            pieces: vec![Piece::Bytes(body.as_bytes().to_vec())],
        });
        for ask in [Ask::get("/api/sandboxes"), Ask::one("morphvm_a"), Ask::end("morphvm_a"), Ask::create()] {
            let answer = stage.ask(ask);
            assert!(answer.status >= 500, "{status} {body}: {answer:?}");
        }
        let sent = stage.world.requests();
        assert!(sent.iter().all(|it| it.method == "GET" && it.path.starts_with("/x/api/")), "{sent:?}");
    }
}

#[test]
fn an_order_to_wait_is_passed_on() {
    let stage = Stage::on_morph(7, &[("MORPH_BASE_URL", "https://busy.test/api")]);
    assert_ne!(HOST, "busy.test");
    stage.world.serve("busy.test", |_, _| {
        let mut busy = Streamed::json(429, &json!({"detail": "rate limit"}));
        busy.headers.insert("retry-after", 17.into());
        busy
    });
    let answer = stage.ask(Ask::get("/api/sandboxes"));
    assert_eq!((answer.status, &*answer.code(), answer.retry_after()), (503, "morph-busy", Some(17)));
}

#[test]
fn templates_are_of_pve() {
    let stage = stage();
    let body = json!({"appliance": "debian-13-standard", "preset": "1vcpu_1gb_8gb"});
    let refused = stage.ask(Ask::post("/api/templates", body).by("ops"));
    assert_eq!(refused.refusal(), "422 unsupported", "{refused:?}");
    for ask in [Ask::get("/api/templates/x"), Ask::delete("/api/templates/x")] {
        assert_eq!(stage.ask(ask.by("ops")).status, 404);
    }
    assert_eq!(stage.world.requests().len(), 0);
}

/// Morph's filters are not relied on.
#[test]
fn what_a_stranger_has_is_passed_over_whatever_it_looks_like() {
    let stage = Stage::on_morph(7, &[("MORPH_BASE_URL", "https://wide.test/api")]);
    stage.world.serve("wide.test", |_, _| {
        Streamed::json(200, &json!({"data": [{"id": "vm-1", "metadata": null}, {"object": "volume"}]}))
    });
    for path in ["/api/sandboxes", "/api/snapshots"] {
        let answer = stage.ask(Ask::get(path));
        assert_eq!((answer.status, &answer.json()["items"]), (200, &json!([])), "{answer:?}");
    }
}

#[test]
fn numbers_may_have_a_point() {
    let stage = Stage::on_morph(7, &[("MORPH_BASE_URL", "https://float.test/api")]);
    stage.world.serve("float.test", |_, _| {
        Streamed::json(
            200,
            &json!({"data": [{
                "id": "morphvm_a", "created": 1.5e9, "status": "ready", "spec": null, "refs": null, "ttl": null,
                "networking": {"http_services": [{"name": "port-39378", "port": 39378.0, "url": "https://a.test"}]},
                "metadata": {"edge.deployment": "prod", "edge.team": "blue", "edge.phase": "committed"},
            }]}),
        )
    });
    let shown = stage.ask(Ask::get("/api/sandboxes")).json()["items"][0].clone();
    assert_eq!((&shown["state"], &shown["expiresAt"]), (&json!("running"), &json!(null)), "{shown}");
    assert_eq!(shown["services"][0]["url"], "https://a.test", "{shown}");
}
