//! Snapshots: templates of a sandbox, and those that it keeps.

use serde_json::{Value, json};
use tokio::time::{Duration, sleep};

use crate::world::{Sandbox, World};

pub(super) async fn a_snapshot_makes_sandboxes_of_its_team(world: World) {
    let sandbox = world.sandbox(json!({"metadata": {"of": "the sandbox"}})).await;
    let body = json!({"name": "ready to test", "metadata": {"commit": "abc"}});
    let taken = world.blue.ask("POST", &sandbox.path("/snapshots"), &body).await;
    assert!(matches!(taken.status, 201 | 202), "{}", taken.text());
    let id = taken.json(taken.status)["snapshotId"].as_str().expect("an id").to_owned();
    let path = format!("/api/snapshots/{id}");
    let ready = ready(&world, &path).await;
    assert_eq!((&ready["name"], &ready["metadata"]), (&body["name"], &body["metadata"]), "{ready}");
    assert_eq!(sandbox.running().await["metadata"], json!({"of": "the sandbox"}));
    // The template outlives its sandbox, and has nothing of it.
    deleted(&world, &sandbox).await;
    let made = world.sandbox(json!({"snapshotId": id})).await;
    assert_eq!((&made.shown["snapshotId"], &made.shown["metadata"]), (&json!(id), &json!({})));
    assert_eq!(made.shell("echo up").await, "up\n");
    for (method, body) in [("GET", Value::Null), ("PATCH", json!({"name": "mine"})), ("DELETE", Value::Null)]
    {
        world.red.ask(method, &path, &body).await.problem(404, "not-found");
    }
    let red = world.red.ask("POST", "/api/sandboxes", &json!({"snapshotId": id})).await;
    red.problem(422, "template-not-found");
    let patch = json!({"metadata": {"commit": null, "label": "green"}});
    let patched = world.blue.ask("PATCH", &path, &patch).await.json(200);
    assert_eq!(patched["metadata"], json!({"label": "green"}), "{patched}");
    deleted(&world, &made).await;
    let gone = world.blue.ask("DELETE", &path, &Value::Null).await;
    assert!(matches!(gone.status, 202 | 204), "{}", gone.text());
}

/// What the snapshot was made of is being removed, and locks the sandbox for a moment.
async fn deleted(world: &World, sandbox: &Sandbox) {
    for _ in 0..50 {
        let answer = world.blue.ask("DELETE", &sandbox.path(""), &Value::Null).await;
        if answer.status == 204 {
            return;
        }
        answer.problem(409, "guest-locked");
        sleep(Duration::from_millis(200)).await;
    }
    panic!("it stays locked");
}

async fn ready(world: &World, path: &str) -> Value {
    let mut last = Value::Null;
    for _ in 0..100 {
        last = world.blue.get(path).await.json(200);
        if last["status"] == "ready" {
            return last;
        }
        sleep(Duration::from_millis(200)).await;
    }
    panic!("it does not become ready: {last}");
}

pub(super) async fn a_rollback_brings_back_the_disk_alone(world: World) {
    let sandbox = world.sandbox(json!({"name": "before", "env": {"GREETING": "hello"}})).await;
    let path = sandbox.path("/snapshots");
    let kept = world.blue.ask("POST", &path, &json!({"keep": true, "name": "clean"})).await.json(201);
    let id = kept["snapshotId"].as_str().expect("an id");
    let patch = json!({"name": "after", "metadata": {"later": "1"}});
    world.blue.ask("PATCH", &sandbox.path(""), &patch).await.json(200);
    let back = rolled_back(&sandbox, id).await;
    assert_eq!(
        (&back["did"], &back["name"], &back["metadata"]),
        (&json!("rolled-back"), &patch["name"], &patch["metadata"]),
        "{back}"
    );
    assert_eq!(sandbox.running().await["name"], "after");
    assert_eq!(sandbox.shell("echo $GREETING").await, "hello\n");
    let listed = world.blue.get(&path).await.json(200);
    assert_eq!(
        (&listed["items"][0]["snapshotId"], &listed["items"][0]["name"]),
        (&json!(id), &json!("clean"))
    );
    let deleted = world.blue.ask("DELETE", &format!("{path}/{id}"), &Value::Null).await;
    assert!(matches!(deleted.status, 202 | 204), "{}", deleted.text());
    world.red.get(&path).await.problem(404, "not-found");
    sandbox.drop().await;
}

/// 202 says that it is still on its way: the same request joins it.
async fn rolled_back(sandbox: &Sandbox, id: &str) -> Value {
    let body = json!({"snapshot": id});
    let mut answer = sandbox.client.ask("POST", &sandbox.path("/rollback"), &body).await;
    for _ in 0..20 {
        if answer.status == 200 {
            break;
        }
        assert_eq!(answer.status, 202, "{}", answer.text());
        answer = sandbox.client.ask("POST", &sandbox.path("/rollback"), &body).await;
    }
    answer.json(200)
}
