//! What a team may see, ask for and have, whatever provides its sandboxes.

use super::{all, each};
use crate::stage::prelude::*;

#[test]
fn another_teams_sandbox_does_not_exist() {
    each(|_, stage| {
        let id = stage.created(json!({}));
        let snapshot = stage.act(&id, "snapshots", json!({})).snapshot_id();
        stage.ready(&snapshot);
        for ask in [
            Ask::one(&id),
            Ask::change(&id, json!({"name": "x"})),
            Ask::extend(&id, 60),
            Ask::exec(&id, "true"),
            Ask::act(&id, "pause", json!({})),
            Ask::act(&id, "resume", json!({})),
            Ask::act(&id, "reboot", json!({})),
            Ask::act(&id, "snapshots", json!({})),
            Ask::get(format!("/api/sandboxes/{id}/snapshots")),
            Ask::end(&id),
            Ask::snapshot(&snapshot),
            Ask::patch(format!("/api/snapshots/{snapshot}"), json!({"name": "x"})),
            Ask::delete(format!("/api/snapshots/{snapshot}")),
        ] {
            let answer = stage.ask(ask.clone().by("red"));
            assert_eq!(answer.status, 404, "{ask:?}: {answer:?}");
        }
        for list in ["/api/sandboxes", "/api/snapshots"] {
            let body = stage.ask(Ask::get(list).by("red")).body;
            assert!(!body.contains(&id) && !body.contains(&snapshot), "{body}");
        }
        let refused = stage.ask(Ask::sandbox(json!({"snapshotId": snapshot})).by("red"));
        assert_eq!(refused.code(), "template-not-found", "{refused:?}");
        assert_eq!(stage.ask(Ask::one(&id).by("ops")).status, 200);
        assert_eq!(stage.ask(Ask::one(&id)).state(), "running");
    });
}

#[test]
fn what_is_wrong_is_said_alike() {
    each(|provider, stage| {
        let id = stage.created(json!({}));
        let unknown = match provider.name {
            "morph" => "morphvm_unknown1".to_owned(),
            _ => id.replacen("-a", "-b", 1),
        };
        for (ask, refusal) in [
            (Ask::one(&id).without("authorization"), "401 unauthorized"),
            (Ask::one(&unknown), "404 not-found"),
            (Ask::exec(&unknown, "true"), "404 not-found"),
            (Ask::sandbox(json!({"cpu": 0})), "400 invalid-request"),
            (Ask::sandbox(json!({"nothing": 1})), "400 invalid-request"),
            (Ask::get("/api/sandboxes?limit=0"), "400 invalid-request"),
            (Ask::create().header("content-type", "text/plain"), "415 unsupported-media-type"),
            (Ask::patch("/api/sandboxes", json!({})), "405 method-not-allowed"),
            (Ask::gc().by("blue"), "403 forbidden"),
        ] {
            let answer = stage.ask(ask.clone());
            assert_eq!(answer.refusal(), refusal, "{ask:?}: {answer:?}");
        }
        assert_eq!(
            (stage.sweep().json()["actions"].as_array().map(Vec::len), provider.count()),
            (Some(0), 1)
        );
        assert_eq!(stage.ask(Ask::get("/api/health").without("authorization")).status, 200);
        let health = stage.ask(Ask::get("/api/health/sandbox"));
        assert_eq!((health.status, &health.json()["provider"]), (200, &json!(provider.name)), "{health:?}");
    });
}

#[test]
fn a_team_gets_no_more_than_its_quota() {
    for provider in all(&[("EDGE_MAX_SANDBOXES", "2"), ("EDGE_MAX_VCPUS", "3")]) {
        let stage = &provider.stage;
        let first = stage.created(json!({"cpu": 2}));
        stage.world.advance(Duration::seconds(30));
        assert_eq!(stage.ask(Ask::sandbox(json!({"cpu": 2}))).code(), "quota-exceeded");
        stage.created(json!({}));
        assert_eq!(stage.ask(Ask::create()).code(), "quota-exceeded");
        assert_eq!(stage.ask(Ask::create().by("red")).status, 201);
        assert_eq!(stage.ask(Ask::end(&first).wait(25)).status, 204);
        stage.world.advance(Duration::seconds(30));
        stage.created(json!({}));
    }
    for provider in all(&[("EDGE_CREATES_PER_MINUTE", "1")]) {
        provider.stage.created(json!({}));
        let refused = provider.stage.ask(Ask::create());
        assert_eq!(refused.code(), "rate-limited", "{refused:?}");
        assert!(refused.retry_after().is_some(), "{refused:?}");
    }
}
