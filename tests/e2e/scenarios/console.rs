//! Containers in which nothing is installed: commands go through their console.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::json;
use tokio::task::JoinSet;

use super::processes::is_written_to_and_read;
use crate::{
    client::with_json,
    cluster::BARE,
    events::Events,
    rig::Pve,
    world::{Sandbox, World},
};

impl World {
    /// A sandbox of a template that has no mark and no daemon, where that PVE has consoles.
    pub(super) async fn bare_sandbox(&self) -> Option<Sandbox> {
        if self.behind != Pve::Simulator {
            return None;
        }
        let sandbox = self.sandbox(json!({"templateVmid": BARE})).await;
        assert_eq!(sandbox.shown["commands"], "terminal", "{}", sandbox.shown);
        Some(sandbox)
    }
}

pub(super) async fn any_template_runs_commands(world: World) {
    let Some(sandbox) = world.bare_sandbox().await else { return };
    let request = json!({"argv": ["sh", "-c", "echo \"$1\"; pwd; echo $A >&2; exit 7", "x", "it's"], "cwd": "/", "env": {"A": "b c"}});
    let outcome = sandbox.exec(request).await;
    assert_eq!(
        (&outcome["exitCode"], &outcome["stdout"], &outcome["stderr"]),
        (&json!(7), &json!("it's\n/\n"), &json!("b c\n")),
        "{outcome}"
    );
    let outcome = sandbox.exec(json!({"command": "sleep 60", "timeoutMs": 300})).await;
    assert_eq!((&outcome["exitCode"], &outcome["timedOut"]), (&json!(137), &json!(true)), "{outcome}");
    // Nothing of another user's command is left behind, whatever its su does with sessions.
    let beat = "while :; do date +%N >/tmp/beat; sleep 0.05; done";
    let outcome = sandbox.exec(json!({"command": beat, "user": "nobody", "timeoutMs": 500})).await;
    assert_eq!(outcome["timedOut"], json!(true), "{outcome}");
    let look = "umask; a=$(cat /tmp/beat); sleep 0.5; [ -n \"$a\" ] && [ \"$a\" = \"$(cat /tmp/beat)\" ] && echo still";
    assert_eq!(sandbox.shell(look).await, "0022\nstill\n");
    let outcome = sandbox.exec(json!({"command": "echo $S$W", "env": {"S": "its ", "W": "own"}})).await;
    assert_eq!(outcome["stdout"], json!("its own\n"), "{outcome}");
    let bytes: Vec<u8> =
        (0..50_000_u32).flat_map(|it| it.wrapping_mul(2_654_435_761).to_be_bytes()[..1].to_vec()).collect();
    let request =
        json!({"command": "tee /dev/stderr", "stdin": STANDARD.encode(&bytes), "encoding": "base64"});
    let outcome = sandbox.exec(request).await;
    for stream in ["stdout", "stderr"] {
        let told = outcome[stream].as_str().map(|it| STANDARD.decode(it).expect("base64"));
        assert!(told.is_some_and(|it| it == bytes), "{stream} is not what was sent");
    }
    sandbox.drop().await;
}

pub(super) async fn its_processes_outlive_their_client(world: World) {
    if let Some(sandbox) = world.bare_sandbox().await {
        is_written_to_and_read(sandbox).await;
    }
}

/// Each command is run once, whoever else uses the console, and its bytes are its own.
pub(super) async fn many_share_its_console(world: World) {
    let Some(sandbox) = world.bare_sandbox().await else { return };
    let mut clients = JoinSet::new();
    for client in 0..8 {
        let (path, api) = (sandbox.path("/exec"), sandbox.client.clone());
        clients.spawn(async move {
            for number in 0..3 {
                // A second time it fails.
                let command = format!("mkdir {client}.{number} && echo {client}.{number}");
                let outcome = api.ask("POST", &path, &json!({"command": command})).await.json(200);
                assert_eq!(outcome["stdout"], json!(format!("{client}.{number}\n")), "{outcome}");
            }
        });
    }
    while let Some(done) = clients.join_next().await {
        done.expect("a client");
    }
    let all = sandbox.shell("ls -d ?.? | wc -l").await;
    assert_eq!(all.trim(), "24");
    sandbox.drop().await;
}

pub(super) async fn events_come_from_its_console(world: World) {
    if !world.target.streams() {
        return;
    }
    let Some(sandbox) = world.bare_sandbox().await else { return };
    let line = "echo first; until test -e go; do sleep 0.05; done; echo ä >&2; exit 4";
    let request =
        sandbox.client.request("POST", &sandbox.path("/exec")).header("accept", "text/event-stream");
    let request = with_json(request, &json!({"command": line}));
    let mut events = Events::open(&sandbox.client, request).await;
    assert_eq!(events.next().await, Some(("stdout".to_owned(), json!({"data": "first\n"}))));
    sandbox.shell("touch go").await;
    assert_eq!(events.next().await, Some(("stderr".to_owned(), json!({"data": "ä\n"}))));
    assert_eq!(events.next().await, Some(("exit".to_owned(), json!({"exitCode": 4, "timedOut": false}))));
    assert_eq!(events.next().await, None);
    sandbox.drop().await;
}
