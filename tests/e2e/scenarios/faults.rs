//! A PVE that does not answer, or does not know us.

use serde_json::{Value, json};

use crate::{client::Client, target::Target, world::World};

pub(super) async fn an_unreachable_pve_is_told(world: World) {
    let client = &world.unreachable;
    // workerd does not say of a binding's request whether it was sent.
    let (status, code) = match world.target {
        Target::Workerd => (504, "pve-timeout"),
        _ => (503, "pve-unreachable"),
    };
    fails(client, status, code, true).await;
    let health = client.get("/api/health/sandbox").await.json(503);
    assert_eq!((&health["reachable"], &health["status"]), (&json!(false), &json!("unhealthy")), "{health}");
    assert_eq!(health["reasons"][0]["code"], code, "{health}");
    // We are alive all the same.
    assert_eq!(client.get("/api/health").await.status, 200);
}

pub(super) async fn an_unaccepted_token_is_told(world: World) {
    let client = &world.unauthorized;
    fails(client, 502, "pve-unauthorized", false).await;
    let health = client.get("/api/health/sandbox").await.json(503);
    assert_eq!(health["reasons"][0]["code"], "pve-unauthorized", "{health}");
}

async fn fails(client: &Client, status: u16, code: &str, retryable: bool) {
    for (method, path, body) in [
        ("GET", "/api/sandboxes", Value::Null),
        ("GET", "/api/config/sandbox", Value::Null),
        ("POST", "/api/sandboxes", json!({})),
    ] {
        let problem = client.ask(method, path, &body).await.problem(status, code);
        assert_eq!(problem["retryable"], retryable, "{problem}");
    }
}
