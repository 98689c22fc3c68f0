//! What people and agents do with a sandbox: pick a preset, open its services, work in a repository.

use crate::world::{Sandbox, World};
use http::Request;
use pve_edge_core::io::{Io, fetch};
use serde_json::{Value, json};
use tokio::time::{Duration, sleep};

/// A frontend asks for what it has read in the list of presets.
pub(super) async fn a_preset_from_the_list_makes_a_sandbox_of_its_sizes(world: World) {
    let config = world.blue.get("/api/config/sandbox").await.json(200);
    assert_eq!((&config["provider"], &config["capabilities"]["exec"]), (&json!("pve-lxc"), &json!(true)));
    let preset = config["presets"].as_array().expect("presets").last().expect("a preset");
    let body = json!({"snapshotId": preset["versions"][0]["snapshotId"], "name": "from the picker"});
    let sandbox = world.sandbox(body).await;
    let vmid = sandbox.shown["vmid"].as_u64().expect("a VMID");
    let guest = world.pve.get(&format!("/nodes/pve1/lxc/{vmid}/config")).await.expect("a config");
    for (ours, theirs) in [("cpu", "cores"), ("memory", "memory")] {
        let applied = guest[theirs].to_string();
        assert_eq!(applied.trim_matches('"'), preset[ours].to_string(), "{guest}");
    }
    sandbox.drop().await;
}

/// The URLs lead to what listens in the sandbox.
pub(super) async fn the_urls_of_services_lead_into_the_sandbox(world: World) {
    let sandbox = world.sandbox(json!({})).await;
    for (name, port) in [("vscode", 39378), ("xterm", 39383)] {
        let serve = format!(
            "mkdir {name} && echo {name} >{name}/index.html; \
             nohup python3 -m http.server {port} --bind $SANDBOX_IP --directory {name} >/dev/null 2>&1 &"
        );
        sandbox.shell(&serve).await;
        let services = sandbox.shown["services"].as_array().expect("services");
        let service = services.iter().find(|it| it["name"] == name).expect("the service");
        serves(&world, &service["url"], name).await;
    }
    let viewers = &sandbox.shown["viewers"];
    serves(&world, &viewers["xterm"], "xterm").await;
    sandbox.drop().await;
}

/// Asks until the server there has started.
async fn serves(world: &World, url: &Value, word: &str) {
    let url = url.as_str().expect("a URL");
    let mut last = String::new();
    for _ in 0..100 {
        let key = world.blue.key().expect("a key");
        let request = Request::get(url).header("x-pve-edge-token", key).body(Vec::new()).expect("a request");
        let net = world.blue.net();
        let answer = fetch(net, request, net.now() + Duration::from_secs(5), 1 << 16).await;
        last = answer.map_or_else(|error| error.to_string(), |it| String::from_utf8_lossy(&it.body).into());
        if last.trim() == word {
            return;
        }
        sleep(Duration::from_millis(100)).await;
    }
    panic!("{url}: {last}");
}

/// An agent commits to a repository and runs its tests.
pub(super) async fn an_agent_works_in_a_repository(world: World) {
    let sandbox = world.sandbox(json!({"metadata": {"task": "42"}, "env": {"TASK": "42"}})).await;
    let steps = [
        "mkdir repo && cd repo && git init -q . && git config user.email a@example.com && git config user.name a",
        "cd repo && printf 'test:\\n\\t@echo tested $(TASK)\\n' >Makefile && git add . && git commit -qm first",
    ];
    for step in steps {
        assert_eq!(sandbox.shell(step).await, "");
    }
    let repo = sandbox.shell("cd repo && pwd").await;
    let made = sandbox.exec(json!({"argv": ["make", "-s", "test"], "cwd": repo.trim()})).await;
    assert_eq!((&made["exitCode"], &made["stdout"]), (&json!(0), &json!("tested 42\n")), "{made}");
    assert_eq!(sandbox.shell("cd repo && git log --oneline | wc -l").await.trim(), "1");
    finished(&world, &sandbox).await;
}

async fn finished(world: &World, sandbox: &Sandbox) {
    let found = world.blue.get("/api/sandboxes?metadata.task=42").await.json(200);
    assert_eq!(found["items"][0]["id"], sandbox.id(), "{found}");
    sandbox.client.ask("DELETE", &sandbox.path(""), &Value::Null).await.empty(204);
}
