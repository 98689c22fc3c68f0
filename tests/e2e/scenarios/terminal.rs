//! Terminals, on websockets of each platform that has them.

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{
    net::TcpStream,
    time::{Duration, sleep, timeout},
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Error, Message, client::IntoClientRequest},
};

use crate::{
    target::Target,
    world::{Sandbox, World},
};

/// Longer than anything may take that is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// Connects to a URL; the error is the status of the answer.
async fn connect(url: &str, key: Option<&str>) -> Result<WebSocketStream<TcpStream>, u16> {
    let mut request = url.into_client_request().expect("a URL");
    if let Some(key) = key {
        request.headers_mut().insert("authorization", key.parse().expect("a header"));
    }
    let authority = request.uri().authority().expect("a host").as_str().to_owned();
    let stream = TcpStream::connect(authority).await.expect("a server");
    match client_async(request, stream).await {
        Ok((socket, _)) => Ok(socket),
        Err(Error::Http(answer)) => Err(answer.status().as_u16()),
        Err(error) => panic!("{error}"),
    }
}

/// What comes until it has a word, bytes and text together.
async fn until(socket: &mut WebSocketStream<TcpStream>, word: &str) -> String {
    let mut seen = String::new();
    let found = timeout(PATIENCE, async {
        while !seen.contains(word) {
            match socket.next().await.expect("more").expect("a message") {
                Message::Binary(bytes) => seen.push_str(&String::from_utf8_lossy(&bytes)),
                Message::Text(text) => seen.push_str(&text),
                _ => {}
            }
        }
    });
    found.await.unwrap_or_else(|_| panic!("no {word}"));
    seen
}

async fn typed(socket: &mut WebSocketStream<TcpStream>, line: &str) {
    socket.send(Message::binary(format!("{line}\n").into_bytes())).await.expect("a websocket");
}

async fn link(sandbox: &Sandbox) -> String {
    let link = sandbox.client.ask("POST", &sandbox.path("/terminal/link"), &Value::Null).await.json(200);
    link["url"].as_str().expect("a URL").to_owned()
}

pub(super) async fn a_link_opens_a_shell(world: World) {
    let Some(sandbox) = world.sandbox_with_our_daemon().await else { return };
    if matches!(world.target, Target::Lambda | Target::LambdaStreaming) {
        let asked = sandbox.client.ask("POST", &sandbox.path("/terminal/link"), &Value::Null).await;
        asked.problem(501, "upgrade-unsupported");
        sandbox.client.get(&sandbox.path("/terminal")).await.problem(501, "upgrade-unsupported");
        return sandbox.drop().await;
    }
    let url = link(&sandbox).await;
    let mut shell = connect(&format!("{url}&cols=100&rows=30"), None).await.expect("a terminal");
    until(&mut shell, r#"{"started":"#).await;
    typed(&mut shell, "stty size; echo sum-$((40 + 2))").await;
    // Both may come in one message.
    let seen = until(&mut shell, "sum-42").await;
    assert!(seen.contains("30 100"), "{seen}");
    let size = json!({"resize": {"cols": 120, "rows": 40}}).to_string();
    shell.send(Message::text(size)).await.expect("a websocket");
    typed(&mut shell, "stty size").await;
    until(&mut shell, "40 120").await;
    typed(&mut shell, "exit 3").await;
    until(&mut shell, r#""exitCode":3"#).await;

    // It is for this sandbox, this use, and as it is.
    let other = world.sandbox(json!({})).await;
    for wrong in [url.replace(sandbox.id(), other.id()), format!("{url}x"), url.replace("token=", "token=x")]
    {
        assert_eq!(connect(&wrong, None).await.err(), Some(401), "{wrong}");
    }
    let token = url.split("token=").nth(1).expect("a token");
    let elsewhere = format!("{}?token={token}", sandbox.path("/files/list"));
    world.anyone.get(&elsewhere).await.problem(401, "unauthorized");
    sandbox.client.get(&sandbox.path("/terminal")).await.problem(426, "upgrade-required");
    world.red.ask("POST", &sandbox.path("/terminal/link"), &Value::Null).await.problem(404, "not-found");
    other.drop().await;
    sandbox.drop().await;
}

/// A shell ends with its client; a process that was started does not.
pub(super) async fn what_was_started_goes_on_without_its_client(world: World) {
    let Some(sandbox) = world.sandbox_with_our_daemon().await else { return };
    if matches!(world.target, Target::Lambda | Target::LambdaStreaming) {
        return sandbox.drop().await;
    }
    let mut shell = connect(&link(&sandbox).await, None).await.expect("a terminal");
    typed(&mut shell, "echo $$ > shell; exec sleep 1000").await;
    let body = json!({"argv": ["sh"], "pty": {"cols": 80, "rows": 24}});
    let started = sandbox.client.ask("POST", &sandbox.path("/processes"), &body).await.json(201);
    let process = started["process"].as_str().expect("a name");
    let at = format!("{}&process={process}", link(&sandbox).await);
    let mut one = connect(&at, None).await.expect("a terminal");
    typed(&mut one, "echo first-$((1 + 1))").await;
    until(&mut one, "first-2").await;
    drop(one);
    let mut again = connect(&at, None).await.expect("a terminal");
    until(&mut again, "first-2").await;
    typed(&mut again, "echo second-$((1 + 1))").await;
    until(&mut again, "second-2").await;
    while sandbox.exec(json!({"command": "test -s shell"})).await["exitCode"] != 0 {}
    drop(shell);
    for tries in 0.. {
        let alive = sandbox.exec(json!({"command": "kill -0 $(cat shell)"})).await;
        if alive["exitCode"] != 0 {
            break;
        }
        assert!(tries < 100, "the shell outlives its client");
        sleep(Duration::from_millis(200)).await;
    }
    sandbox.drop().await;
}
