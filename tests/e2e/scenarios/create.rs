//! Making sandboxes.

use std::{collections::BTreeSet, time::Duration};

use futures_util::{StreamExt, future::join_all};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{
    cluster::PRESETS,
    world::{Sandbox, World},
};

const DEFAULT: &str = PRESETS[0].0;
const OTHER: &str = PRESETS[1].0;

pub(super) async fn by_preset_it_is_the_newest_version(world: World) {
    let answer = world.blue.ask("POST", "/api/sandboxes", &json!({"preset": DEFAULT, "name": "Ada"})).await;
    let sandbox = Sandbox::of(&world.blue, &answer, 201);
    let shown = &sandbox.shown;
    assert_eq!(shown["snapshotId"], format!("pvelxc_{DEFAULT}_v2"), "{shown}");
    assert_eq!((&shown["state"], &shown["name"]), (&json!("running"), &json!("Ada")), "{shown}");
    assert_eq!((&shown["provider"], &shown["node"]), (&json!("pve-lxc"), &json!("pve1")), "{shown}");
    assert_eq!((&shown["onExpiry"], &shown["metadata"]), (&json!("delete"), &json!({})), "{shown}");
    assert_eq!(answer.header("location"), sandbox.path(""));
    assert!(sandbox.etag.starts_with('"') && sandbox.etag.len() > 10, "{}", sandbox.etag);
    services_are_there(shown);
    assert_eq!(sandbox.shell("echo ready").await, "ready\n");
    sandbox.drop().await;
}

fn services_are_there(shown: &Value) {
    let services = shown["services"].as_array().expect("services");
    let names: BTreeSet<_> = services.iter().filter_map(|it| it["name"].as_str()).collect();
    let wanted = BTreeSet::from(["exec", "preview", "vnc", "vscode", "worker", "xterm"]);
    assert_eq!(names, wanted, "{shown}");
    for service in services {
        let (port, url) = (&service["port"], service["url"].as_str().expect("a URL"));
        let by_name = url.contains(&format!("//port-{port}-vm-{}.", shown["vmid"]));
        assert!(by_name || url.ends_with(&format!(":{port}")), "{service}");
    }
}

pub(super) async fn by_snapshot_id_it_is_that_version(world: World) {
    let id = format!("pvelxc_{DEFAULT}_v1");
    let sandbox = world.sandbox(json!({"snapshotId": id})).await;
    assert_eq!((&sandbox.shown["snapshotId"], &sandbox.shown["templateVmid"]), (&json!(id), &json!(100_001)));
    sandbox.drop().await;
}

pub(super) async fn by_template(world: World) {
    let sandbox = world.sandbox(json!({"templateVmid": 100_003})).await;
    assert_eq!(sandbox.shown["snapshotId"], format!("pvelxc_{OTHER}_v1"), "{}", sandbox.shown);
    sandbox.drop().await;
}

pub(super) async fn without_a_source_it_is_the_default(world: World) {
    // No body at all is as good as an empty one.
    let answer = world.blue.ask("POST", "/api/sandboxes", &Value::Null).await;
    let sandbox = Sandbox::of(&world.blue, &answer, 201);
    assert_eq!(sandbox.shown["snapshotId"], format!("pvelxc_{DEFAULT}_v2"), "{}", sandbox.shown);
    sandbox.drop().await;
}

pub(super) async fn sizes_are_applied(world: World) {
    let request = json!({"preset": OTHER, "cpu": 3, "memory": 1536, "disk": 9, "ttlSeconds": null});
    let sandbox = world.sandbox(request).await;
    assert_eq!(sandbox.shown["expiresAt"], Value::Null, "{}", sandbox.shown);
    let vmid = sandbox.shown["vmid"].as_u64().expect("a VMID");
    let config = world.pve.get(&format!("/nodes/pve1/lxc/{vmid}/config")).await.expect("a config");
    let number = |name: &str| config[name].to_string().trim_matches('"').to_owned();
    assert_eq!((number("cores"), number("memory")), ("3".to_owned(), "1536".to_owned()), "{config}");
    assert!(config["rootfs"].as_str().is_some_and(|it| it.contains("size=9G")), "{config}");
    sandbox.drop().await;
}

