//! Terminals of a sandbox: the websocket, and the link that opens it.

use pve_edge_core::io::Platform;
use pve_edge_guest_protocol::process::{After, Size, Terminal};

use crate::stage::{SECRET, prelude::*};

/// A sandbox with our own daemon.
fn made(kind: Kind) -> (Stage, String) {
    let stage = Stage::with_daemon(kind, Setup::default(), SECRET);
    let id = stage.created(json!({"env": {"TASK": "42"}}));
    (stage, id)
}

fn path(id: &str, query: &str) -> String {
    format!("/api/sandboxes/{id}/terminal{query}")
}

fn opened(stage: &Stage, id: &str, query: &str) -> Answer {
    stage.ask(Ask::get(path(id, query)).websocket())
}

/// The token of a link to the sandbox.
fn token(stage: &Stage, id: &str) -> String {
    let link = stage.ask(Ask::post(path(id, "/link"), json!({})).header("host", "edge.example.com")).json();
    let url = link["url"].as_str().unwrap_or_else(|| panic!("{link}"));
    let (before, token) = url.split_once("?token=").expect("a token");
    assert_eq!(before, format!("ws://edge.example.com{}", path(id, "")));
    token.to_owned()
}

/// The terminals that the last process was given.
fn terminals(stage: &Stage, id: &str) -> Vec<Terminal> {
    stage.world.sim_mut().process_mut(vmid_of(id)).map(|it| it.terminals.clone()).unwrap_or_default()
}

/// Nothing of the client's own headers reaches the guest: the stand-in refuses more than it needs.
#[test]
fn a_shell_is_started_and_ends_with_its_terminal() {
    for kind in BOTH {
        let (stage, id) = made(kind);
        let ask = Ask::get(path(&id, "?cols=100&rows=30&user=root")).websocket();
        let answer = stage.ask(ask.header("cookie", "a=b").header("origin", "https://evil.example.com"));
        assert_eq!((answer.status, answer.header("sec-websocket-accept")), (101, "it is"), "{answer:?}");
        assert_eq!((answer.header("upgrade"), answer.header("connection")), ("websocket", "upgrade"));
        let mut sim = stage.world.sim_mut();
        let shell = sim.process_mut(vmid_of(&id)).expect("a shell");
        assert_eq!(shell.size, Some(Size { cols: 100, rows: 30 }));
        let [Terminal { after: After::Start, hangup: true, .. }] = *shell.terminals else {
            panic!("{:?}", shell.terminals)
        };
    }
}

#[test]
fn the_terminal_of_a_process_is_opened_from_any_place_on() {
    let (stage, id) = made(Kind::Lxc);
    let body = json!({"argv": ["sh"], "pty": {"cols": 80, "rows": 24}});
    let started = stage.ask(Ask::post(format!("/api/sandboxes/{id}/processes"), body)).json();
    let process = started["process"].as_str().expect("a name");
    for (query, after) in [("", After::Cursor(0)), ("&after=end", After::End), ("&after=7", After::Cursor(7))]
    {
        assert_eq!(opened(&stage, &id, &format!("?process={process}{query}")).status, 101);
        let last = terminals(&stage, &id).pop().expect("a terminal");
        assert_eq!((last.process.to_string().as_str(), last.after, last.hangup), (process, after, false));
    }
    let gone = opened(&stage, &id, &format!("?process={}", "0".repeat(32)));
    assert_eq!(gone.refusal(), "404 no-such-process");
}

/// A shell whose terminal does not open is not left behind.
#[test]
fn a_shell_without_a_terminal_ends() {
    let (stage, id) = made(Kind::Lxc);
    stage.world.fault_once(|it| it.path == "/v1/terminal", Fault::Unanswered);
    let answer = opened(&stage, &id, "");
    assert_eq!(answer.status, 502, "{answer:?}");
    let left = stage.ask(Ask::get(format!("/api/sandboxes/{id}/processes"))).json();
    assert_eq!(left["items"], json!([]));
}

