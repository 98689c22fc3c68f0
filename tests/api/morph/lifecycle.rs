//! One sandbox, from its creation to its end.

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{PRESET, assert_untouched, counted, crowd, made, ours, stage, stage_of};
use crate::stage::prelude::*;

#[test]
fn a_sandbox_looks_as_on_pve() {
    let stage = stage();
    let body = json!({"name": "n", "ttlSeconds": 600, "onExpiry": "pause", "metadata": {"task": "7"}});
    let shown = made(&stage, body).json();
    let id = shown["id"].as_str().unwrap_or_default();
    assert!(id.starts_with("morphvm_"), "{shown}");
    let host = id.replace('_', "-");
    for (field, value) in [
        ("provider", json!("morph")),
        ("vmid", json!(null)),
        ("node", json!(null)),
        ("templateVmid", json!(null)),
        ("snapshotId", json!(PRESET)),
        ("name", json!("n")),
        ("state", json!("running")),
        ("team", json!("blue")),
        ("metadata", json!({"task": "7"})),
        ("onExpiry", json!("pause")),
    ] {
        assert_eq!(shown[field], value, "{field}: {shown}");
    }
    let names: Vec<_> =
        shown["services"].as_array().into_iter().flatten().map(|it| it["name"].clone()).collect();
    assert_eq!(names, ["vscode", "worker", "xterm", "vnc", "preview"]);
    assert_eq!(shown["services"][0]["url"], format!("https://port-39378-{host}.http.cloud.morph.so"));
    let socket_io = format!("wss://port-9776-{host}.http.cloud.morph.so/socket.io/");
    assert_eq!(shown["viewers"]["socketIo"], json!(socket_io));
    assert_eq!(stage.ask(Ask::one(id)).json(), shown);
    assert_eq!(stage.ask(Ask::get("/api/sandboxes")).json()["items"], json!([shown]));
}

#[test]
fn how_many_requests_each_takes() {
    let stage = stage();
    let (answer, create) = counted(&stage, Ask::create());
    let id = answer.id();
    let count = |ask: Ask| counted(&stage, ask).1;
    assert!(create <= 15, "{create}");
    assert_eq!(count(Ask::one(&id)), 1);
    assert_eq!(count(Ask::get("/api/sandboxes")), 1);
    assert_eq!(count(Ask::exec(&id, "true")), 2);
    assert_eq!(count(Ask::extend(&id, 60)), 4, "another span is kept");
    assert_eq!(count(Ask::get("/api/config/sandbox")), 1);
    assert!(count(Ask::get("/api/health/sandbox")) <= 3);
    assert_eq!(count(Ask::end(&id)), 2);
}

#[test]
fn paused_started_rebooted_and_deleted_beside_others() {
    let stage = stage();
    let others = crowd(&stage);
    let id = made(&stage, json!({})).id();
    assert_eq!(stage.act(&id, "pause", json!({})).shows(), "200 paused");
    let resumed = stage.act(&id, "start", json!({"ttlSeconds": 500}));
    assert_eq!(resumed.outcome(), "200 resumed running", "{resumed:?}");
    let rebooted = stage.act(&id, "reboot", json!({"force": true}));
    assert_eq!(rebooted.shows(), "200 running", "{rebooted:?}");
    super::assert_runs(&stage, &id);

    let kept = stage.ask(Ask::get(format!("/api/sandboxes/{id}/snapshots")));
    assert_eq!(kept.json()["items"], json!([]));
    assert_eq!(stage.ask(Ask::end(&id)).status, 204);
    assert_eq!((stage.ask(Ask::one(&id)).status, stage.ask(Ask::end(&id)).status), (404, 404));
    assert_eq!(ours(&stage), [] as [String; 0]);
    assert_untouched(&stage, &others, "after all of it");
}

#[test]
fn nobody_reaches_what_others_have_in_the_account() {
    let stage = stage();
    let others = crowd(&stage);
    for (id, _) in &others {
        let at = |rest: &str| format!("/api/sandboxes/{id}{rest}");
        for ask in [
            Ask::one(id),
            Ask::change(id, json!({"name": "x"})),
            Ask::extend(id, 60),
            Ask::exec(id, "true"),
            Ask::act(id, "pause", json!({})),
            Ask::act(id, "resume", json!({})),
            Ask::act(id, "reboot", json!({})),
            Ask::act(id, "snapshots", json!({})),
            Ask::get(at("/snapshots")),
            Ask::end(id),
        ] {
            let answer = stage.ask(ask.clone());
            assert_eq!(answer.status, 404, "{ask:?}: {answer:?}");
        }
    }
    assert_untouched(&stage, &others, "after all of it");
}

