//! Templates from nothing.

use serde_json::{Value, json};
use tokio::time::{Duration, sleep};

use crate::{rig::Pve, world::World};

/// That nobody else makes.
pub(super) const PRESET: &str = "3vcpu_1gb_8gb";

/// From an archive that is on the storage, so that no right to the network is needed.
pub(super) async fn an_archive_becomes_a_preset(world: World) {
    let body = json!({
        "url": "https://images.example.com/base.tar.zst", "preset": PRESET, "features": "nesting=1",
        "daemon": if world.behind == Pve::Simulator { "guest" } else { "execd" },
    });
    world.blue.ask("POST", "/api/templates", &body).await.problem(403, "forbidden");
    let built = world.admin.ask("POST", "/api/templates", &body).await;
    let built = built.json(202);
    let path = format!("/api/templates/{}", built["id"].as_str().expect("an id"));
    let waiting = until(&world, &path, "needs-root").await;
    assert!(waiting["commands"][0].as_str().is_some_and(|it| it.starts_with("pct start ")), "{waiting}");
    let wanted = json!({"preset": PRESET});
    world.blue.ask("POST", "/api/sandboxes", &wanted).await.problem(422, "template-not-found");
    let included = if world.behind == Pve::Simulator {
        json!({"daemon": "guest"})
    } else {
        json!({"execd": "included"})
    };
    let confirmed = world.admin.ask("PATCH", &path, &included).await;
    confirmed.json(200);
    let ready = until(&world, &path, "ready").await;
    assert_eq!(ready["snapshotId"], format!("pvelxc_{PRESET}_v1"), "{ready}");
    let sandbox = world.sandbox(wanted).await;
    assert_eq!(sandbox.shell("echo up").await, "up\n");
    world.blue.ask("DELETE", &sandbox.path(""), &Value::Null).await;
}

async fn until(world: &World, path: &str, status: &str) -> Value {
    let mut last = Value::Null;
    for _ in 0..150 {
        last = world.admin.get(path).await.json(200);
        if last["status"] == status {
            return last;
        }
        sleep(Duration::from_millis(200)).await;
    }
    panic!("it does not become {status}: {last}");
}
