//! Requests that are the caller's fault.

use serde_json::{Value, json};

use crate::world::World;

pub(super) async fn bad_bodies_name_the_field(world: World) {
    for (body, code, field) in [
        ("{", "invalid-json", ""),
        ("{\"name\": \"x\"", "invalid-json", ""),
        ("{} {}", "invalid-json", ""),
        ("nonsense", "invalid-json", ""),
        ("[]", "invalid-request", "body"),
        ("7", "invalid-request", "body"),
        ("{\"name\": 7}", "invalid-request", "name"),
        ("{\"ttlSeconds\": \"x\"}", "invalid-request", "ttlSeconds"),
        ("{\"ttlSeconds\": -1}", "invalid-request", "ttlSeconds"),
        ("{\"ttlSeconds\": 0}", "invalid-request", "ttlSeconds"),
        ("{\"ttlSeconds\": 1e30}", "invalid-request", "ttlSeconds"),
        ("{\"ttlSeconds\": 99999999999}", "invalid-request", "ttlSeconds"),
        ("{\"metadata\": {\"a\": 1}}", "invalid-request", "metadata.a"),
        ("{\"metadata\": {\"\": \"x\"}}", "invalid-request", "metadata"),
        ("{\"onExpiry\": \"explode\"}", "invalid-request", "onExpiry"),
        ("{\"preset\": \"../etc\"}", "invalid-request", "preset"),
        ("{\"snapshotId\": \"pvelxc_1vcpu_1gb_8gb_v0\"}", "invalid-request", "snapshotId"),
        ("{\"snapshotId\": \"morph_1vcpu_1gb_8gb_v1\"}", "invalid-request", "snapshotId"),
        ("{\"templateVmid\": 5}", "invalid-request", "templateVmid"),
        ("{\"preset\": \"1vcpu_1gb_8gb\", \"templateVmid\": 100001}", "invalid-request", "snapshotId"),
        ("{\"cpu\": 0}", "invalid-request", "cpu"),
        ("{\"memory\": 1}", "invalid-request", "memory"),
        ("{\"disk\": 0}", "invalid-request", "disk"),
        ("{\"nmae\": \"x\"}", "invalid-request", "nmae"),
        ("{\"name\": \"\"}", "invalid-request", "name"),
        ("{\"name\": \"a\\u0000b\"}", "invalid-request", "name"),
        ("{\"name\": \"a\\nb\"}", "invalid-request", "name"),
    ] {
        let request = world.blue.request("POST", "/api/sandboxes").header("content-type", "application/json");
        let answer = world.blue.send(request.body(body.as_bytes().to_vec()).expect("a request")).await;
        let problem = answer.problem(400, code);
        let named = problem["errors"][0]["field"].as_str().unwrap_or_default();
        assert_eq!(named, field, "{body}: {problem}");
    }
    let long = json!({"name": "x".repeat(65)});
    world.blue.ask("POST", "/api/sandboxes", &long).await.problem(400, "invalid-request");
    let many: serde_json::Map<_, _> = (0..65).map(|at| (format!("k{at}"), json!("v"))).collect();
    let many = json!({"metadata": many});
    world.blue.ask("POST", "/api/sandboxes", &many).await.problem(400, "invalid-request");
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let request = world.blue.request("POST", "/api/sandboxes").body(deep.into_bytes()).expect("a request");
    assert_eq!(world.blue.send(request).await.status, 400);
}

pub(super) async fn bad_headers_are_refused(world: World) {
    let long = "k".repeat(256);
    for (name, value) in [("idempotency-key", ""), ("idempotency-key", long.as_str())] {
        let answer = world.blue.ask_with("POST", "/api/sandboxes", &json!({}), &[(name, value)]).await;
        let problem = answer.problem(400, "invalid-request");
        let field = problem["errors"][0]["field"].as_str().unwrap_or_default();
        assert!(field.eq_ignore_ascii_case(name), "{problem}");
    }
}

pub(super) async fn bad_queries_are_refused(world: World) {
    for (query, field) in [
        ("tate=running", "tate"),
        ("state=rnning", "state"),
        ("limit=0", "limit"),
        ("limit=5001", "limit"),
        ("limit=ten", "limit"),
        ("cursor=nonsense", "cursor"),
        ("metadata=x", "metadata"),
    ] {
        let answer = world.blue.get(&format!("/api/sandboxes?{query}")).await;
        let problem = answer.problem(400, "invalid-request");
        assert_eq!(problem["errors"][0]["field"], field, "{query}");
    }
    for path in ["/api/config/sandbox?x=1", "/api/sandboxes/nonsense?x=1"] {
        world.blue.get(path).await.problem(400, "invalid-request");
    }
}

pub(super) async fn bad_ids_do_not_exist(world: World) {
    for id in [
        "nonsense",
        "pvelxc-200000",
        "pvelxc-200000-",
        "pvelxc-99-abuvloiazucki5keq5c2n7ye",
        "pvelxc-200000-abuvloiazucki5keq5c2n7ye-pve1",
        "pvelxc-200000-abuvloiazucki5keq5c2n7ye-..",
        "morphvm_abc",
        "%2e%2e",
        "..%2f..%2fversion",
        "pvelxc-200000%2f..%2f101",
        "%00",
        "a%20b",
        "%F0%9F%A6%80",
        "200010",
    ] {
        for (method, rest) in [("GET", ""), ("DELETE", ""), ("POST", "/extend")] {
            let path = format!("/api/sandboxes/{id}{rest}");
            let answer = world.blue.ask(method, &path, &Value::Null).await;
            assert!(matches!(answer.status, 404 | 405), "{method} {path}: {}", answer.text());
        }
    }
}

pub(super) async fn wrong_methods_and_paths(world: World) {
    for (method, path) in [
        ("PUT", "/api/sandboxes"),
        ("DELETE", "/api/sandboxes"),
        ("POST", "/api/config/sandbox"),
        ("GET", "/api/sandboxes/x/exec"),
        ("POST", "/api/sandboxes/x"),
    ] {
        let answer = world.blue.ask(method, path, &Value::Null).await;
        answer.problem(405, "method-not-allowed");
        assert!(!answer.header("allow").is_empty(), "{method} {path} has no Allow header (RFC 9110, 15.5.6)");
    }
    for path in [
        "//",
        "/api",
        "/api/",
        "/api/sandboxes/",
        "/api/sandboxes/x/y/z",
        "/API/sandboxes",
        "/api2/json/version",
    ] {
        world.blue.get(path).await.problem(404, "unknown-path");
    }
}

pub(super) async fn a_large_body(world: World) {
    let body = json!({"name": "x".repeat(2 << 20)});
    for path in ["/api/sandboxes", "/api/sandboxes/x/exec"] {
        world.blue.ask("POST", path, &body).await.problem(413, "too-large");
    }
}

pub(super) async fn other_content_types(world: World) {
    for (kind, status) in [
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("multipart/form-data; boundary=x", 415),
        ("application/json; charset=utf-8", 400),
        ("application/merge-patch+json", 400),
        ("APPLICATION/JSON", 400),
    ] {
        // What is read is refused for its field.
        let request = world.blue.request("POST", "/api/sandboxes").header("content-type", kind);
        let answer = world.blue.send(request.body(b"{\"cpu\": 0}".to_vec()).expect("a request")).await;
        let code = if status == 415 { "unsupported-media-type" } else { "invalid-request" };
        answer.problem(status, code);
    }
}
