//! One sandbox, from its creation to its end.

use pve_edge_tests::world::{Fault, Seen};
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};

use super::{PRESET, assert_untouched, counted, crowd, made, ours, stage, stage_of};
use crate::stage::Ask;

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
fn changed_paused_resumed_rebooted_deleted() {
    let stage = stage();
    let others = crowd(&stage);
    let id = made(&stage, json!({"metadata": {"a": "1", "b": "2"}})).id();
    let at = |rest: &str| format!("/api/sandboxes/{id}{rest}");
    let etag = stage.ask(Ask::one(&id)).header("etag").to_owned();
    let changes = json!({"name": "new", "metadata": {"a": null, "c": "3"}, "onExpiry": "pause"});
    let patched = stage.ask(Ask::patch(at(""), changes.clone()).header("if-match", &etag));
    assert_eq!(patched.status, 200, "{patched:?}");
    let shown = patched.json();
    assert_eq!(
        (&shown["name"], &shown["metadata"], &shown["onExpiry"]),
        (&json!("new"), &json!({"b": "2", "c": "3"}), &json!("pause"))
    );
    assert_eq!(stage.ask(Ask::patch(at(""), changes).header("if-match", etag)).status, 412);
    assert_eq!(stage.ask(Ask::get("/api/sandboxes?metadata.c=3")).json()["items"][0]["id"], json!(id));
    assert_eq!(stage.ask(Ask::get("/api/sandboxes?metadata.a=1")).json()["items"], json!([]));

    let paused = stage.ask(Ask::post(at("/pause"), json!({})));
    assert_eq!((paused.status, &*paused.state()), (200, "paused"), "{paused:?}");
    assert_eq!((&paused.json()["did"], &paused.json()["keeps"]), (&json!("paused"), &json!("memory")));
    assert_eq!(stage.ask(Ask::post(at("/pause"), json!({}))).json()["did"], "nothing");
    assert_eq!(stage.ask(Ask::exec(&id, "true")).code(), "not-running");
    assert_eq!(stage.ask(Ask::post(at("/reboot"), json!({}))).code(), "not-running");
    // What is paused does not run out of its own time.
    stage.world.advance(Duration::hours(2));
    assert_eq!(stage.ask(Ask::one(&id)).state(), "paused");
    let resumed = stage.ask(Ask::post(at("/start"), json!({"ttlSeconds": 500})));
    assert_eq!((resumed.status, &*resumed.state()), (200, "running"), "{resumed:?}");
    assert_eq!(resumed.json()["did"], "resumed");
    assert_eq!(stage.ask(Ask::post(at("/resume"), json!({}))).json()["did"], "nothing");
    let rebooted = stage.ask(Ask::post(at("/reboot"), json!({"force": true})));
    assert_eq!((rebooted.status, &*rebooted.state()), (200, "running"), "{rebooted:?}");
    super::assert_runs(&stage, &id);

    for (ask, code) in [
        (Ask::post(at("/stop"), json!({})), "unsupported"),
        (Ask::post(at("/pause"), json!({"keeps": "disk"})), "unsupported"),
        (Ask::post(at("/rollback"), json!({"snapshot": "kept"})), "unsupported"),
        (Ask::post(at("/snapshots"), json!({"keep": true})), "unsupported"),
        (Ask::patch(at(""), json!({"onExpiry": "stop"})), "unsupported"),
        (Ask::post("/api/sandboxes", json!({"onExpiry": "stop"})), "unsupported"),
    ] {
        let answer = stage.ask(ask);
        assert_eq!((answer.status, &*answer.code()), (422, code), "{answer:?}");
    }
    assert_eq!(stage.ask(Ask::get(at("/snapshots"))).json()["items"], json!([]));
    assert_eq!(stage.ask(Ask::end(&id)).status, 204);
    assert_eq!((stage.ask(Ask::one(&id)).status, stage.ask(Ask::end(&id)).status), (404, 404));
    assert_eq!(ours(&stage), [] as [String; 0]);
    assert_untouched(&stage, &others, "after all of it");
}

#[test]
fn nobody_reaches_anothers() {
    let stage = stage();
    let others = crowd(&stage);
    let blue = made(&stage, json!({})).id();
    let taken = stage.ask(Ask::post(format!("/api/sandboxes/{blue}/snapshots"), json!({}))).json();
    let taken = taken["snapshotId"].as_str().unwrap_or_default().to_owned();
    let strangers = others.iter().map(|(id, _)| id.clone());
    for (team, ids) in [("blue", strangers.collect::<Vec<_>>()), ("red", vec![blue.clone()])] {
        for id in ids {
            let at = |rest: &str| format!("/api/sandboxes/{id}{rest}");
            for ask in [
                Ask::one(&id),
                Ask::patch(at(""), json!({"name": "x"})),
                Ask::extend(&id, 60),
                Ask::exec(&id, "true"),
                Ask::post(at("/pause"), json!({})),
                Ask::post(at("/resume"), json!({})),
                Ask::post(at("/reboot"), json!({})),
                Ask::post(at("/snapshots"), json!({})),
                Ask::get(at("/snapshots")),
                Ask::end(&id),
            ] {
                let answer = stage.ask(ask.clone().by(team));
                assert_eq!(answer.status, 404, "{ask:?}: {answer:?}");
            }
        }
    }
    for ask in [
        Ask::get(format!("/api/snapshots/{taken}")),
        Ask::patch(format!("/api/snapshots/{taken}"), json!({"name": "x"})),
        Ask::delete(format!("/api/snapshots/{taken}")),
    ] {
        assert_eq!(stage.ask(ask.by("red")).status, 404);
    }
    let of_it = json!({"snapshotId": taken});
    let answer = stage.ask(Ask::post("/api/sandboxes", of_it).by("red"));
    assert_eq!(answer.code(), "template-not-found", "{answer:?}");
    assert!(!stage.ask(Ask::get("/api/snapshots").by("red")).body.contains(&taken));
    assert!(!stage.ask(Ask::get("/api/sandboxes").by("red")).body.contains(&blue));
    assert_eq!(stage.ask(Ask::one(&blue).by("ops")).status, 200);
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
    assert_eq!(stage.ask(Ask::patch(format!("/api/sandboxes/{gone}"), json!({"name": "x"}))).status, 404);
    assert_eq!(stage.ask(Ask::extend(&gone, 600)).state(), "running");
    stage.world.advance(Duration::seconds(100));
    assert_eq!(stage.ask(Ask::one(&gone)).state(), "running");
    let resumed = stage.ask(Ask::post(format!("/api/sandboxes/{paused}/resume"), json!({})));
    assert_eq!(resumed.state(), "running", "{resumed:?}");
    assert_eq!(resumed.json()["expiredAt"], json!(null));
    stage.world.advance(Duration::days(100));
    let forever = stage.ask(Ask::one(&forever)).json();
    assert_eq!((&forever["state"], &forever["expiresAt"]), (&json!("running"), &json!(null)));
}

