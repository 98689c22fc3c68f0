//! The sweep, as an admin asks for it.

use serde_json::{Value, json};
use tokio::time::{Duration, sleep};

use crate::world::World;

pub(super) async fn what_has_expired_is_condemned(world: World) {
    let sandbox = world.sandbox(json!({})).await;
    world.blue.ask("POST", "/api/gc", &json!({})).await.problem(403, "forbidden");
    let soon = json!({"ttlSeconds": 1});
    world.blue.ask("POST", &sandbox.path("/extend"), &soon).await.json(200);
    let vmid = &sandbox.shown["vmid"];
    let action = |report: &Value| {
        let mut all = report["actions"].as_array().expect("actions").iter();
        all.find(|it| it["vmid"] == *vmid).map(|it| it["action"].as_str().unwrap_or_default().to_owned())
    };
    for dry_run in [true, false] {
        for tries in 0.. {
            let report = world.admin.ask("POST", "/api/gc", &json!({"dryRun": dry_run})).await.json(200);
            assert_eq!(report["dryRun"], dry_run);
            if action(&report).is_some_and(|it| it == "condemn") {
                break;
            }
            assert!(tries < 50, "{report}");
            sleep(Duration::from_millis(200)).await;
        }
    }
    // Its last minute: nothing but the deletion is left, and a later sweep does it.
    let report = world.admin.ask("POST", "/api/gc", &json!({})).await.json(200);
    assert_eq!(action(&report), None, "{report}");
    sandbox.get().await.problem(404, "not-found");
}
