//! Visitors of what a sandbox serves, by the names that lead through the deployment.

use std::time::Duration;

use futures_util::{Stream, StreamExt};
use http::{HeaderMap, Request};
use pve_edge_core::io::{Io, NetError, RequestBody, Whole, fetch};
use serde_json::{Value, json};
use tokio::{
    net::TcpStream,
    time::{sleep, timeout},
};
use tokio_tungstenite::{
    client_async,
    tungstenite::{Message, client::IntoClientRequest},
};

use crate::{
    client::contains,
    target::Target,
    world::{Sandbox, World},
};

const PORT: u16 = 5173;

pub(super) async fn a_link_opens_what_a_sandbox_serves(world: World) {
    if !world.target.is_gateway() {
        return;
    }
    let sandbox = serving(&world).await;
    let link = link(&sandbox).await;
    let (url, _) = link.split_once('?').expect("a token");
    let entered = visit(&world, &link, &[PAGE, DOCUMENT]).await;
    assert_eq!(entered.status, 303, "{entered:?}");
    assert_eq!(header(&entered, "location"), "/");
    let cookie = header(&entered, "set-cookie").split(';').next().expect("a cookie").to_owned();
    assert!(cookie.starts_with("__Host-pve_edge="), "{cookie}");
    let page = visit(&world, &format!("{url}page.gz"), &[("cookie", &cookie), PAGE, DOCUMENT]).await;
    assert_eq!((page.status, &page.body[..2]), (200, &b"\x1f\x8b"[..]), "{page:?}");
    // Whoever has only the name gets nothing, and a sibling's page neither.
    assert_eq!(visit(&world, url, &[]).await.status, 401);
    let sibling = [("cookie", &*cookie), ("sec-fetch-site", "same-site"), ("sec-fetch-mode", "no-cors")];
    assert_eq!(visit(&world, url, &sibling).await.status, 401);
    let key = world.blue.key().expect("a key");
    assert_eq!(visit(&world, url, &[("x-pve-edge-token", key)]).await.status, 200);
    // A person is told soon that nothing listens there yet; a program waits.
    let other = url.replace("port-5173", "port-5174");
    let closed = visit(&world, &other, &[("x-pve-edge-token", key), PAGE, DOCUMENT]).await;
    assert!(closed.status == 503 && contains(&closed.body, b"listens at its port 5174 yet"), "{closed:?}");
    sandbox.drop().await;
}

/// The route of guests' names catches the proxy's name too, by which others call.
pub(super) async fn what_has_the_proxys_key_is_sent_on(world: World) {
    // From the guests' network nothing goes through a proxy.
    if world.target != Target::Workerd {
        return;
    }
    let sandbox = serving(&world).await;
    let link = link(&sandbox).await;
    let (url, _) = link.split_once('?').expect("a token");
    let (_, domain) = url.split_once('.').expect("a domain");
    let gate = format!("http://gate.{domain}healthz");
    let host = gate.trim_start_matches("http://").trim_end_matches("/healthz");
    let ask = async |key: &str, port: u16| {
        let to = format!("{}:{port}", sandbox.shown["vmid"]);
        let headers = [
            ("x-edge-key", key),
            ("x-edge-to", &*to),
            ("x-edge-client", "edge"),
            ("x-edge-host", host),
            ("x-edge-public-host", host),
        ];
        visit(&world, &gate, &headers).await
    };
    let health = ask(&world.proxy_key, 39375).await;
    assert_eq!((health.status, header(&health, "x-edge-from")), (200, "guest"), "{health:?}");
    // What it is told of the proxy, it is told as it is.
    let nobody = ask(&world.proxy_key, 1).await;
    assert_eq!((nobody.status, header(&nobody, "x-edge-fault")), (502, "dial"), "{nobody:?}");
    let refused = ask(&"0".repeat(64), 39375).await;
    assert_eq!((refused.status, header(&refused, "x-edge-fault")), (404, "refused"), "{refused:?}");
    assert_eq!(ask(&world.proxy_key, PORT).await.status, 508);
    sandbox.drop().await;
}

pub(super) async fn a_page_wakes_a_sandbox_that_was_stopped(world: World) {
    if !world.target.is_gateway() {
        return;
    }
    let sandbox = serving(&world).await;
    let link = link(&sandbox).await;
    let (url, _) = link.split_once('?').expect("a token");
    let cookie = header(&visit(&world, &link, &[PAGE]).await, "set-cookie")
        .split(';')
        .next()
        .unwrap_or_default()
        .to_owned();
    let stopped = sandbox.client.ask("POST", &sandbox.path("/stop"), &json!({})).await;
    assert_eq!(stopped.json(200)["state"], "stopped");
    // An open tab's request wakes nothing.
    let origin = url.trim_end_matches('/');
    let fetched = [
        ("cookie", &*cookie),
        ("sec-fetch-mode", "cors"),
        ("sec-fetch-site", "same-origin"),
        ("origin", origin),
    ];
    let refused = visit(&world, url, &fetched).await;
    assert_eq!((refused.status, &*problem(&refused)), (503, "asleep"), "{refused:?}");
    let (code, reason) = end_of_websocket(url, &[("cookie", &*cookie), ("origin", origin)]).await;
    assert_eq!((code, reason.split(':').next()), (4503, Some("the sandbox is stopped")));
    let open = async || visit(&world, url, &[("cookie", &*cookie), PAGE, DOCUMENT, PERSON]).await;
    let (mut page, mut is_up) = (open().await, false);
    for _ in 0..60 {
        if page.status != 503 {
            break;
        }
        assert!(!header(&page, "refresh").is_empty(), "{page:?}");
        // It runs, and its server ended when it was stopped.
        if !is_up && contains(&page.body, b"has just come up") {
            is_up = true;
            serve(&sandbox).await;
        }
        sleep(Duration::from_millis(200)).await;
        page = open().await;
    }
    assert_eq!((page.status, is_up), (200, true), "{page:?}");
    let shown = sandbox.client.ask("GET", &sandbox.path(""), &Value::Null).await;
    assert_eq!(shown.json(200)["state"], "running");
    sandbox.drop().await;
}

