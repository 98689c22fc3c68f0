//! Environment variables of a sandbox.

use serde_json::{Value, json};

use crate::world::World;

pub(super) async fn commands_have_it_and_pve_does_not(world: World) {
    let value = "s3cr3t of the owner's: 'ü' $HOME";
    let sandbox = world.sandbox(json!({"env": {"API_KEY": value, "PLAIN": "1"}})).await;
    assert_eq!(sandbox.shell("printf '%s\\n' \"$API_KEY\"").await, format!("{value}\n"));
    let own = json!({"command": "echo $PLAIN", "env": {"PLAIN": "2"}});
    assert_eq!(sandbox.exec(own).await["stdout"], "2\n");
    // The guests are processes of this machine: ours have a folder of their own for the file, and the stand-in's commands
    // are changed to have one.
    let root = if sandbox.has_our_daemon() { "$SANDBOX_FOLDER" } else { "" };
    let file = format!("{root}/etc/pve-edge/env");
    let file = format!("set -a; . {file}; env | grep ^PLAIN; stat -c %a {file}");
    assert_eq!(sandbox.shell(&file).await, "PLAIN=1\n600\n");
    let vmid = sandbox.shown["vmid"].as_u64().expect("a VMID");
    let config = world.pve.get(&format!("/nodes/pve1/lxc/{vmid}/config")).await.expect("a config");
    for text in [sandbox.shown.to_string(), sandbox.get().await.text().to_owned(), config.to_string()] {
        assert!(!text.contains("s3cr3t") && !text.contains("API_KEY"), "{text}");
    }
    sandbox.drop().await;
}

pub(super) async fn what_cannot_be_one_is_refused(world: World) {
    for (env, field) in [
        (json!({"1A": "x"}), "env.1A"),
        (json!({"A": "x\u{0}y"}), "env.A"),
        (json!({"A": 1}), "env.A"),
        (json!({"A": "x".repeat(4000)}), "env"),
        (json!(["A=1"]), "env"),
    ] {
        let answer = world.blue.ask("POST", "/api/sandboxes", &json!({"env": env})).await;
        let problem: Value = answer.problem(400, "invalid-request");
        assert_eq!(problem["errors"][0]["field"], field, "{problem}");
    }
}
