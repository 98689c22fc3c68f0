//! HTTP itself, whatever is asked for: HEAD, conditions, preferences, codings, other origins, base paths.

use std::{collections::BTreeSet, rc::Rc};

use pve_edge_core::api::{Service, handle};

use crate::{
    ids::old_id,
    stage::{WORKERS, prelude::*, settings},
};

fn stage(changes: &[(&str, &str)]) -> Stage {
    Stage::of(World::new(crate::stage::plain_sim(Setup::default()), 7), changes)
}

/// Every path that GET takes, with something behind it or not.
fn readable(stage: &Stage) -> Vec<String> {
    let id = stage.ask(Ask::create()).id();
    let document = stage.ask(Ask::get("/openapi.json")).json();
    let paths = document["paths"].as_object().expect("paths");
    let got = paths.iter().filter(|(_, item)| item.get("get").is_some());
    got.map(|(path, _)| path.replace("{id}", &id)).collect()
}

#[test]
fn head_is_get_without_a_body() {
    let stage = Stage::new();
    let paths = readable(&stage);
    assert!(paths.len() >= 8, "{paths:?}");
    for path in paths {
        let (got, head) = (stage.ask(Ask::get(&path)), stage.ask(Ask::head(&path)));
        assert_eq!((head.status, head.body.as_str()), (got.status, ""), "{path}");
        let names = |it: &Answer| -> BTreeSet<String> {
            it.headers.keys().map(|it| it.as_str().to_owned()).collect()
        };
        let mut expected = names(&got);
        expected.insert("content-length".into());
        assert_eq!(names(&head), expected, "{path}");
        assert_eq!(head.header("etag"), got.header("etag"), "{path}");
        // Health measures, so its length differs.
        if path != "/api/health/sandbox" {
            assert_eq!(head.header("content-length"), got.body.len().to_string(), "{path}");
        }
    }
    assert_eq!(stage.ask(Ask::head("/api/health").without("authorization")).status, 200);
    assert_eq!(stage.ask(Ask::head("/api/sandboxes").without("authorization")).status, 401);
    assert_eq!(stage.ask(Ask::head("/api/nothing")).status, 404);
    let gc = stage.ask(Ask::head("/api/gc"));
    assert_eq!((gc.status, gc.header("allow"), gc.body.as_str()), (405, "POST", ""));
}

#[test]
fn a_coded_body_is_refused() {
    let stage = Stage::new();
    for coding in ["gzip", "br", "identity, gzip", "\u{fc}"] {
        let exec = format!("/api/sandboxes/{}/exec", old_id(200_000));
        for path in ["/api/sandboxes", &exec, "/api/gc", "/api/templates"] {
            let ask = Ask::post(path, json!({})).by("ops").header("content-encoding", coding);
            let answer = stage.ask(ask);
            assert_eq!(answer.refusal(), "415 unsupported-media-type", "{path}: {answer:?}");
            assert_eq!(answer.header("accept-encoding"), "identity");
        }
    }
    assert_eq!(stage.world.requests().len(), 0);
    for coding in ["identity", "Identity", ""] {
        assert_eq!(stage.ask(Ask::create().header("content-encoding", coding)).status, 201, "{coding}");
    }
}

/// The field that is wrong, and what is said of it.
fn wrong(path: &str, body: &str) -> (String, String) {
    let stage = Stage::new();
    let answer = stage.ask(Ask::post(path, json!({})).by("ops").bytes(body));
    assert_eq!(answer.refusal(), "400 invalid-request", "{body}: {answer:?}");
    assert_eq!(stage.world.requests().len(), 0, "{body}");
    let error = answer.json()["errors"][0].clone();
    let text = |name: &str| error[name].as_str().unwrap_or_default().to_owned();
    (text("field"), text("detail"))
}

const CREATE: &str = "/api/sandboxes";

