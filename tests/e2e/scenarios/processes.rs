//! Processes in the background, by the project's own daemon.

use serde_json::{Value, json};
use tokio::time::{Duration, sleep};

use crate::{
    client::{Answer, with_json},
    events::Events,
    world::{Sandbox, World},
};

impl Sandbox {
    async fn start(&self, request: Value) -> String {
        let started = self.client.ask("POST", &self.path("/processes"), &request).await;
        let location = started.header("location").to_owned();
        let process = started.json(201)["process"].as_str().expect("a name").to_owned();
        assert!(location.ends_with(&format!("/processes/{process}")), "{location}");
        process
    }

    async fn process(&self, method: &str, process: &str, rest: &str, body: Value) -> Answer {
        self.client.ask(method, &self.path(&format!("/processes/{process}{rest}")), &body).await
    }

    /// The output from a place on, until the process has ended.
    async fn output(&self, process: &str, mut after: String) -> (String, Value) {
        let mut text = String::new();
        for _ in 0..200 {
            let path = self.path(&format!("/processes/{process}/output?after={after}"));
            let page =
                self.client.ask_with("GET", &path, &Value::Null, &[("prefer", "wait=5")]).await.json(200);
            let events = page["events"].as_array().expect("events");
            text.extend(events.iter().filter_map(|it| it["data"].as_str()));
            if page["state"] == "exited" {
                return (text, page["exit"].clone());
            }
            after = page["cursor"].as_str().expect("a cursor").to_owned();
        }
        panic!("it does not end: {text}");
    }
}

pub(super) async fn it_is_written_to_and_read(world: World) {
    if let Some(sandbox) = world.sandbox_with_our_daemon().await {
        is_written_to_and_read(sandbox).await;
    }
}

/// The same, whatever runs the process.
pub(super) async fn is_written_to_and_read(sandbox: Sandbox) {
    let line = "read name; echo hello $name; cat; echo err >&2; exit 4";
    let process = sandbox.start(json!({"command": line, "stdin": true, "tag": "greeter"})).await;
    let write = async |at: usize, end: bool, bytes: &str| {
        let path = sandbox.path(&format!("/processes/{process}/stdin?at={at}&end={end}"));
        let request = sandbox.client.request("POST", &path).body(bytes.as_bytes().to_vec());
        sandbox.client.send(request.expect("a request")).await
    };
    assert_eq!(write(0, false, "world\n").await.json(200), json!({"at": 6, "closed": false}));
    // Again, as after a cut: it is written once.
    assert_eq!(write(0, false, "world\n").await.json(200), json!({"at": 6, "closed": false}));
    assert_eq!(write(9, false, "x").await.problem(409, "stdin-offset")["at"], json!(6));
    assert_eq!(write(6, true, "rest\n").await.json(200), json!({"at": 11, "closed": true}));
    let (text, exit) = sandbox.output(&process, "start".into()).await;
    assert_eq!((text.as_str(), &exit["exitCode"]), ("hello world\nrest\nerr\n", &json!(4)));
    let found = sandbox.client.get(&sandbox.path("/processes?tag=greeter")).await.json(200);
    assert_eq!(found["items"][0]["process"], json!(process), "{found}");
    assert_eq!(sandbox.process("DELETE", &process, "", Value::Null).await.status, 204);
    sandbox.process("GET", &process, "", Value::Null).await.problem(404, "no-such-process");
    sandbox.drop().await;
}

/// As often as it is asked for, by whoever has the key.
pub(super) async fn the_same_key_is_the_same_process(world: World) {
    let Some(sandbox) = world.sandbox_with_our_daemon().await else { return };
    let body = json!({"command": "echo once >> runs; sleep 0.2"});
    let start = async |body: &Value| {
        let path = sandbox.path("/processes");
        sandbox.client.ask_with("POST", &path, body, &[("idempotency-key", "step-1")]).await
    };
    let (one, other) = tokio::join!(start(&body), start(&body));
    let process = one.json(201)["process"].clone();
    assert_eq!(other.json(201)["process"], process);
    start(&json!({"command": "echo other"})).await.problem(409, "idempotency-conflict");
    let exec = json!({"command": "echo once >> runs", "stdin": ""});
    let path = sandbox.path("/exec");
    for _ in 0..2 {
        let again = sandbox.client.ask_with("POST", &path, &exec, &[("idempotency-key", "step-2")]).await;
        assert_eq!(again.json(200)["exitCode"], json!(0));
    }
    assert_eq!(sandbox.shell("cat runs").await, "once\nonce\n");
    sandbox.drop().await;
}

