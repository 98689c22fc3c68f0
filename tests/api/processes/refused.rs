//! Requests about processes that are refused, each before anything is changed.

use pve_edge_bed::sim::execd::Streamed;
use pve_edge_guest_protocol::answer::{Code, Refusal};

use super::sandbox::Sandbox;
use crate::stage::prelude::*;

/// Every request about the process.
fn all(sandbox: &Sandbox, process: &str) -> Vec<Ask> {
    let of = |rest: &str| sandbox.path(&format!("/{process}{rest}"));
    vec![
        Ask::get(of("")),
        Ask::get(of("/output")),
        Ask::get(of("/output")).header("accept", "text/event-stream"),
        Ask::post(of("/stdin?at=0&end=true"), json!({})).bytes("x"),
        Ask::post(of("/signal"), json!({"signal": "KILL"})),
        Ask::post(of("/resize"), json!({"cols": 1, "rows": 1})),
        Ask::delete(of("")),
    ]
}

/// Every request that names no process.
fn others(sandbox: &Sandbox) -> Vec<Ask> {
    vec![
        Ask::post(sandbox.path(""), json!({"command": "a"})),
        Ask::get(sandbox.path("")),
        Ask::get(format!("/api/sandboxes/{}/metrics", sandbox.id)),
        Ask::exec(&sandbox.id, "a"),
    ]
}

/// Calls to the daemon so far.
fn calls(sandbox: &Sandbox) -> usize {
    sandbox.stage.world.requests().iter().filter(|it| it.path.starts_with("/v1/")).count()
}

#[test]
fn bad_input_names_its_field_and_changes_nothing() {
    let sandbox = Sandbox::new();
    let process = sandbox.started(json!({"command": "a", "stdin": true, "pty": {"cols": 80, "rows": 24}}));
    let start = |body| Ask::post(sandbox.path(""), body);
    let of = |rest: &str, body| Ask::post(sandbox.path(&format!("/{process}/{rest}")), body);
    let output = |query: &str| Ask::get(sandbox.path(&format!("/{process}/output?{query}")));
    let before = calls(&sandbox);
    for (ask, field) in [
        (start(json!({})), "command"),
        (start(json!({"command": "a", "argv": ["a"]})), "argv"),
        (start(json!({"argv": [""]})), "argv"),
        (start(json!({"command": "a", "cwd": "tmp"})), "cwd"),
        (start(json!({"command": "a", "env": {"1A": ""}})), "env.1A"),
        (start(json!({"command": "a", "user": "a:b"})), "user"),
        (start(json!({"command": "a", "timeoutMs": 0})), "timeoutMs"),
        (start(json!({"command": "a", "timeoutMs": 2_592_000_001_u64})), "timeoutMs"),
        (start(json!({"command": "a", "tag": ""})), "tag"),
        (start(json!({"command": "a", "tag": "x".repeat(257)})), "tag"),
        (start(json!({"command": "a", "pty": {"cols": 0, "rows": 1}})), "pty.cols"),
        (start(json!({"command": "x".repeat(200_000)})), "command"),
        (start(json!({"command": "a", "encoding": "text"})), "encoding"),
        (start(json!({"command": "a", "stdin": "x"})), "stdin"),
        (Ask::act(&sandbox.id, "exec", json!({"command": "a", "stdin": "!", "encoding": "base64"})), "stdin"),
        (Ask::act(&sandbox.id, "exec", json!({"command": "a", "tag": "t"})), "tag"),
        (of("signal", json!({})), "signal"),
        (of("signal", json!({"signal": "term"})), "signal"),
        (of("signal", json!({"signal": "9 "})), "signal"),
        (of("signal", json!({"signal": "TERM", "scope": "all"})), "scope"),
        (of("resize", json!({"cols": 80, "rows": 0})), "rows"),
        (of("resize", json!({"cols": 65536, "rows": 1})), "cols"),
        (of("stdin", json!({})), "at"),
        (of("stdin?at=-1", json!({})), "at"),
        (of("stdin?at=0&end=yes", json!({})), "end"),
        (output("after=x"), "after"),
        (output("after=3-e282-zz"), "after"),
        (output("encoding=utf16"), "encoding"),
        (output("tag=t"), "tag"),
        (output("").header("last-event-id", "ü"), "Last-Event-ID"),
    ] {
        let answer = sandbox.stage.ask(ask);
        assert_eq!(answer.refusal(), "400 invalid-request", "{field} {answer:?}");
        assert!(answer.body.contains(field), "{field} {answer:?}");
    }
    assert_eq!((calls(&sandbox), sandbox.runs()), (before, 1));
}

