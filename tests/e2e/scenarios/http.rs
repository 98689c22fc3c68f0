//! HTTP itself, which each platform has its own way with.

use serde_json::{Value, json};

use crate::{client::Answer, rig::PAGE, target::Target, world::World};

pub(super) async fn head_is_get_without_a_body(world: World) {
    let sandbox = world.sandbox(json!({})).await;
    for path in ["/api/health", "/openapi.json", "/api/config/sandbox", "/api/sandboxes", &*sandbox.path("")]
    {
        let got = world.blue.get(path).await;
        let head = world.blue.ask("HEAD", path, &Value::Null).await;
        head.empty(200);
        for name in ["content-type", "etag", "cache-control"] {
            assert_eq!(head.header(name), got.header(name), "{path}: {name}");
        }
        assert!(!head.header("x-request-id").is_empty(), "{path}");
    }
    world.anyone.ask("HEAD", "/api/health", &Value::Null).await.empty(200);
    world.anyone.ask("HEAD", "/api/sandboxes", &Value::Null).await.empty(401);
    world.blue.ask("HEAD", "/api/sandboxes/nonsense", &Value::Null).await.empty(404);
    world.blue.ask("HEAD", "/api/gc", &Value::Null).await.empty(405);
    sandbox.drop().await;
}

pub(super) async fn a_coded_body_is_refused(world: World) {
    for (coding, status) in [("gzip", 415), ("identity, br", 415), ("identity", 400)] {
        let request = world.blue.request("POST", "/api/sandboxes").header("content-encoding", coding);
        let request = request.header("content-type", "application/json").body(b"{\"cpu\": 0}".to_vec());
        let answer = world.blue.send(request.expect("a request")).await;
        let code = if status == 415 { "unsupported-media-type" } else { "invalid-request" };
        answer.problem(status, code);
    }
}

pub(super) async fn preferences_are_taken_as_far_as_they_can_be(world: World) {
    let sandbox = world.sandbox(json!({})).await;
    // API Gateway gives up before 25 s are over.
    let longest = if matches!(world.target, Target::Lambda | Target::LambdaStreaming) { 20 } else { 25 };
    for (prefer, applied) in [
        ("wait=26", format!("wait={longest}")),
        ("return=minimal, WAIT=\"3\"", "wait=3".to_owned()),
        ("respond-async", "respond-async".to_owned()),
        ("wait=soon", String::new()),
        ("wait=-1", String::new()),
    ] {
        let answer = world.blue.ask_with("GET", &sandbox.path(""), &Value::Null, &[("prefer", prefer)]).await;
        assert_eq!((answer.status, answer.header("preference-applied")), (200, &*applied), "{prefer}");
    }
    sandbox.drop().await;
}

fn allows(answer: &Answer) -> &str {
    answer.header("access-control-allow-origin")
}

pub(super) async fn pages_of_an_origin_that_is_set_may_use_it(world: World) {
    let asks = [("origin", PAGE), ("access-control-request-method", "POST")];
    let preflight = world.anyone.ask_with("OPTIONS", "/api/sandboxes", &Value::Null, &asks).await;
    preflight.empty(204);
    assert_eq!((allows(&preflight), preflight.header("vary")), (PAGE, "Origin"));
    let headers = preflight.header("access-control-allow-headers").to_lowercase();
    assert!(headers.contains("authorization") && headers.contains("idempotency-key"), "{headers}");
    assert!(preflight.header("access-control-allow-methods").contains("DELETE"));

    let page = [("origin", PAGE)];
    let large = json!({"name": "x".repeat(2 << 20)});
    for (client, method, path, body, status) in [
        (&world.blue, "GET", "/api/sandboxes", &Value::Null, 200),
        (&world.anyone, "GET", "/api/sandboxes", &Value::Null, 401),
        (&world.blue, "GET", "/nowhere", &Value::Null, 404),
        (&world.blue, "POST", "/api/sandboxes", &json!({"cpu": 0}), 400),
        (&world.blue, "POST", "/api/sandboxes", &large, 413),
    ] {
        let answer = client.ask_with(method, path, body, &page).await;
        assert_eq!((answer.status, allows(&answer)), (status, PAGE), "{method} {path}");
        let exposed = answer.header("access-control-expose-headers").to_lowercase();
        for name in ["etag", "location", "retry-after", "preference-applied"] {
            assert!(exposed.contains(name), "{name}: {exposed}");
        }
    }
    let stranger = [("origin", "https://evil.test")];
    let answer = world.blue.ask_with("GET", "/api/sandboxes", &Value::Null, &stranger).await;
    assert_eq!((answer.status, allows(&answer), answer.header("vary")), (200, "", "Origin"));
}

pub(super) async fn a_condition_holds_for_its_end(world: World) {
    let sandbox = world.sandbox(json!({})).await;
    let old = [("if-match", sandbox.etag.as_str())];
    let renamed = world.blue.ask("PATCH", &sandbox.path(""), &json!({"name": "renamed"})).await;
    let current = renamed.header("etag").to_owned();
    for (method, rest, body) in [("DELETE", "", Value::Null), ("POST", "/extend", json!({"ttlSeconds": 60}))]
    {
        let answer = world.blue.ask_with(method, &sandbox.path(rest), &body, &old).await;
        assert_eq!(answer.problem(412, "precondition-failed")["etag"], current, "{method}");
    }
    assert_eq!(sandbox.get().await.header("etag"), current);
    let now = [("if-match", current.as_str())];
    world.blue.ask_with("DELETE", &sandbox.path(""), &Value::Null, &now).await.empty(204);
}
