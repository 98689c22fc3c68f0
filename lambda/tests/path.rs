//! Events of API Gateway, and the requests that core sees of them.

use futures_util::FutureExt;
use pve_edge_core::{api::Mount, io::collect};
use pve_edge_lambda::function::plain;
use serde_json::{Value, json};

/// What core sees below the client's origin, and what the client's paths begin with.
fn check(event: &Value, uri: &str, mount: &str) {
    let request = lambda_http::request::from_str(&event.to_string()).expect("an event");
    let request = plain(request).expect("a request");
    assert_eq!(request.uri().to_string(), format!("https://x.example{uri}"), "{event}");
    assert_eq!(request.extensions().get::<Mount>().map(|it| it.0.as_str()), Some(mount), "{event}");
    let body = collect(request.into_body(), 2).now_or_never();
    assert_eq!(body, Some(Ok(b"{}".to_vec())), "{event}");
}

fn http_api(route: &str, stage: &str, path: &str) -> Value {
    json!({
        "version": "2.0", "routeKey": route, "rawPath": path, "rawQueryString": "a=b%20c",
        "headers": {"host": "x.example"}, "body": "e30=", "isBase64Encoded": true,
        "requestContext": {
            "accountId": "1", "apiId": "x", "stage": stage, "time": "", "timeEpoch": 0, "routeKey": route,
            "http": {"method": "POST", "path": path, "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1"},
        },
    })
}

/// `seen` is the path of the client's URL.
fn rest_api(stage: &str, path: &str, seen: &str) -> Value {
    json!({
        "resource": "/{proxy+}", "path": path, "httpMethod": "POST", "body": "{}",
        "headers": {"Host": "x.example"}, "multiValueHeaders": {"Host": ["x.example"]},
        "queryStringParameters": {"a": "b"}, "multiValueQueryStringParameters": {"a": ["b"]},
        "requestContext": {"stage": stage, "path": seen, "httpMethod": "POST", "identity": {}},
    })
}

fn with_resource(mut event: Value, resource: &str, proxy: &str) -> Value {
    event["requestContext"]["resourcePath"] = json!(resource);
    event["pathParameters"] = json!({"proxy": proxy});
    event
}

#[test]
fn the_stage_of_an_http_api_is_stripped() {
    let event = |stage, path| http_api("$default", stage, path);
    check(&event("$default", "/api/sand%20boxes"), "/api/sand%20boxes?a=b%20c", "");
    check(&event("prod", "/prod/api/sandboxes"), "/api/sandboxes?a=b%20c", "/prod");
    check(&event("api", "/api/api/sandboxes"), "/api/sandboxes?a=b%20c", "/api");
}

#[test]
fn the_stage_of_a_rest_api_is_stripped() {
    for stage in ["prod", "api"] {
        let event = rest_api(stage, "/api/sandboxes", &format!("/{stage}/api/sandboxes"));
        check(&event, "/api/sandboxes?a=b", &format!("/{stage}"));
        check(
            &with_resource(event, "/{proxy+}", "api/sandboxes"),
            "/api/sandboxes?a=b",
            &format!("/{stage}"),
        );
    }
}

/// As API Gateway tells it of a mapping with a base path, a stage, both and neither.
#[test]
fn a_custom_domains_base_path_is_stripped() {
    for (path, mount) in [
        ("/api/sandboxes", ""),
        ("/edge/api/sandboxes", "/edge"),
        ("/prod/api/sandboxes", "/prod"),
        ("/edge/prod/api/sandboxes", "/edge/prod"),
        ("/api/api/sandboxes", "/api"),
    ] {
        let event = with_resource(rest_api("prod", path, path), "/{proxy+}", "api/sandboxes");
        check(&event, "/api/sandboxes?a=b", mount);
        let mut event = http_api("ANY /{proxy+}", "$default", path);
        event["pathParameters"] = json!({"proxy": "api/sandboxes"});
        check(&event, "/api/sandboxes?a=b%20c", mount);
    }
    let below = with_resource(
        rest_api("prod", "/e/api/sandboxes/", "/e/api/sandboxes/"),
        "/api/{proxy+}",
        "sandboxes",
    );
    check(&below, "/api/sandboxes/?a=b", "/e");
}

/// Without a resource nothing tells it apart from a path: `EDGE_BASE_PATH` does.
#[test]
fn what_cannot_be_told_is_left_to_the_setting() {
    check(&http_api("$default", "$default", "/edge/api/gc"), "/edge/api/gc?a=b%20c", "");
    check(&rest_api("prod", "/edge/api/gc", "/edge/api/gc"), "/edge/api/gc?a=b", "");
}