pub(super) async fn who_does_not_wait_asks_until_it_runs(world: World) {
    let body = json!({"preset": OTHER, "metadata": {"wait": "no"}});
    let ask = || world.blue.ask_with("POST", "/api/sandboxes", &body, &[("prefer", "wait=0")]);
    let mut answer = ask().await;
    // Others clone the same template: without a wait there is nothing but to come again.
    for _ in 0..20 {
        if answer.status != 503 {
            break;
        }
        answer.problem(503, "template-busy");
        let seconds = answer.header("retry-after").parse().expect("seconds");
        sleep(Duration::from_secs(seconds)).await;
        answer = ask().await;
    }
    let sandbox = Sandbox::of(&world.blue, &answer, 202);
    assert_eq!(sandbox.shown["state"], "creating", "{}", sandbox.shown);
    assert_eq!(answer.header("location"), sandbox.path(""));
    let shown = sandbox.running().await;
    assert_eq!((&shown["id"], &shown["metadata"]), (&json!(sandbox.id()), &json!({"wait": "no"})), "{shown}");
    assert_eq!(sandbox.shell("echo up").await, "up\n");
    sandbox.drop().await;
}

pub(super) async fn a_repeated_key_makes_no_second(world: World) {
    let key = [("idempotency-key", "e2e: one after the other")];
    let body = json!({"metadata": {"a": "1", "b": "2"}, "ttlSeconds": 600});
    let first =
        Sandbox::of(&world.blue, &world.blue.ask_with("POST", "/api/sandboxes", &body, &key).await, 201);
    let again = world.blue.ask_with("POST", "/api/sandboxes", &body, &key).await;
    let again = Sandbox::of(&world.blue, &again, 200);
    assert_eq!(again.shown, first.shown);
    // However it is spelled, but not whatever it says.
    let spelled = world.blue.request("POST", "/api/sandboxes").header(key[0].0, key[0].1);
    let spelled = spelled.body(br#"{ "ttlSeconds":600, "metadata":{"b":"2","a":"1"} }"#.to_vec());
    let same = Sandbox::of(&world.blue, &world.blue.send(spelled.expect("a request")).await, 200);
    assert_eq!(same.id(), first.id());
    let other = world.blue.ask_with("POST", "/api/sandboxes", &json!({"ttlSeconds": 601}), &key).await;
    other.problem(409, "idempotency-conflict");
    // Another team's key is another key.
    let red = world.red.ask_with("POST", "/api/sandboxes", &body, &key).await;
    let red = Sandbox::of(&world.red, &red, 201);
    assert_ne!(red.id(), first.id());
    red.drop().await;
    first.drop().await;
}

pub(super) async fn a_repeated_key_at_the_same_time_makes_no_second(world: World) {
    let key = [("idempotency-key", "e2e: at the same time")];
    let body = json!({"metadata": {"same": "time"}});
    let answers = join_all((0..3).map(|_| world.blue.ask_with("POST", "/api/sandboxes", &body, &key))).await;
    let mut ids = BTreeSet::new();
    for answer in &answers {
        assert!(matches!(answer.status, 200..=202), "{}", answer.text());
        ids.insert(Sandbox::of(&world.blue, answer, answer.status).id().to_owned());
    }
    assert_eq!(ids.len(), 1, "{ids:?}");
    let first = Sandbox::of(&world.blue, &answers[0], answers[0].status);
    first.running().await;
    let listed = world.blue.get("/api/sandboxes?metadata.same=time").await.json(200);
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(1), "{listed}");
    first.drop().await;
}

pub(super) async fn eight_at_once_from_one_template(world: World) {
    let body = json!({"snapshotId": format!("pvelxc_{DEFAULT}_v1"), "metadata": {"one": "of eight"}});
    let answers: Vec<_> = futures_util::stream::iter(0..8)
        .map(|_| world.blue.ask("POST", "/api/sandboxes", &body))
        .buffer_unordered(8)
        .collect()
        .await;
    let sandboxes: Vec<_> = answers.iter().map(|answer| Sandbox::of(&world.blue, answer, 201)).collect();
    let vmids: BTreeSet<_> = sandboxes.iter().map(|it| it.shown["vmid"].as_u64()).collect();
    assert_eq!(vmids.len(), 8, "{vmids:?}");
    for sandbox in sandboxes {
        sandbox.drop().await;
    }
}

pub(super) async fn templates_that_are_not_there(world: World) {
    for body in [
        json!({"preset": "9vcpu_9gb_9gb"}),
        json!({"snapshotId": format!("pvelxc_{DEFAULT}_v99")}),
        json!({"templateVmid": 199_999}),
        // A guest, of others, and no template.
        json!({"templateVmid": 101}),
        json!({"templateVmid": 200_010}),
    ] {
        let problem =
            world.blue.ask("POST", "/api/sandboxes", &body).await.problem(422, "template-not-found");
        assert!(
            problem["detail"].as_str().is_some_and(|it| it.contains("offered are: pvelxc_")),
            "{problem}"
        );
    }
}