#[test]
fn pages_of_a_listing() {
    let stage = stage();
    let mut ids: Vec<String> = (0..5).map(|_| made(&stage, json!({})).id()).collect();
    ids.sort();
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    for _ in 0..3 {
        let page = stage.ask(Ask::get(format!("/api/sandboxes?limit=2{cursor}"))).json();
        let items = page["items"].as_array().into_iter().flatten();
        seen.extend(items.map(|it| it["id"].as_str().unwrap_or_default().to_owned()));
        cursor = format!("&cursor={}", page["nextCursor"].as_str().unwrap_or_default());
    }
    assert_eq!((seen, &*cursor), (ids, "&cursor="));
    assert_eq!(stage.ask(Ask::get("/api/sandboxes?cursor=200017")).code(), "invalid-request");
}

#[test]
fn quotas_count_what_morph_lists() {
    let stage = stage_of(7, &[("EDGE_MAX_SANDBOXES", "2"), ("EDGE_MAX_VCPUS", "3")]);
    let first = made(&stage, json!({"cpu": 2})).id();
    assert_eq!(stage.ask(Ask::post("/api/sandboxes", json!({"cpu": 2}))).code(), "quota-exceeded");
    made(&stage, json!({}));
    assert_eq!(stage.ask(Ask::create()).code(), "quota-exceeded");
    assert_eq!(stage.ask(Ask::create().by("red")).status, 201);
    assert_eq!(stage.ask(Ask::end(&first)).status, 204);
    made(&stage, json!({}));
    let stage = stage_of(7, &[("EDGE_CREATES_PER_MINUTE", "1")]);
    made(&stage, json!({}));
    let refused = stage.ask(Ask::create());
    assert_eq!((&*refused.code(), refused.retry_after().is_some()), ("rate-limited", true), "{refused:?}");
}

#[test]
fn a_resume_that_is_refused_leaves_the_time_of_what_is_paused() {
    let stage = stage();
    let id = made(&stage, json!({})).id();
    let at = |rest: &str| format!("/api/sandboxes/{id}{rest}");
    assert_eq!(stage.ask(Ask::post(at("/pause"), json!({}))).status, 200);
    stage.world.fault_once(|it: &Seen| it.path.ends_with("/resume"), Fault::Refused(429, "busy".into()));
    assert_eq!(stage.ask(Ask::post(at("/resume"), json!({}))).code(), "morph-busy");
    stage.world.advance(Duration::hours(30));
    assert_eq!(stage.ask(Ask::one(&id)).state(), "paused");
}

/// Morph says `saving` of what is being paused and of what a snapshot is taken of.
#[test]
fn what_is_being_saved_is_waited_for() {
    let stage = stage();
    let id = made(&stage, json!({})).id();
    let at = |rest: &str| format!("/api/sandboxes/{id}{rest}");
    stage.account().setup.pause = Duration::seconds(4);
    let hurried = Ask::post(at("/pause"), json!({})).header("prefer", "wait=0");
    assert_eq!(stage.ask(hurried).status, 202);
    let resumed = stage.ask(Ask::post(at("/resume"), json!({})));
    assert_eq!((resumed.status, &resumed.json()["did"]), (200, &json!("resumed")), "{resumed:?}");
    stage.world.advance(Duration::seconds(30));
    assert_eq!(stage.ask(Ask::one(&id)).state(), "running");

    stage.account().setup.snapshot = Duration::seconds(40);
    let before = stage.ask(Ask::one(&id)).json()["expiresAt"].clone();
    let taken = stage.ask(Ask::post(at("/snapshots"), json!({})).header("prefer", "wait=0"));
    assert_eq!(taken.status, 202, "{taken:?}");
    let refused = stage.ask(Ask::post(at("/pause"), json!({})));
    assert_eq!((refused.status, refused.code()), (409, "conflict".into()), "{refused:?}");
    let shown = stage.ask(Ask::one(&id)).json();
    assert_eq!((&shown["state"], &shown["expiresAt"]), (&json!("running"), &before));
    stage.world.advance(Duration::seconds(30));
    assert_eq!(stage.ask(Ask::post(at("/pause"), json!({}))).state(), "paused");
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
            let answer = stage.ask(Ask::post(format!("/api/sandboxes/{id}/{verb}"), body));
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
