//! Running commands, answered with events while they run.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{
    client::with_json,
    events::Events,
    rig::Pve,
    world::{Sandbox, World},
};

pub(super) async fn events_come_while_the_command_runs(world: World) {
    if !world.target.streams() {
        return;
    }
    let sandbox = world.sandbox(json!({})).await;
    // It ends only after its first output has arrived here, and not by time.
    let line = "echo first; until test -e go; do sleep 0.05; done; echo ä >&2; exit 4";
    let mut events = open(&world, &sandbox, json!({"command": line})).await;
    assert_eq!(events.next().await, Some(("stdout".to_owned(), json!({"data": "first\n"}))));
    sandbox.shell("touch go").await;
    assert_eq!(events.next().await, Some(("stderr".to_owned(), json!({"data": "ä\n"}))));
    let exit = json!({"exitCode": 4, "timedOut": false});
    assert_eq!(events.next().await, Some(("exit".to_owned(), exit)));
    assert_eq!(events.next().await, None);
    sandbox.drop().await;
}

/// By cmux's daemon; with our own the command goes on.
pub(super) async fn a_client_that_leaves_ends_the_command(world: World) {
    if !world.target.streams() || world.behind == Pve::Simulator {
        return;
    }
    let sandbox = world.sandbox(json!({})).await;
    let line = "echo 0 > beat; echo begun; while true; do date +%N > beat; echo beat; sleep 0.1; done";
    let mut events = open(&world, &sandbox, json!({"command": line})).await;
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
    let mut events = open(&world, &sandbox, body).await;
    assert_eq!(events.next().await.map(|it| it.0).as_deref(), Some("stdout"));
    let exit = if sandbox.has_our_daemon() {
        json!({"exitCode": 143, "signal": "TERM", "timedOut": true})
    } else {
        assert_eq!(events.next().await.map(|it| it.0).as_deref(), Some("error"));
        json!({"exitCode": 124, "timedOut": true})
    };
    assert_eq!(events.next().await, Some(("exit".to_owned(), exit)));
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

async fn open(world: &World, sandbox: &Sandbox, body: Value) -> Events {
    Events::open(&world.blue, with_json(request(world, sandbox), &body)).await
}

fn request(world: &World, sandbox: &Sandbox) -> http::request::Builder {
    world.blue.request("POST", &sandbox.path("/exec")).header("accept", "text/event-stream")
}