#[test]
fn members_that_are_there_twice_are_named() {
    for (path, body, field) in [
        (CREATE, r#"{"name": "a", "name": "b"}"#, "name"),
        (CREATE, r#"{"name": "a", "name": "a"}"#, "name"),
        (CREATE, r#"{"metadata": {"a": "1", "a": "2"}}"#, "metadata.a"),
        (CREATE, r#"{"env": {"A": "1", "\u0041": "2"}}"#, "env.A"),
        ("/api/gc", r#"{"dryRun": true, "dryRun": false}"#, "dryRun"),
        ("/api/templates", r#"{"url": "x", "url": "y"}"#, "url"),
    ] {
        assert_eq!(wrong(path, body), (field.to_owned(), "must be given once".to_owned()), "{body}");
    }
}

#[test]
fn whole_numbers_are_whole_however_they_are_written() {
    let stage = Stage::new();
    for number in ["3600.0", "3.6e3", "36e2", "3600"] {
        let answer = stage.ask(Ask::create().bytes(format!("{{\"ttlSeconds\": {number}, \"cpu\": 2.0}}")));
        let shown = answer.json();
        assert_eq!(answer.status, 201, "{number}: {shown}");
        let path = format!("/api/sandboxes/{}", answer.id());
        let patched = stage.ask(Ask::patch(&path, json!({})).bytes(format!("{{\"ttlSeconds\": {number}}}")));
        let extended = stage.ask(Ask::extend(&answer.id(), 1).bytes(format!("{{\"ttlSeconds\": {number}}}")));
        let run = Ask::exec(&answer.id(), "true").bytes("{\"command\": \"true\", \"timeoutMs\": 1e4}");
        assert_eq!((patched.status, extended.status, stage.ask(run).status), (200, 200, 200), "{number}");
    }
    // One request however it is spelled.
    let made = stage.ask(Ask::create_keyed("k").bytes("{\"cpu\": 1}"));
    let again = stage.ask(Ask::create_keyed("k").bytes("{\"cpu\": 1.0}"));
    assert_eq!((made.status, again.status, made.id()), (201, 200, again.id()));
}

/// What is said is for people who have never seen Rust.
#[test]
fn what_is_wrong_is_said_in_a_callers_words() {
    const SECONDS: &str = "must be a whole number of seconds, at least 1, or null";
    let numbers: [(&str, &str, &str); 10] = [
        (CREATE, "{\"ttlSeconds\": ?}", SECONDS),
        ("/api/sandboxes/x/extend", "{\"ttlSeconds\": ?}", SECONDS),
        ("/api/sandboxes/x/start", "{\"ttlSeconds\": ?}", SECONDS),
        ("/api/sandboxes/x/resume", "{\"ttlSeconds\": ?}", SECONDS),
        (CREATE, "{\"cpu\": ?}", "must be a whole number"),
        (CREATE, "{\"memory\": ?}", "must be a whole number"),
        (CREATE, "{\"disk\": ?}", "must be a whole number"),
        (CREATE, "{\"templateVmid\": ?}", "must be a whole number"),
        ("/api/sandboxes/x/exec", "{\"timeoutMs\": ?}", "must be a whole number"),
        ("/api/sandboxes/x/stop", "{\"timeoutSeconds\": ?}", "must be a whole number"),
    ];
    let id = old_id(200_000);
    for (path, body, said) in numbers {
        for value in ["1.5", "\"7\"", "true", "[]", "{}", "0.1e-3"] {
            let (_, detail) = wrong(&path.replace("/x/", &format!("/{id}/")), &body.replace('?', value));
            assert_eq!(detail, said, "{path} {body} {value}");
        }
    }
    for (body, field, said) in [
        ("{\"cpu\": -1}", "cpu", "must not be negative"),
        ("{\"cpu\": 1e30}", "cpu", "must be at most 4294967295"),
        ("{\"onExpiry\": \"explode\"}", "onExpiry", "must be one of delete, stop, pause"),
        ("{\"onExpiry\": 7}", "onExpiry", "must be a string"),
        ("{\"metadata\": []}", "metadata", "must be an object"),
        ("{\"metadata\": {\"a\": 1}}", "metadata.a", "must be a string"),
        ("[]", "body", "must be an object"),
    ] {
        assert_eq!(wrong(CREATE, body), (field.to_owned(), said.to_owned()), "{body}");
    }
    let (field, detail) = wrong(CREATE, "{\"nmae\": 1}");
    assert_eq!(field, "nmae");
    assert!(detail.starts_with("is not known here; known are snapshotId, preset"), "{detail}");
    let snapshot = format!("/api/sandboxes/{id}/snapshots");
    assert_eq!(wrong(&snapshot, "{\"keep\": 1}").1, "must be true or false");
    assert_eq!(wrong(&snapshot, "{\"promote\": {}}"), ("promote.preset".to_owned(), "is needed".to_owned()));
}

/// Characters, not bytes, and wherever it comes from.
#[test]
fn what_is_repeated_of_a_request_is_cut() {
    let long = "ü".repeat(5000);
    let in_path = "%C3%BC".repeat(1000);
    let stage = Stage::new();
    let body = |body: Value| Ask::create().json(body);
    for ask in [
        body(json!({ long.as_str(): 1 })),
        body(json!({"onExpiry": long})),
        body(json!({"preset": long})),
        body(json!({"snapshotId": long})),
        body(json!({"env": { format!("A {long}"): "x" }})),
        body(json!({"metadata": { format!("edge.{long}"): 7 }})),
        Ask::create().bytes(format!("{{\"{long}\": 1, \"{long}\": 1}}")),
        Ask::get(format!("/api/{in_path}")),
        Ask::get(format!("/api/sandboxes/{in_path}")),
        Ask::snapshot(&in_path),
        Ask::get(format!("/api/templates/{in_path}")).by("ops"),
        Ask::delete(format!("/api/sandboxes/{}/snapshots/{in_path}", old_id(200_000))),
        Ask::get(format!("/api/sandboxes?{in_path}=1")),
        Ask::get(format!("/api/sandboxes?metadata.{in_path}=1&metadata.{in_path}=1")),
        Ask::get(format!("/api/sandboxes?state={in_path}")),
        Ask::post("/api/templates", json!({"appliance": long, "preset": "1vcpu_1gb_8gb"})).by("ops"),
        Ask::post("/api/templates", json!({"url": format!("https://{long}"), "preset": "1vcpu_1gb_8gb"}))
            .by("ops"),
    ] {
        let answer = stage.ask(ask.clone());
        assert!((400..500).contains(&answer.status), "{answer:?}");
        let told = answer.json();
        let texts = [&told["detail"], &told["errors"][0]["field"], &told["errors"][0]["detail"]];
        for text in texts.into_iter().filter_map(Value::as_str) {
            let longest = text.split(|it: char| !"ü%C3BC".contains(it)).map(|it| it.chars().count()).max();
            assert!(longest.is_some_and(|it| it <= 200), "{} characters: {text}", text.chars().count());
        }
    }
    let named = stage.ask(body(json!({ long.as_str(): 1 }))).json();
    assert_eq!(named["errors"][0]["field"], format!("{}…", "ü".repeat(200)));
}

#[test]
fn preferences_are_taken_as_far_as_they_can_be() {
    let stage = Stage::new();
    let id = stage.ask(Ask::create()).id();
    for (prefer, applied) in [
        ("wait=26", "wait=25"),
        ("wait=3", "wait=3"),
        ("respond-async", "respond-async"),
        ("return=minimal, wait=\"7\"", "wait=7"),
        ("wait=soon", ""),
        ("wait=-1", ""),
        ("x", ""),
    ] {
        let got = stage.ask(Ask::one(&id).header("prefer", prefer));
        assert_eq!((got.status, got.header("preference-applied")), (200, applied), "{prefer}");
        // What waits for nothing takes no wait.
        let listed = stage.ask(Ask::get("/api/sandboxes").header("prefer", prefer));
        assert_eq!((listed.status, listed.header("preference-applied")), (200, ""), "{prefer}");
    }
    let start = stage.world.now();
    let made = stage.ask(Ask::create().header("prefer", "respond-async"));
    assert_eq!((made.status, made.header("preference-applied")), (202, "respond-async"));
    let at_once = made.at - start;
    let start = stage.world.now();
    let made = stage.ask(Ask::create().header("prefer", "wait=soon"));
    assert_eq!(made.status, 201, "what cannot be read is as good as absent");
    assert!(made.at - start > at_once);
}

/// Of containers and VMs: the second deletes in more than one step.
#[test]
fn a_condition_holds_for_what_deletes_and_extends() {
    for kind in BOTH {
        let stage = Stage::with(kind);
        let made = stage.ask(Ask::create());
        let (id, first) = (made.id(), made.header("etag").to_owned());
        let path = format!("/api/sandboxes/{id}");
        let renamed = stage.ask(Ask::patch(&path, json!({"name": "renamed"})));
        let second = renamed.header("etag").to_owned();
        assert_ne!(first, second);
        let before = stage.world.sim().guest(crate::stage::vmid_of(&id)).expect("a guest").config.clone();
        for ask in [Ask::end(&id), Ask::extend(&id, 60)] {
            for condition in [&*first, "\"x\", W/\"y\"", ""] {
                let writes = stage.world.requests().iter().filter(|it| it.method != "GET").count();
                let refused = stage.ask(ask.clone().header("if-match", condition));
                assert_eq!(refused.refusal(), "412 precondition-failed", "{kind:?} {condition}");
                assert_eq!(refused.json()["etag"], second);
                let after = stage.world.requests().iter().filter(|it| it.method != "GET").count();
                assert_eq!(writes, after, "{kind:?}: nothing is written\n{}", stage.told());
            }
        }
        let after = stage.world.sim().guest(crate::stage::vmid_of(&id)).expect("a guest").config.clone();
        assert_eq!(format!("{before:?}"), format!("{after:?}"));
        let extended = stage.ask(Ask::extend(&id, 7200).header("if-match", second.clone()));
        assert_eq!(extended.status, 200, "{extended:?}");
        assert_eq!(stage.ask(Ask::end(&id).header("if-match", second)).status, 412);
        let third = extended.header("etag").to_owned();
        let gone = stage.ask(Ask::end(&id).header("if-match", third).wait(25));
        assert_eq!(gone.status, 204, "{kind:?}: {gone:?}\n{}", stage.told());
        assert!(stage.world.sim().guest(crate::stage::vmid_of(&id)).is_none());
    }
}

const PAGE: &str = "https://app.example.com";

fn cors(stage: &Stage, ask: Ask) -> (Answer, String, String) {
    let answer = stage.ask(ask);
    let header = |name| answer.header(name).to_owned();
    let (origin, vary) = (header("access-control-allow-origin"), header("vary"));
    (answer, origin, vary)
}

#[test]
fn pages_of_origins_that_are_set_may_use_the_api() {
    let stage = stage(&[("EDGE_CORS_ORIGINS", "https://app.example.com http://localhost:3000")]);
    let from = |ask: Ask, origin: &str| ask.header("origin", origin);
    let preflight = |path: &str| {
        Ask::options(path).without("authorization").header("access-control-request-method", "POST")
    };
    for path in ["/api/sandboxes", "/api/sandboxes/x/exec", "/api/nothing"] {
        let (answer, origin, vary) = cors(&stage, from(preflight(path), PAGE));
        assert_eq!(
            (answer.status, &*origin, &*vary, answer.body.as_str()),
            (204, PAGE, "Origin", ""),
            "{path}"
        );
        assert!(answer.header("access-control-allow-methods").contains("PATCH, DELETE"), "{answer:?}");
        let headers = answer.header("access-control-allow-headers").to_lowercase();
        for name in ["authorization", "content-type", "idempotency-key", "if-match", "prefer", "x-api-key"] {
            assert!(headers.split(", ").any(|it| it == name), "{name}: {headers}");
        }
        let (answer, origin, _) = cors(&stage, from(preflight(path), "https://evil.test"));
        assert_eq!((answer.status, &*origin), (204, ""));
        assert_eq!(answer.header("access-control-allow-methods"), "");
    }
    assert_eq!(stage.world.requests().len(), 0);
    for (ask, status) in [
        (Ask::create(), 201),
        (Ask::get("/api/sandboxes"), 200),
        (Ask::get("/api/sandboxes").without("authorization"), 401),
        (Ask::get("/api/nothing"), 404),
        (Ask::create().bytes("{"), 400),
        (Ask::get("/api/health").without("authorization"), 200),
    ] {
        let (answer, origin, vary) = cors(&stage, from(ask.clone(), PAGE));
        assert_eq!((answer.status, &*origin, &*vary), (status, PAGE, "Origin"), "{ask:?}");
        let exposed = answer.header("access-control-expose-headers").to_lowercase();
        for name in ["etag", "location", "retry-after", "preference-applied", "x-request-id"] {
            assert!(exposed.split(", ").any(|it| it == name), "{name}: {exposed}");
        }
        for origin in ["https://evil.test", "null"] {
            let (answer, allowed, vary) = cors(&stage, from(Ask::get("/api/sandboxes"), origin));
            assert_eq!((answer.status, &*allowed, &*vary), (200, "", "Origin"), "{origin}");
        }
    }
    let (_, origin, vary) = cors(&stage, Ask::get("/api/sandboxes"));
    assert_eq!((&*origin, &*vary), ("", "Origin"));
    // Not a preflight: a method like any other.
    assert_eq!(stage.ask(from(Ask::options("/api/sandboxes"), PAGE)).status, 405);
}

#[test]
fn every_origin_or_none() {
    let all = stage(&[("EDGE_CORS_ORIGINS", "*")]);
    let (answer, origin, vary) = cors(&all, Ask::get("/api/sandboxes").header("origin", "null"));
    assert_eq!((answer.status, &*origin, &*vary), (200, "*", ""));
    let none = Stage::new();
    let ask =
        Ask::options("/api/sandboxes").header("access-control-request-method", "POST").header("origin", PAGE);
    let (answer, origin, vary) = cors(&none, ask.clone());
    assert_eq!((answer.status, &*origin, &*vary), (405, "", ""));
    assert_eq!(none.ask(ask.without("authorization")).status, 401);
}

/// A page can read that the settings are wrong, and that its body is too large.
#[test]
fn what_is_answered_before_a_route_is_found_is_shared_too() {
    let set = [("EDGE_CORS_ORIGINS", PAGE), ("PVE_NODE", "not.a.node")];
    let service = Service::new(&settings(&set), WORKERS);
    assert_eq!(service.misconfigured().len(), 1);
    let service = Rc::new(service);
    let world = World::new(crate::stage::plain_sim(Setup::default()), 7);
    for (size, status) in [((1 << 20) + 1, 413), (1 << 20, 503)] {
        let (io, service) = (world.io(), service.clone());
        let request = http::Request::post("/api/health").header("origin", PAGE);
        let request = request.body(io.uploaded(vec![b' '; size])).expect("a request");
        let answer =
            world.run(async move { handle(io, &service, WORKERS, [7; 32], request).await.into_parts().0 });
        assert_eq!(
            (answer.status.as_u16(), answer.headers["access-control-allow-origin"].to_str().ok()),
            (status, Some(PAGE))
        );
    }
}

#[test]
fn the_api_can_be_below_a_path() {
    let stage = stage(&[("EDGE_BASE_PATH", "/edge/v1/")]);
    let made = stage.ask(Ask::post("/edge/v1/api/sandboxes", json!({})));
    assert_eq!(made.status, 201, "{made:?}");
    assert_eq!(made.header("location"), format!("/edge/v1/api/sandboxes/{}", made.id()));
    assert_eq!(stage.ask(Ask::get(made.header("location"))).id(), made.id());
    // Who asks without it, such as a function URL, is told of paths without it.
    let direct = stage.ask(Ask::create());
    assert_eq!(direct.header("location"), format!("/api/sandboxes/{}", direct.id()));
    for path in ["/edge/v1", "/edge/api/health", "/edge/v1x/api/health", "/edge/v1/edge/v1/api/health"] {
        assert_eq!(stage.ask(Ask::get(path)).status, 404, "{path}");
    }
    // A base that an API's path begins with, too.
    let stage = self::stage(&[("EDGE_BASE_PATH", "/api")]);
    for path in ["/api/api/health", "/api/health", "/api/openapi.json"] {
        assert_eq!(stage.ask(Ask::get(path)).status, 200, "{path}");
    }
}

#[test]
fn an_if_match_that_cannot_be_read_matches_nothing() {
    let stage = Stage::new();
    let id = stage.created(json!({}));
    let patch = Ask::change(&id, json!({"name": "x"}));
    assert_eq!(stage.ask(patch.clone().header("if-match", "\"ä\"")).status, 412);
    let etag = stage.ask(Ask::one(&id)).header("etag").to_owned();
    assert_eq!(stage.ask(patch.header("if-match", etag)).status, 200);
}