/// Bytes of both streams pass as they are, and standard input of a command too.
pub(super) async fn bytes_are_exact(world: World) {
    let Some(sandbox) = world.sandbox_with_our_daemon().await else { return };
    let command = r"head -c 256 >/dev/null; printf '\377\000\302\n'; printf '\001\200' >&2";
    let outcome = sandbox.exec(json!({"command": command, "encoding": "base64", "stdin": ""})).await;
    assert_eq!((&outcome["stdout"], &outcome["stderr"]), (&json!("/wDCCg=="), &json!("AYA=")), "{outcome}");
    let text = sandbox.exec(json!({"command": command})).await;
    assert_eq!(
        (&text["stdout"], &text["lossy"]),
        (&json!("\u{fffd}\u{0}\u{fffd}\n"), &json!(true)),
        "{text}"
    );
    let input = "l1\nno end".repeat(20_000);
    let counted = sandbox.exec(json!({"argv": ["wc", "-c"], "stdin": input})).await;
    assert_eq!(counted["stdout"].as_str().map(str::trim), Some(&*input.len().to_string()), "{counted}");
    sandbox.drop().await;
}

/// A client that was cut goes on where it was, and the command has not noticed.
pub(super) async fn a_client_that_was_cut_goes_on(world: World) {
    let Some(sandbox) = world.sandbox_with_our_daemon().await else { return };
    let counts = "n=0; until [ -e over ]; do n=$((n + 1)); echo $n; sleep 0.03; done";
    let process = sandbox.start(json!({"command": counts})).await;
    let is_whole = |text: &str| {
        let numbers: Vec<_> = text.lines().map(str::parse::<usize>).collect();
        numbers.len() > 2 && text.ends_with('\n') && numbers.iter().cloned().eq((1..=numbers.len()).map(Ok))
    };
    if !world.target.streams() {
        sandbox.shell("sleep 0.3; touch over").await;
        let text = sandbox.output(&process, "start".into()).await.0;
        assert!(is_whole(&text), "{text}");
        return sandbox.drop().await;
    }
    let (mut text, mut last_id, mut cuts) = (String::new(), None::<String>, 0);
    loop {
        let request = sandbox.client.request("GET", &sandbox.path(&format!("/processes/{process}/output")));
        let request = request.header("accept", "text/event-stream");
        let request = match &last_id {
            Some(id) => request.header("last-event-id", id),
            None => request,
        };
        let mut events = Events::open(&sandbox.client, with_json(request, &Value::Null)).await;
        let mut heard = 0;
        while heard < 5 {
            let (name, data) = events.next().await.expect("an end");
            if name == "exit" {
                assert!(is_whole(&text) && data["exitCode"] == 0 && cuts > 2, "{cuts} {data} {text}");
                return sandbox.drop().await;
            }
            text.push_str(data["data"].as_str().expect("text"));
            last_id = events.last_id.clone();
            heard += 1;
        }
        cuts += 1;
        if cuts == 3 {
            sandbox.shell("touch over").await;
        }
    }
}

pub(super) async fn signals_reach_it_and_its_end_leaves_nothing(world: World) {
    let Some(sandbox) = world.sandbox_with_our_daemon().await else { return };
    let line = "trap 'echo hup' HUP; echo ready; while true; do sleep 0.05; done";
    let process = sandbox.start(json!({"command": line})).await;
    let path = sandbox.path(&format!("/processes/{process}/output"));
    let heard = async |word: &str| {
        for _ in 0..100 {
            if sandbox.client.get(&path).await.json(200)["events"].to_string().contains(word) {
                return;
            }
            sleep(Duration::from_millis(100)).await;
        }
        panic!("no {word}");
    };
    heard("ready").await;
    sandbox
        .process("POST", &process, "/signal", json!({"signal": "HUP", "scope": "process"}))
        .await
        .json(200);
    heard("hup").await;
    sandbox
        .process("POST", &process, "/signal", json!({"signal": "NONE"}))
        .await
        .problem(400, "invalid-request");
    sandbox
        .process("POST", &process, "/resize", json!({"cols": 9, "rows": 9}))
        .await
        .problem(422, "unsupported");
    sandbox.process("POST", &process, "/signal", json!({"signal": "KILL"})).await.json(200);
    let (_, exit) = sandbox.output(&process, "end".into()).await;
    assert_eq!((&exit["exitCode"], &exit["signal"]), (&json!(137), &json!("KILL")), "{exit}");
    // What has left its session goes with it.
    let left = sandbox.start(json!({"command": "setsid sleep 1000 & echo $! > pid; wait"})).await;
    while sandbox.exec(json!({"command": "test -s pid"})).await["exitCode"] != 0 {}
    assert_eq!(sandbox.process("DELETE", &left, "", Value::Null).await.status, 204);
    let gone = sandbox.exec(json!({"command": "kill -0 $(cat pid)"})).await;
    assert_ne!(gone["exitCode"], 0, "{gone}");
    let metrics = sandbox.client.get(&sandbox.path("/metrics")).await.json(200);
    assert!(metrics["memoryTotal"].as_u64() > Some(1 << 20), "{metrics}");
    sandbox.drop().await;
}
