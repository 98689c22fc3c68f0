//! Running commands, answered with events while they run.

use std::time::Duration;

use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::{
    client::{Body, with_json},
    world::{Sandbox, World},
};

/// Longer than any event may take; a command that waits for a client's next step waits longer.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) async fn events_come_while_the_command_runs(world: World) {
    if !world.target.streams() {
        return;
    }
    let sandbox = world.sandbox(json!({})).await;
    // It ends only after its first output has arrived here, and not by time.
    let line = "echo first; until test -e go; do sleep 0.05; done; echo ä >&2; exit 4";
    let mut events = Events::open(&world, &sandbox, json!({"command": line})).await;
    assert_eq!(events.next().await, Some(("stdout".to_owned(), json!({"data": "first\n"}))));
    sandbox.shell("touch go").await;
    assert_eq!(events.next().await, Some(("stderr".to_owned(), json!({"data": "ä\n"}))));
    let exit = json!({"exitCode": 4, "timedOut": false});
    assert_eq!(events.next().await, Some(("exit".to_owned(), exit)));
    assert_eq!(events.next().await, None);
    sandbox.drop().await;
}

pub(super) async fn a_client_that_leaves_ends_the_command(world: World) {
    if !world.target.streams() {
        return;
    }
    let sandbox = world.sandbox(json!({})).await;
    let line = "echo 0 > beat; echo begun; while true; do date +%N > beat; echo beat; sleep 0.1; done";
    let mut events = Events::open(&world, &sandbox, json!({"command": line})).await;
    assert_eq!(events.next().await, Some(("stdout".to_owned(), json!({"data": "begun\n"}))));
    drop(events);
    for _ in 0..60 {
        let before = sandbox.shell("cat beat").await;
        sleep(Duration::from_millis(500)).await;
        if sandbox.shell("cat beat").await == before {
            return sandbox.drop().await;
        }
    }
    panic!("the command runs on");
}

pub(super) async fn what_fails_is_an_event(world: World) {
    if !world.target.streams() {
        return;
    }
    let sandbox = world.sandbox(json!({})).await;
    let body = json!({"command": "echo a; sleep 60", "timeoutMs": 600});
    let mut events = Events::open(&world, &sandbox, body).await;
    assert_eq!(events.next().await.map(|it| it.0).as_deref(), Some("stdout"));
    assert_eq!(events.next().await.map(|it| it.0).as_deref(), Some("error"));
    assert_eq!(events.next().await, Some(("exit".to_owned(), json!({"exitCode": 124, "timedOut": true}))));
    // What fails before the command runs is no event but an answer.
    let bad = with_json(request(&world, &sandbox), &json!({"command": ""}));
    world.blue.send(bad).await.problem(400, "invalid-request");
    let other = world.red.request("POST", &sandbox.path("/exec")).header("accept", "text/event-stream");
    world.red.send(with_json(other, &json!({"command": "true"}))).await.problem(404, "not-found");
    sandbox.drop().await;
}

pub(super) async fn who_cannot_stream_says_so(world: World) {
    if world.target.streams() {
        return;
    }
    let sandbox = world.sandbox(json!({})).await;
    let answer = world.blue.send(with_json(request(&world, &sandbox), &json!({"command": "true"}))).await;
    answer.problem(406, "streaming-unavailable");
    sandbox.drop().await;
}

fn request(world: &World, sandbox: &Sandbox) -> http::request::Builder {
    world.blue.request("POST", &sandbox.path("/exec")).header("accept", "text/event-stream")
}

/// Events as they come.
struct Events {
    body: Body,
    read: String,
    bytes: Vec<u8>,
}

impl Events {
    async fn open(world: &World, sandbox: &Sandbox, body: Value) -> Self {
        let answer = world.blue.open(with_json(request(world, sandbox), &body)).await;
        let kind = answer.headers.get("content-type").and_then(|it| it.to_str().ok()).unwrap_or_default();
        assert_eq!((answer.status, kind), (200, "text/event-stream"));
        Self { body: answer.body, read: String::new(), bytes: Vec::new() }
    }

    /// The next one: its name and its data.
    async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some((event, rest)) = self.read.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                self.read = rest;
                if event.starts_with(':') {
                    continue;
                }
                let (name, data) = event.split_once('\n').expect("two lines");
                let name = name.strip_prefix("event: ").expect("a name").to_owned();
                let data = data.strip_prefix("data: ").expect("data");
                return Some((name, serde_json::from_str(data).expect("JSON")));
            }
            let chunk = timeout(PATIENCE, self.body.next()).await.expect("an event in time");
            let Some(chunk) = chunk else {
                assert_eq!((self.read.as_str(), self.bytes.len()), ("", 0), "an event is cut");
                return None;
            };
            self.bytes.extend(chunk.expect("a chunk"));
            // A character may be split.
            let valid = match std::str::from_utf8(&self.bytes) {
                Ok(all) => all.len(),
                Err(error) => error.valid_up_to(),
            };
            let bytes: Vec<u8> = self.bytes.drain(..valid).collect();
            self.read.push_str(&String::from_utf8(bytes).expect("valid so far"));
        }
    }
}
