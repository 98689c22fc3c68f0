//! Who may do what, and what anybody may know.

use serde_json::{Value, json};

use crate::{
    cluster::{PRESETS, STRANGER},
    world::World,
};

pub(super) async fn health_needs_no_key(world: World) {
    assert_eq!(world.anyone.get("/api/health").await.json(200), json!({"status": "ok"}));
    let front = world.anyone.get("/").await;
    assert!(front.status == 200 && front.text().contains("/api/health"), "{}", front.text());
}

pub(super) async fn a_browser_gets_the_page_for_people(world: World) {
    let document = world.anyone.ask_with("GET", "/", &Value::Null, &[("accept", "text/html")]).await;
    assert!(document.status == 200 && document.header("content-type").starts_with("text/html"));
    assert!(document.header("content-security-policy").contains("require-trusted-types-for 'script'"));
    for path in ["/page.js", "/page.css"] {
        assert!(document.text().contains(path), "{}", document.text());
        let part = world.anyone.get(path).await;
        assert_eq!((part.status, part.header("cache-control")), (200, "no-cache"), "{path}");
        let known = [("if-none-match", part.header("etag"))];
        world.anyone.ask_with("GET", path, &Value::Null, &known).await.empty(304);
    }
}

pub(super) async fn nothing_else_goes_without_a_key(world: World) {
    let wrong = world.anyone.with_key("blue-0123456789abcdef");
    let paths = [
        ("GET", "/api/health/sandbox"),
        ("GET", "/api/config/sandbox"),
        ("GET", "/api/setup/pve.sh"),
        ("GET", "/api/setup/proxy.sh"),
        ("GET", "/api/sandboxes?nonsense=1"),
        ("GET", "/api/sandboxes/nonsense"),
        ("DELETE", "/api/sandboxes/pvelxc-200000-x"),
        ("POST", "/api/sandboxes/pvelxc-200000-x/exec"),
        // A stranger learns neither which paths there are nor what they take.
        ("PUT", "/api/sandboxes"),
        ("GET", "/nowhere"),
    ];
    for client in [&world.anyone, &wrong] {
        for (method, path) in paths {
            let answer = client.ask(method, path, &Value::Null).await;
            answer.problem(401, "unauthorized");
            assert_eq!(answer.header("www-authenticate"), "Bearer");
        }
        // Before the body is looked at.
        let request = client.request("POST", "/api/sandboxes").header("content-type", "text/plain");
        client.send(request.body(b"{".to_vec()).expect("a request")).await.problem(401, "unauthorized");
    }
    let basic = world.anyone.request("GET", "/api/sandboxes").header("authorization", "Basic Og==");
    world.anyone.send(basic.body(Vec::new()).expect("a request")).await.problem(401, "unauthorized");
}

pub(super) async fn presets_have_all_their_versions(world: World) {
    let config = world.blue.get("/api/config/sandbox").await.json(200);
    assert_eq!(config["provider"], "pve-lxc", "{config}");
    assert!(config["providerDisplayName"].as_str().is_some_and(|it| !it.is_empty()), "{config}");
    assert_eq!(config["capabilities"]["exec"], true, "{config}");
    assert_eq!(config["capabilities"]["streamingExec"], world.target.streams(), "{config}");
    assert_eq!(config["defaultPresetId"], PRESETS[0].0, "{config}");
    let version =
        |preset: &str, it: u32| json!({"version": it, "snapshotId": format!("pvelxc_{preset}_v{it}")});
    // Other scenarios make more meanwhile.
    let presets = config["presets"].as_array().expect("presets");
    let is_usual = |it: &&Value| PRESETS.iter().any(|(preset, _)| it["presetId"] == *preset);
    let usual = presets.iter().filter(is_usual);
    assert_eq!(usual.clone().count(), PRESETS.len(), "{config}");
    for ((preset, versions), shown) in PRESETS.iter().zip(usual) {
        let versions: Vec<_> = versions.iter().map(|it| version(preset, *it)).collect();
        assert_eq!((&shown["presetId"], &shown["versions"]), (&json!(preset), &json!(versions)), "{config}");
    }
    let first = &config["presets"][0];
    assert_eq!((&first["cpu"], &first["memory"], &first["disk"]), (&json!(1), &json!(1024), &json!(8)));
}

pub(super) async fn the_provider_is_healthy(world: World) {
    let health = world.blue.get("/api/health/sandbox").await.json(200);
    assert_eq!((&health["status"], &health["reasons"]), (&json!("healthy"), &json!([])), "{health}");
    assert!(health["version"].is_string() && health["latencyMs"].is_u64(), "{health}");
    let nodes = health["nodes"].as_array().expect("a list");
    assert_eq!(nodes.len(), 1, "{health}");
    assert_eq!((&nodes[0]["node"], &nodes[0]["status"]), (&json!("pve1"), &json!("online")), "{health}");
    assert!(nodes[0]["freeMemoryBytes"].as_u64().is_some_and(|it| it > 0), "{health}");
    assert_eq!(health["detected"]["node"], json!({"value": "pve1", "from": "free memory"}), "{health}");
    let templates = health["templates"].as_array().expect("templates");
    for (preset, versions) in PRESETS {
        for id in versions.iter().map(|it| format!("pvelxc_{preset}_v{it}")) {
            assert!(templates.iter().any(|it| it["snapshotId"] == id), "{id}: {health}");
        }
    }
    assert!(health["unmarkedGuestsInRange"].as_u64().is_some_and(|it| it >= 1), "{health}");
}

pub(super) async fn another_teams_sandbox_does_not_exist(world: World) {
    let sandbox = world.sandbox(json!({"name": "blue's own", "metadata": {"whose": "blue"}})).await;
    let (red, nothing) = (&world.red, json!({}));
    for (method, rest, body) in [
        ("GET", "", &Value::Null),
        ("PATCH", "", &json!({"name": "stolen"})),
        ("DELETE", "", &Value::Null),
        ("POST", "/extend", &nothing),
        ("POST", "/exec", &json!({"command": "true"})),
    ] {
        let problem = red.ask(method, &sandbox.path(rest), body).await.problem(404, "not-found");
        assert!(!problem.to_string().contains("blue's"), "{problem}");
    }
    let listed = red.get("/api/sandboxes?metadata.whose=blue").await.json(200);
    assert_eq!(listed["items"], json!([]), "{listed}");
    let shown = sandbox.get().await.json(200);
    assert_eq!((&shown["name"], &shown["state"]), (&json!("blue's own"), &json!("running")), "{shown}");
    sandbox.drop().await;
}

pub(super) async fn a_strangers_guest_does_not_exist(world: World) {
    // What such an id would look like, had it ever been a sandbox.
    let real = world.sandbox(json!({})).await;
    let own = real.shown["vmid"].to_string();
    for vmid in [STRANGER, 100_001, 101] {
        let id = real.id().replace(&own, &vmid.to_string());
        for (client, method, rest) in [
            (&world.blue, "GET", ""),
            (&world.blue, "DELETE", ""),
            (&world.admin, "GET", ""),
            (&world.admin, "DELETE", ""),
            (&world.admin, "POST", "/extend"),
        ] {
            let path = format!("/api/sandboxes/{id}{rest}");
            client.ask(method, &path, &Value::Null).await.problem(404, "not-found");
        }
    }
    let listed = world.admin.get("/api/sandboxes?limit=5000").await.json(200);
    let vmids = listed["items"].as_array().expect("items").iter().map(|it| it["vmid"].as_u64());
    assert!(vmids.flatten().all(|it| it != u64::from(STRANGER) && it >= 200_000), "{listed}");
    real.drop().await;
}
