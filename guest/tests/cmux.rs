//! cmux's `POST /exec`, for its clients: with a token, or not at all.

use std::fs;

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use pve_edge_guest_protocol::{
    call::Operation,
    process::{Processes, State},
};
use serde_json::{Value, json};

use crate::daemon::{Daemon, send};

async fn daemon() -> (Daemon, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    fs::write(&token, "secret\n").unwrap();
    (Daemon::start_with(&["--token-file", token.to_str().unwrap()]).await, folder)
}

async fn post(daemon: &Daemon, token: &str, kind: &str, body: &str) -> Response<Incoming> {
    let request = Request::post("/exec")
        .header(header::AUTHORIZATION, format!("Bearer {token}"))
        .header(header::CONTENT_TYPE, kind)
        .body(Full::new(Bytes::copy_from_slice(body.as_bytes())))
        .unwrap();
    send(daemon.address, request).await.unwrap()
}

async fn exec(daemon: &Daemon, exec: Value) -> Vec<Value> {
    let answer = post(daemon, "secret", "application/json", &exec.to_string()).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()[header::CONTENT_TYPE], "application/jsonlines");
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    bytes.split_inclusive(|byte| *byte == b'\n').map(|line| serde_json::from_slice(line).unwrap()).collect()
}

#[tokio::test]
async fn a_command_is_told_line_by_line_with_its_exit() {
    let (daemon, _token) = daemon().await;
    let told = exec(&daemon, json!({"command": "echo a; sleep 0.2; echo b >&2; printf c; exit 3"})).await;
    let data = |kind| {
        told.iter().filter(|it| it["type"] == kind).filter_map(|it| it["data"].as_str()).collect::<Vec<_>>()
    };
    assert_eq!((data("stdout"), data("stderr")), (vec!["a", "c"], vec!["b"]));
    assert_eq!(told.last(), Some(&json!({"type": "exit", "code": 3})));
    let told = exec(&daemon, json!({"command": "sleep 1000", "timeout_ms": 50})).await;
    let late = json!({"type": "error", "message": "timeout after 50ms"});
    assert_eq!(told, [late, json!({"type": "exit", "code": 124})]);
}

#[tokio::test]
async fn a_client_that_leaves_ends_its_command() {
    let (daemon, _token) = daemon().await;
    let exec = json!({"command": "echo begun; exec sleep 1000"}).to_string();
    let mut answer = post(&daemon, "secret", "application/json", &exec).await;
    answer.body_mut().frame().await.unwrap().unwrap();
    let running = async || {
        let told: Processes = daemon.ask(Operation::Processes {}, "").await.unwrap();
        told.processes.iter().filter(|it| it.state == State::Running).count()
    };
    assert_eq!(running().await, 1);
    drop(answer);
    while running().await > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn who_has_no_token_runs_nothing() {
    let (daemon, token) = daemon().await;
    let made = daemon.path("made");
    let exec = json!({"command": format!("touch {}", made.display())}).to_string();
    let json = "application/json";
    for (token, kind, body, status) in [
        ("", json, exec.as_str(), 401),
        ("Secret", json, &exec, 401),
        ("secret ", json, "{}", 400),
        ("secret", "text/plain", &exec, 415),
        ("secret", json, "{", 400),
        ("secret", json, r#"{"command":" "}"#, 400),
    ] {
        assert_eq!(post(&daemon, token, kind, body).await.status(), status, "{token:?} {kind} {body}");
    }
    fs::write(token.path().join("token"), "").unwrap();
    assert_eq!(post(&daemon, "", json, &exec).await.status(), 401, "no token is none");
    let without = Daemon::start().await;
    assert_eq!(post(&without, "", json, &exec).await.status(), 401);
    assert!(!made.exists());
}
