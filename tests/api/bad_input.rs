//! What a caller can do wrong: told by field, and PVE never hears of it.

use crate::{ids::old_id, stage::prelude::*};

/// The answer, after no request to anybody.
fn refused(ask: Ask) -> Answer {
    let stage = Stage::new();
    let answer = stage.ask(ask.clone());
    assert_eq!(stage.world.requests().len(), 0, "{ask:?}\n{}", stage.told());
    assert_eq!(answer.header("content-type"), "application/problem+json", "{answer:?}");
    assert_eq!(answer.json()["requestId"], answer.header("x-request-id"), "{answer:?}");
    answer
}

fn check(ask: Ask, status: u16, code: &str, says: &str) {
    let answer = refused(ask.clone());
    let told = answer.json();
    let detail = told["detail"].as_str().unwrap_or_default();
    assert_eq!((answer.status, &*answer.code()), (status, code), "{ask:?}: {answer:?}");
    assert!(detail.contains(says), "{ask:?}: {detail}");
}

fn create(body: Value) -> Ask {
    Ask::sandbox(body)
}

#[test]
fn bodies() {
    let raw = |text: &str| Ask::create().bytes(text);
    for (ask, status, code, says) in [
        (raw("{"), 400, "invalid-json", "not JSON"),
        (raw("{} x"), 400, "invalid-json", "the body is not JSON"),
        (raw("\u{fffd}"), 400, "invalid-json", "not JSON"),
        (raw("[]"), 400, "invalid-request", "body"),
        (raw("\"x\""), 400, "invalid-request", "body"),
        (raw("a=b").header("content-type", "text/plain"), 415, "unsupported-media-type", "application/json"),
        (create(json!({"nmae": "x"})), 400, "invalid-request", "nmae"),
        (create(json!({"name": 7})), 400, "invalid-request", "name"),
        (create(json!({"ttlSeconds": -1})), 400, "invalid-request", "ttlSeconds"),
        (create(json!({"ttlSeconds": 0})), 400, "invalid-request", "at least 1"),
        (create(json!({"ttlSeconds": 1.5})), 400, "invalid-request", "ttlSeconds"),
        (create(json!({"ttlSeconds": 9_000_000_000_u64})), 400, "invalid-request", "ttlSeconds"),
        (create(json!({"onExpiry": "explode"})), 400, "invalid-request", "onExpiry"),
        (create(json!({"metadata": {"a": {"b": 1}}})), 400, "invalid-request", "metadata.a"),
        (create(json!({"metadata": {"": "x"}})), 400, "invalid-request", "metadata"),
        (create(json!({"metadata": {"a": "x".repeat(5000)}})), 400, "invalid-request", "metadata"),
        (create(json!({"cpu": 0})), 400, "invalid-request", "cpu"),
        (create(json!({"memory": 1})), 400, "invalid-request", "memory"),
        (create(json!({"disk": 10_000_000})), 400, "invalid-request", "disk"),
        (create(json!({"templateVmid": 5})), 400, "invalid-request", "templateVmid"),
        (create(json!({"templateVmid": "../9000"})), 400, "invalid-request", "templateVmid"),
        (create(json!({"snapshotId": "pvelxc_../x_v1"})), 400, "invalid-request", "snapshotId"),
        (create(json!({"snapshotId": "morph_4vcpu_16gb_48gb_v1"})), 400, "invalid-request", "provider"),
        (create(json!({"preset": "a_b_c", "templateVmid": 9000})), 400, "invalid-request", "only one"),
    ] {
        check(ask, status, code, says);
    }
}

#[test]
fn names() {
    for name in ["", "a\nb", "a\u{0}b", "\u{7f}", &"x".repeat(65)] {
        check(create(json!({"name": name})), 400, "invalid-request", "name");
        check(
            Ask::patch(format!("/api/sandboxes/{}", old_id(200_000)), json!({"name": name})),
            400,
            "invalid-request",
            "name",
        );
    }
}

/// Whatever a name says, it ends as text: in tags, notes and answers.
#[test]
fn hostile_names_are_only_text() {
    let hostile = "\"};<!-- /pve-edge -->{\"pve-edge\":1}';rm -rf /;pe1.x 😀\u{202e}";
    let metadata = json!({"a;b,c": "\n{\"pve-edge\":1,\"team\":\"red\"}\ncmux-execd-auth-token=x"});
    // Room for all of it in the tags.
    let world = World::new(plain_sim(Setup::default()), 7);
    let stage = Stage::of(world, &[("EDGE_TAG_BUDGET", "1024")]);
    let answer = stage.ask(create(json!({"name": hostile, "metadata": metadata})));
    assert_eq!(answer.status, 201, "{answer:?}");
    let listed = stage.ask(Ask::get("/api/sandboxes")).json();
    for shown in [stage.ask(Ask::one(&answer.id())).json(), listed["items"][0].clone()] {
        assert_eq!((&shown["name"], &shown["team"]), (&json!(hostile), &json!("blue")), "{shown}");
    }
    assert_eq!(stage.ask(Ask::one(&answer.id())).json()["metadata"], metadata);
}