pub(super) async fn a_slow_client_gets_all_and_keeps_nobody_waiting(world: World) {
    if !world.target.is_gateway() {
        return;
    }
    let sandbox = serving(&world).await;
    let link = link(&sandbox).await;
    let (url, _) = link.split_once('?').expect("a token");
    sandbox.shell("head -c 24000000 /dev/zero >served/large; head -c 200000000 /dev/zero >served/huge").await;
    let mut slow = open(&world, &format!("{url}large")).await;
    let mut got = slow.next().await.expect("a piece").expect("a piece").len();
    for _ in 0..5 {
        sleep(Duration::from_millis(200)).await;
        let key = world.blue.key().expect("a key");
        assert_eq!(visit(&world, url, &[("x-pve-edge-token", key)]).await.status, 200);
        got += slow.next().await.expect("a piece").expect("a piece").len();
    }
    while let Some(piece) = slow.next().await {
        got += piece.expect("a piece").len();
    }
    assert_eq!(got, 24_000_000);
    // A server that dies in the middle of an answer is not taken for one that has told all.
    let mut cut = open(&world, &format!("{url}huge")).await;
    cut.next().await.expect("a piece").expect("a piece");
    sandbox.shell("kill -9 $(cat server)").await;
    let mut end = Ok(Vec::new());
    while let Some(piece) = cut.next().await {
        end = piece;
    }
    assert!(end.is_err(), "the end of half an answer was told as its end");
    sandbox.drop().await;
}

const PAGE: (&str, &str) = ("sec-fetch-mode", "navigate");
const DOCUMENT: (&str, &str) = ("sec-fetch-dest", "document");
const PERSON: (&str, &str) = ("sec-fetch-user", "?1");

/// A sandbox that serves a folder.
async fn serving(world: &World) -> Sandbox {
    let sandbox = world.sandbox(json!({})).await;
    sandbox
        .shell("mkdir served && echo hello >served/index.html && gzip -c served/index.html >served/page.gz")
        .await;
    serve(&sandbox).await;
    let put = sandbox.client.ask("PUT", &sandbox.path("/services/web"), &json!({"port": PORT})).await;
    put.json(200);
    let url = link(&sandbox).await;
    for _ in 0..100 {
        if visit(world, &url, &[]).await.status == 200 {
            break;
        }
        sleep(Duration::from_millis(100)).await;
    }
    sandbox
}

/// Starts a server of the folder.
async fn serve(sandbox: &Sandbox) {
    let server = format!(
        "nohup python3 -m http.server {PORT} --bind $SANDBOX_IP --directory served >/dev/null 2>&1 & echo $! >server"
    );
    sandbox.shell(&server).await;
}

async fn link(sandbox: &Sandbox) -> String {
    let made = sandbox.client.ask("POST", &sandbox.path("/services/web/link"), &json!({})).await;
    made.json(200)["url"].as_str().expect("a URL").to_owned()
}

/// The body of an answer, as it comes.
async fn open(world: &World, url: &str) -> impl Stream<Item = Result<Vec<u8>, NetError>> + Unpin + use<> {
    let net = world.blue.net();
    let key = world.blue.key().expect("a key");
    let request = Request::get(url).header("x-pve-edge-token", key).body(RequestBody::Whole(Vec::new()));
    let answer = net.open(request.expect("a request"), net.now() + Duration::from_secs(60)).await;
    let answer = answer.expect("an answer");
    assert_eq!(answer.status, 200);
    answer.body
}

async fn visit(world: &World, url: &str, headers: &[(&str, &str)]) -> Whole {
    let mut request = Request::get(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let net = world.blue.net();
    let request = request.body(Vec::new()).expect("a request");
    fetch(net, request, net.now() + Duration::from_secs(30), 1 << 20).await.expect("an answer")
}

/// How a websocket ends that is opened and closed: code and reason.
async fn end_of_websocket(url: &str, headers: &[(&'static str, &str)]) -> (u16, String) {
    let mut request = url.replacen("http", "ws", 1).into_client_request().expect("a URL");
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().expect("a header"));
    }
    let port = request.uri().port_u16().expect("a port");
    let stream = TcpStream::connect(("127.0.0.1", port)).await.expect("a server");
    let (mut socket, _) = client_async(request, stream).await.expect("a websocket");
    match timeout(Duration::from_secs(30), socket.next()).await.expect("an end") {
        Some(Ok(Message::Close(Some(end)))) => (end.code.into(), end.reason.to_string()),
        other => panic!("{other:?}"),
    }
}

fn header<'w>(answer: &'w Whole, name: &str) -> &'w str {
    let headers: &HeaderMap = &answer.headers;
    headers.get(name).and_then(|it| it.to_str().ok()).unwrap_or_default()
}

fn problem(answer: &Whole) -> String {
    let problem: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    problem["code"].as_str().unwrap_or_default().to_owned()
}