/// What only the guest knows to be wrong.
#[test]
fn what_the_guest_does_not_have_is_refused() {
    let sandbox = Sandbox::new();
    let process = sandbox.started(json!({"command": "a"}));
    assert_eq!(sandbox.start(json!({"command": "a", "user": "nobody-here"})).refusal(), "422 no-such-user");
    assert_eq!(sandbox.exec(json!({"command": "a", "user": "nobody-here"})).refusal(), "422 no-such-user");
    let answer = sandbox.post(&format!("{process}/signal"), json!({"signal": "NOSUCH"}));
    assert_eq!(answer.refusal(), "400 invalid-request", "{answer:?}");
    assert!(answer.body.contains("NOSUCH"), "{answer:?}");
    assert_eq!(sandbox.runs(), 1);
    assert!(sandbox.process().signals.is_empty());
}

#[test]
fn a_process_that_never_was_is_404() {
    let sandbox = Sandbox::new();
    sandbox.started(json!({"command": "a"}));
    let unknown = "0".repeat(32);
    for process in [&*unknown, "x", "..", &"F".repeat(32), &"0".repeat(33)] {
        for ask in all(&sandbox, process) {
            let answer = sandbox.stage.ask(ask);
            assert_eq!(answer.status, 404, "{process} {answer:?}");
            assert!(["no-such-process", "unknown-path"].contains(&&*answer.code()), "{process} {answer:?}");
        }
    }
    assert!(sandbox.process().signals.is_empty());
}

#[test]
fn another_teams_sandbox_is_404() {
    let sandbox = Sandbox::new();
    let process = sandbox.started(json!({"command": "a", "stdin": true}));
    let before = calls(&sandbox);
    for ask in all(&sandbox, &process).into_iter().chain(others(&sandbox)) {
        let answer = sandbox.stage.ask(ask.clone().by("red"));
        assert_eq!(answer.refusal(), "404 not-found", "{answer:?}");
        assert_eq!(sandbox.stage.ask(ask.without("authorization")).status, 401);
    }
    assert_eq!((calls(&sandbox), sandbox.runs()), (before, 1));
    assert_eq!(sandbox.stage.ask(Ask::get(sandbox.path("")).by("ops")).status, 200, "an admin sees all");
}

#[test]
fn of_a_sandbox_that_is_off_nothing_is_asked() {
    let sandbox = Sandbox::new();
    let process = sandbox.started(json!({"command": "a"}));
    assert_eq!(sandbox.stage.act(&sandbox.id, "stop", json!({})).status, 200);
    let before = calls(&sandbox);
    for ask in all(&sandbox, &process).into_iter().chain(others(&sandbox)) {
        let answer = sandbox.stage.ask(ask);
        assert_eq!(answer.refusal(), "409 not-running", "{answer:?}");
    }
    assert_eq!(calls(&sandbox), before);
}

/// By another daemon nothing of this can be had, and none of it is tried.
#[test]
fn another_daemon_has_no_processes() {
    for kind in BOTH {
        let stage = Stage::with(kind);
        let sandbox = Sandbox { id: stage.created(json!({})), stage };
        let before = sandbox.stage.world.requests().len();
        for ask in all(&sandbox, &"0".repeat(32)).into_iter().chain(others(&sandbox).into_iter().take(3)) {
            let answer = sandbox.stage.ask(ask);
            assert_eq!(answer.refusal(), "422 unsupported", "{answer:?}");
        }
        let asked = sandbox.stage.world.requests().split_off(before);
        assert!(asked.iter().all(|it| it.method == "GET" && it.path.starts_with("/api2/")), "{asked:?}");
    }
}

/// 503 is the daemon's word for it. Where no proxy stands before the daemon nobody marks that as the guest's.
#[test]
fn a_daemon_without_room_is_believed_whichever_way_it_is_reached() {
    for is_direct in [false, true] {
        let mut sandbox = Sandbox::new();
        (sandbox.stage.platform.private_network, sandbox.stage.platform.in_guest_network) =
            (is_direct, is_direct);
        let refusal = Refusal::new(Code::TooManyProcesses, "as many run as may");
        let answer =
            Streamed::json(refusal.code.status(), &serde_json::to_value(&refusal).expect("it is JSON"));
        sandbox
            .stage
            .world
            .sim_mut()
            .set_impostor(move |_, it| (it.name() == "start").then(|| answer.clone()));
        let told = sandbox.start(json!({"command": "a"}));
        assert_eq!(
            told.refusal(),
            "503 too-many-processes",
            "{is_direct}: {told:?}\n{}",
            sandbox.stage.told()
        );
    }
}
