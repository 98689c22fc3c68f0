//! Stopping, starting, rebooting, pausing and resuming.

use serde_json::{Value, json};
use tokio::time::{Duration, sleep};

use crate::world::{Sandbox, World};

async fn act(sandbox: &Sandbox, action: &str, body: Value) -> Value {
    let answer = sandbox.client.ask("POST", &sandbox.path(&format!("/{action}")), &body).await;
    let shown = answer.json(200);
    assert_eq!(sandbox.get().await.json(200)["state"], shown["state"], "{action}: {shown}");
    shown
}

pub(super) async fn what_is_stopped_is_started_again(world: World) {
    let sandbox = world.sandbox(json!({})).await;
    sandbox.shell("echo kept > file").await;
    let stopped = act(&sandbox, "stop", json!({"timeoutSeconds": 5})).await;
    assert_eq!((&stopped["did"], &stopped["state"]), (&json!("stopped"), &json!("stopped")), "{stopped}");
    assert_eq!(act(&sandbox, "stop", json!({"force": true})).await["did"], "nothing");
    let exec = json!({"command": "true"});
    world.blue.ask("POST", &sandbox.path("/exec"), &exec).await.problem(409, "not-running");
    // PVE's listing tells the state of a guest up to 15 s late.
    for tries in 0.. {
        let listed = world.blue.get("/api/sandboxes?state=stopped").await.json(200);
        let mut items = listed["items"].as_array().expect("items").iter();
        if items.any(|it| it["id"] == sandbox.id()) {
            break;
        }
        assert!(tries < 40, "{listed}");
        sleep(Duration::from_millis(500)).await;
    }
    let started = act(&sandbox, "start", Value::Null).await;
    assert_eq!((&started["did"], &started["state"]), (&json!("started"), &json!("running")), "{started}");
    assert_eq!(act(&sandbox, "start", json!({})).await["did"], "nothing");
    assert_eq!(sandbox.shell("cat file").await, "kept\n");
    sandbox.drop().await;
}

pub(super) async fn a_pause_says_what_it_keeps(world: World) {
    let sandbox = world.sandbox(json!({"ttlSeconds": 600})).await;
    let memory = json!({"keeps": "memory"});
    world.blue.ask("POST", &sandbox.path("/pause"), &memory).await.problem(422, "unsupported");
    let paused = act(&sandbox, "pause", json!({})).await;
    assert_eq!(
        (&paused["did"], &paused["keeps"], &paused["state"]),
        (&json!("paused"), &json!("disk"), &json!("paused")),
        "{paused}"
    );
    let resumed = act(&sandbox, "resume", json!({"ttlSeconds": 7200})).await;
    assert_eq!(resumed["state"], "running", "{resumed}");
    assert!(resumed["expiresAt"].as_str() > sandbox.shown["expiresAt"].as_str(), "{resumed}");
    assert_eq!(act(&sandbox, "reboot", json!({"timeoutSeconds": 5})).await["did"], "rebooted");
    assert_eq!(sandbox.shell("echo up").await, "up\n");
    sandbox.drop().await;
}

pub(super) async fn a_virtual_machine_keeps_its_memory(world: World) {
    let sandbox = world.sandbox(json!({"snapshotId": "pvevm_1vcpu_1gb_8gb_v1"})).await;
    assert!(sandbox.id().starts_with("pvevm-"), "{}", sandbox.shown);
    assert_eq!((&sandbox.shown["provider"], &sandbox.shown["state"]), (&json!("pve-vm"), &json!("running")));
    if world.runs_agents() {
        assert_eq!(sandbox.shell("echo \"in $0\" | sed s/in.*/in/").await, "in\n");
    }
    let paused = act(&sandbox, "pause", json!({"keeps": "memory"})).await;
    assert_eq!((&paused["keeps"], &paused["state"]), (&json!("memory"), &json!("paused")), "{paused}");
    for (method, rest, body) in [("PATCH", "", json!({"name": "x"})), ("POST", "/extend", json!({}))] {
        world.blue.ask(method, &sandbox.path(rest), &body).await.problem(409, "suspended");
    }
    let resumed = act(&sandbox, "resume", json!({})).await;
    assert_eq!((&resumed["did"], &resumed["state"]), (&json!("resumed"), &json!("running")), "{resumed}");
    sandbox.drop().await;
}
