//! Changing what is kept about a sandbox.

use serde_json::{Value, json};

use crate::world::World;

pub(super) async fn a_patch_needs_the_right_version(world: World) {
    let sandbox = world.sandbox(json!({"name": "before"})).await;
    let path = sandbox.path("");
    let patch = json!({"name": "after"});
    let right = [("if-match", sandbox.etag.as_str())];
    let answer = world.blue.ask_with("PATCH", &path, &patch, &right).await;
    assert_eq!(answer.json(200)["name"], "after");
    let etag = answer.header("etag").to_owned();
    assert_ne!(etag, sandbox.etag);
    assert_eq!(sandbox.get().await.header("etag"), etag);
    // The first version is over, and changes nothing any more.
    let late = json!({"name": "late"});
    let refused = world.blue.ask_with("PATCH", &path, &late, &right).await;
    assert_eq!(refused.problem(412, "precondition-failed")["etag"], etag);
    assert_eq!(sandbox.get().await.json(200)["name"], "after");
    let any = world.blue.ask_with("PATCH", &path, &json!({"name": null}), &[("if-match", "*")]).await;
    assert_eq!(any.json(200)["name"], Value::Null);
    sandbox.drop().await;
}

pub(super) async fn metadata_merges(world: World) {
    let sandbox = world.sandbox(json!({"metadata": {"kept": "1", "changed": "1", "removed": "1"}})).await;
    let path = sandbox.path("");
    let patch = json!({"metadata": {"changed": "zwei 🦀\n\"2\"", "removed": null, "ключ": "значение"}});
    let merged = json!({"kept": "1", "changed": "zwei 🦀\n\"2\"", "ключ": "значение"});
    assert_eq!(world.blue.ask("PATCH", &path, &patch).await.json(200)["metadata"], merged);
    let shown = sandbox.get().await.json(200);
    assert_eq!((&shown["metadata"], &shown["expiresAt"]), (&merged, &sandbox.shown["expiresAt"]));
    assert_eq!(shown["state"], "running", "{shown}");
    // Nothing in a patch is nothing changed.
    assert_eq!(world.blue.ask("PATCH", &path, &json!({})).await.json(200)["metadata"], merged);
    assert_eq!(
        world.blue.ask("PATCH", &path, &json!({"metadata": null})).await.json(200)["metadata"],
        json!({})
    );
    for (body, field) in [
        (json!({"metadata": {"x": "y".repeat(5000)}}), "metadata"),
        (json!({"name": ""}), "name"),
        (json!({"name": "a\u{7}b"}), "name"),
        (json!({"ttlSeconds": 0}), "ttlSeconds"),
        (json!({"vmid": 100}), "vmid"),
    ] {
        let problem = world.blue.ask("PATCH", &path, &body).await.problem(400, "invalid-request");
        assert_eq!(problem["errors"][0]["field"], field, "{problem}");
    }
    sandbox.drop().await;
}

pub(super) async fn more_time_is_given(world: World) {
    let sandbox = world.sandbox(json!({"ttlSeconds": 600})).await;
    let extend = sandbox.path("/extend");
    let shown = world.blue.ask("POST", &extend, &json!({"ttlSeconds": 7200})).await.json(200);
    let later = shown["expiresAt"].as_str().expect("a time");
    assert!(later > sandbox.shown["expiresAt"].as_str().expect("a time"), "{shown}");
    assert_eq!(sandbox.get().await.json(200)["expiresAt"], later);
    let shown = world.blue.ask("POST", &extend, &json!({"ttlSeconds": null})).await.json(200);
    assert_eq!(shown["expiresAt"], Value::Null, "{shown}");
    let shown = world.blue.ask("PATCH", &sandbox.path(""), &json!({"ttlSeconds": 60})).await.json(200);
    assert!(shown["expiresAt"].as_str().is_some_and(|it| it < later), "{shown}");
    world.blue.ask("POST", &extend, &json!({"ttlSeconds": 0})).await.problem(400, "invalid-request");
    sandbox.drop().await;
}
