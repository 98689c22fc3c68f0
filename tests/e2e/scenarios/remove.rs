//! The end of sandboxes.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use crate::world::{Sandbox, World};

pub(super) async fn deletion_takes_it_away(world: World) {
    let sandbox = world.sandbox(json!({"metadata": {"deleted": "soon"}})).await;
    world.blue.ask("DELETE", &sandbox.path(""), &Value::Null).await.empty(204);
    is_gone(&world, &sandbox).await;
    let listed = world.blue.get("/api/sandboxes?metadata.deleted=soon").await.json(200);
    assert_eq!(listed["items"], json!([]), "{listed}");
}

pub(super) async fn a_deletion_need_not_wait(world: World) {
    let sandbox = world.sandbox(json!({})).await;
    let now = [("prefer", "wait=0")];
    let answer = world.blue.ask_with("DELETE", &sandbox.path(""), &Value::Null, &now).await;
    assert_eq!(answer.json(202), json!({"id": sandbox.id(), "state": "deleting"}));
    for _ in 0..100 {
        if sandbox.get().await.status == 404 {
            return is_gone(&world, &sandbox).await;
        }
        sleep(Duration::from_millis(100)).await;
    }
    panic!("it is still there: {}", sandbox.get().await.text());
}

async fn is_gone(world: &World, sandbox: &Sandbox) {
    for (method, rest, body) in [
        ("GET", "", Value::Null),
        ("DELETE", "", Value::Null),
        ("PATCH", "", json!({"name": "x"})),
        ("POST", "/extend", json!({})),
        ("POST", "/exec", json!({"command": "true"})),
    ] {
        world.blue.ask(method, &sandbox.path(rest), &body).await.problem(404, "not-found");
    }
}

pub(super) async fn what_has_expired_is_gone(world: World) {
    let sandbox = world.sandbox(json!({"metadata": {"expires": "soon"}})).await;
    let now = json!({"ttlSeconds": 1});
    assert_eq!(world.blue.ask("POST", &sandbox.path("/extend"), &now).await.status, 200);
    for _ in 0..100 {
        let answer = sandbox.get().await;
        if answer.status == 404 {
            answer.problem(404, "not-found");
            let exec = world.blue.ask("POST", &sandbox.path("/exec"), &json!({"command": "true"})).await;
            exec.problem(404, "not-found");
            return;
        }
        sleep(Duration::from_millis(100)).await;
    }
    panic!("it is still there");
}