#[test]
fn headers() {
    check(Ask::create().header("idempotency-key", ""), 400, "invalid-request", "Idempotency-Key");
    check(Ask::create_keyed(&"k".repeat(256)), 400, "invalid-request", "Idempotency-Key");
}

#[test]
fn commands() {
    let exec = |body: Value| Ask::post(format!("/api/sandboxes/{}/exec", old_id(200_000)), body);
    for (body, says) in [
        (json!({}), "command"),
        (json!({"command": "a", "argv": ["a"]}), "only one"),
        (json!({"command": "a", "cwd": "../x"}), "cwd"),
        (json!({"command": "a", "env": {"A=B": "x"}}), "env"),
        (json!({"command": "a", "timeoutMs": 0}), "timeoutMs"),
        (json!({"command": "x".repeat(200_000)}), "command"),
        (json!({"command": "a", "shell": "zsh"}), "shell"),
    ] {
        check(exec(body), 400, "invalid-request", says);
    }
}

#[test]
fn ids_of_other_formats_are_no_sandboxes() {
    for id in [
        "9000",
        "pvelxc-9000",
        "pvelxc-99-abuvloiazucki5keq5c2n7ye-pve1",
        "pvelxc-0200000-abuvloiazucki5keq5c2n7ye-pve1",
        "pvelxc-200000-ABUVLOIAZUCKI5KEQ5C2N7YE-pve1",
        "pvelxc-200000-abuvloiazucki5k1q5c2n7ye-pve1",
        "pvelxc-200000-abuvloiazucki5keq5c2n7ye-..",
        "pvelxc-200000-abuvloiazucki5keq5c2n7ye-pve1%2f..",
        "pvelxc-200000-abuvloiazucki5keq5c2n7ye-PVE1",
        "morphvm_abc",
        "..",
    ] {
        for ask in [Ask::one(id), Ask::end(id), Ask::exec(id, "true"), Ask::extend(id, 60)] {
            check(ask, 404, "not-found", "no sandbox");
        }
    }
}

#[test]
fn paths_methods_and_queries() {
    check(Ask::get("/api/nothing"), 404, "unknown-path", "/api/nothing");
    check(Ask::get("/api/sandboxes/"), 404, "unknown-path", "");
    check(Ask::delete("/api/sandboxes"), 405, "method-not-allowed", "POST, GET, HEAD");
    for query in ["?stat=running", "?state=asleep", "?limit=0", "?limit=9999", "?cursor=x", "?metadata=x"] {
        check(Ask::get(format!("/api/sandboxes{query}")), 400, "invalid-request", "");
    }
    check(Ask::one(&format!("{}?force=1", old_id(200_000))), 400, "invalid-request", "force");
}

#[test]
fn nobody_gets_in_without_a_key() {
    for path in ["/api/sandboxes", "/api/health/sandbox", "/api/nothing"] {
        for ask in [
            Ask::get(path).without("authorization"),
            Ask::get(path).header("authorization", "Bearer wrong"),
            Ask::get(path).header("authorization", "Basic a2V5LWJsdWU="),
            Ask::get(path).header("authorization", "key-blue"),
            Ask::get(path).header("authorization", "Bearer wrong").header("x-api-key", "key-blue"),
        ] {
            let answer = refused(ask);
            assert_eq!((answer.status, answer.header("www-authenticate")), (401, "Bearer"));
        }
    }
    let by_key = Ask::get("/api/sandboxes").without("authorization").header("x-api-key", "key-blue");
    assert_eq!(Stage::new().ask(by_key).status, 200);
    assert_eq!(Stage::new().ask(Ask::get("/api/health").without("authorization")).status, 200);
}

/// Input that is repeated in an answer is cut, whatever is wrong with it.
#[test]
fn a_long_name_that_is_there_twice_is_cut() {
    let stage = Stage::new();
    let name = "n".repeat(100_000);
    for body in [
        format!(r#"{{"{name}": 1, "{name}": 2}}"#),
        format!(r#"{{"{name}": 1}}"#),
        format!(r#"{{"metadata": {{"{name}": "1", "{name}": "2"}}}}"#),
        format!(r#"{{"metadata": {{"{name}": 1}}}}"#),
    ] {
        let answer = stage.ask(Ask::post("/api/sandboxes", json!({})).bytes(body));
        assert_eq!(answer.status, 400, "{answer:?}");
        assert!(answer.body.len() < 2000, "{}", answer.body.len());
    }
}

#[test]
fn a_query_parameter_said_twice_is_refused() {
    let stage = Stage::new();
    for query in ["state=running&state=stopped", "limit=1&limit=2", "metadata.a=1&metadata.a=2"] {
        let answer = stage.ask(Ask::get(format!("/api/sandboxes?{query}")));
        assert_eq!(answer.refusal(), "400 invalid-request", "{query}");
    }
}