#[test]
fn expiry_is_morphs_and_told_at_once() {
    let stage = stage();
    stage.account().setup.lag = Duration::minutes(1);
    let gone = made(&stage, json!({"ttlSeconds": 60})).id();
    let paused = made(&stage, json!({"ttlSeconds": 60, "onExpiry": "pause"})).id();
    let forever = made(&stage, json!({"ttlSeconds": null})).id();
    stage.world.advance(Duration::seconds(62));
    assert!(stage.account().instances.contains_key(&gone), "Morph is late");
    assert_eq!(stage.ask(Ask::one(&gone)).status, 404);
    assert_eq!(stage.ask(Ask::exec(&gone, "true")).status, 404);
    let shown = stage.ask(Ask::one(&paused));
    assert_eq!(
        (shown.state(), shown.json()["expiredAt"].is_string()),
        ("paused".to_owned(), true),
        "{shown:?}"
    );
    assert_eq!(stage.ask(Ask::exec(&paused, "true")).code(), "not-running");
    let listed = stage.ask(Ask::get("/api/sandboxes"));
    assert!(!listed.body.contains(&gone) && listed.body.contains(&paused), "{listed:?}");
    // As long as Morph has it, its owner can renew it.
    assert_eq!(stage.ask(Ask::change(&gone, json!({"name": "x"}))).status, 404);
    assert_eq!(stage.ask(Ask::extend(&gone, 600)).state(), "running");
    stage.world.advance(Duration::seconds(100));
    assert_eq!(stage.ask(Ask::one(&gone)).state(), "running");
    let resumed = stage.act(&paused, "resume", json!({}));
    assert_eq!(resumed.state(), "running", "{resumed:?}");
    assert_eq!(resumed.json()["expiredAt"], json!(null));
    stage.world.advance(Duration::days(100));
    let forever = stage.ask(Ask::one(&forever)).json();
    assert_eq!((&forever["state"], &forever["expiresAt"]), (&json!("running"), &json!(null)));
}

#[test]
fn a_resume_that_is_refused_leaves_the_time_of_what_is_paused() {
    let stage = stage();
    let id = made(&stage, json!({})).id();
    assert_eq!(stage.act(&id, "pause", json!({})).status, 200);
    stage.world.fault_once(|it: &Seen| it.path.ends_with("/resume"), Fault::Refused(429, "busy".into()));
    assert_eq!(stage.act(&id, "resume", json!({})).code(), "morph-busy");
    stage.world.advance(Duration::hours(30));
    assert_eq!(stage.ask(Ask::one(&id)).state(), "paused");
}

/// Morph says `saving` of what is being paused and of what a snapshot is taken of.
#[test]
fn what_is_being_saved_is_waited_for() {
    let stage = stage();
    let id = made(&stage, json!({})).id();
    stage.account().setup.pause = Duration::seconds(4);
    let hurried = Ask::act(&id, "pause", json!({})).wait(0);
    assert_eq!(stage.ask(hurried).status, 202);
    let resumed = stage.act(&id, "resume", json!({}));
    assert_eq!((resumed.status, &resumed.json()["did"]), (200, &json!("resumed")), "{resumed:?}");
    stage.world.advance(Duration::seconds(30));
    assert_eq!(stage.ask(Ask::one(&id)).state(), "running");

    stage.account().setup.snapshot = Duration::seconds(40);
    let before = stage.ask(Ask::one(&id)).json()["expiresAt"].clone();
    let taken = stage.ask(Ask::act(&id, "snapshots", json!({})).wait(0));
    assert_eq!(taken.status, 202, "{taken:?}");
    let refused = stage.act(&id, "pause", json!({}));
    assert_eq!(refused.refusal(), "409 conflict", "{refused:?}");
    let shown = stage.ask(Ask::one(&id)).json();
    assert_eq!((&shown["state"], &shown["expiresAt"]), (&json!("running"), &before));
    stage.world.advance(Duration::seconds(30));
    assert_eq!(stage.act(&id, "pause", json!({})).state(), "paused");
}

/// The rule of PVE's sandboxes: a pause takes no time, and gives none.
#[test]
fn a_pause_neither_costs_time_nor_gains_any() {
    const DAY: i64 = 24 * 3600;
    for (changes, ttl, least, most) in [
        (&[][..], 30 * DAY, 30 * DAY - 120, 30 * DAY),
        (&[("EDGE_MAX_TTL_SECONDS", "600")][..], 600, 480, 600),
    ] {
        let stage = stage_of(7, changes);
        let id = made(&stage, json!({"ttlSeconds": ttl})).id();
        let act = |verb: &str, body: Value| {
            let answer = stage.act(&id, verb, body);
            assert_eq!(answer.status, 200, "{verb}: {answer:?}");
            let expires = answer.json()["expiresAt"].as_str().map(str::to_owned).unwrap_or_default();
            let expires = OffsetDateTime::parse(&expires, &Rfc3339).expect("a time");
            (expires - stage.world.now()).whole_seconds()
        };
        act("pause", json!({}));
        stage.world.advance(Duration::hours(5));
        assert_eq!(stage.ask(Ask::one(&id)).state(), "paused");
        let left = act("resume", json!({}));
        assert!((least..=most).contains(&left), "{ttl}: {left}");
        assert!((least..=most).contains(&act("extend", json!({}))), "{ttl}");
        // While it is paused it is kept; what is given then is running time.
        act("pause", json!({}));
        assert!(act("extend", json!({"ttlSeconds": 60})) > 6 * DAY);
        assert!(act("resume", json!({})) <= 60);
    }
}