#[test]
fn what_cannot_be_opened_is_refused_before_anything_runs() {
    let (stage, id) = made(Kind::Lxc);
    let before = stage.world.requests().len();
    for (query, field) in [
        ("?cols=0", "cols"),
        ("?rows=65536", "rows"),
        ("?cols=many", "cols"),
        ("?user=", "user"),
        ("?after=end", "after"),
        ("?process=00000000000000000000000000000000&cols=80", "cols"),
        ("?process=00000000000000000000000000000000&after=x", "after"),
        ("?size=80", "size"),
    ] {
        let answer = opened(&stage, &id, query);
        assert_eq!(answer.refusal(), "400 invalid-request", "{query}");
        assert_eq!(answer.json()["errors"][0]["field"], field, "{query}");
    }
    let bare = stage.ask(Ask::get(path(&id, "")));
    assert_eq!((bare.refusal().as_str(), bare.header("upgrade")), ("426 upgrade-required", "websocket"));
    let other = stage.ask(Ask::get(path(&id, "")).websocket().header("sec-websocket-version", "12"));
    assert_eq!((other.status, other.header("sec-websocket-version")), (426, "13"));
    let keyless = stage.ask(Ask::get(path(&id, "")).websocket().header("sec-websocket-key", "x"));
    assert_eq!(keyless.json()["errors"][0]["field"], "Sec-WebSocket-Key");
    let mut lambda = stage.clone();
    lambda.platform = Platform { upgrades: false, ..stage.platform };
    for ask in [Ask::get(path(&id, "")).websocket(), Ask::post(path(&id, "/link"), json!({}))] {
        assert_eq!(lambda.ask(ask).refusal(), "501 upgrade-unsupported");
    }
    assert_eq!(stage.world.requests().len(), before, "{}", stage.told());

    let execd = Stage::new();
    let other = execd.created(json!({}));
    assert_eq!(opened(&execd, &other, "").refusal(), "422 unsupported");
    assert_eq!(execd.ask(Ask::post(path(&other, "/link"), json!({}))).refusal(), "422 unsupported");
}

#[test]
fn a_link_opens_this_sandbox_for_a_minute_and_nothing_else() {
    let (stage, id) = made(Kind::Lxc);
    let token = token(&stage, &id);
    let by_link = |path: &str| stage.ask(Ask::get(path).websocket().without("authorization")).status;
    assert_eq!(by_link(&path(&id, &format!("?token={token}"))), 101);
    assert_eq!(by_link(&path(&id, &format!("?cols=90&token={token}"))), 101, "it may be used again");
    let other = stage.created(json!({}));
    let elsewhere = [
        path(&other, &format!("?token={token}")),
        path(&id, ""),
        path(&id, &format!("?token={token}x")),
        path(&id, "?token="),
        format!("/api/sandboxes/{id}/processes?token={token}"),
        format!("/api/sandboxes/{id}?token={token}"),
    ];
    for path in &elsewhere {
        assert_eq!(by_link(path), 401, "{path}");
    }
    // A link says who opens it, whatever key comes with it.
    let wrong = stage.ask(Ask::get(path(&other, &format!("?token={token}"))).websocket());
    assert_eq!(wrong.refusal(), "401 unauthorized");
    stage.world.advance(Duration::seconds(61));
    assert_eq!(by_link(&path(&id, &format!("?token={token}"))), 401);
    assert!(!stage.told().contains(&token), "it is in no request to anybody");
}

#[test]
fn a_link_is_made_by_who_may_open_it() {
    let (stage, id) = made(Kind::Lxc);
    let link = |team: &str| stage.ask(Ask::post(path(&id, "/link"), json!({})).by(team)).refusal();
    assert_eq!(link("red"), "404 not-found");
    assert_eq!(opened(&stage, &id, "").status, 101);
    let red = stage.ask(Ask::get(path(&id, "")).websocket().by("red"));
    assert_eq!(red.refusal(), "404 not-found");
    assert_eq!(stage.act(&id, "stop", json!({})).status, 200);
    assert_eq!(opened(&stage, &id, "").refusal(), "409 not-running");
}
