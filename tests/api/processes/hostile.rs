//! A guest's owner is root there: whatever stands in the daemon's place and answers, it gives a problem.

use http::{HeaderMap, HeaderName, HeaderValue};
use pve_edge_bed::sim::execd::{Piece, Streamed};
use pve_edge_guest_protocol::{CALL, Unique, call::Operation};

use super::sandbox::{Sandbox, events, names};
use crate::stage::prelude::*;

/// An answer of this status and body.
fn says(status: u16, body: impl Into<Vec<u8>>) -> Streamed {
    let body: Vec<u8> = body.into();
    let pieces = body.chunks(60_000).map(|it| Piece::Bytes(it.to_vec())).collect();
    Streamed { status, headers: HeaderMap::new(), pieces }
}

/// Answers that no daemon gives to anything.
fn nonsense() -> Vec<(&'static str, Streamed)> {
    let refusal = |code: &str| format!("{{\"code\":\"{code}\",\"detail\":\"no\"}}");
    let other = HeaderValue::from_static("00000000000000000000000000000000");
    let mut of_another_call = says(200, "{}");
    of_another_call.headers.insert(HeaderName::from_static(CALL), other);
    let cut = Streamed { pieces: vec![Piece::Bytes(b"{\"pro".to_vec()), Piece::Cut], ..says(200, "") };
    let slow = Streamed { pieces: vec![Piece::Wait(std::time::Duration::from_secs(3600))], ..says(200, "") };
    vec![
        ("garbage", says(200, "nonsense\n")),
        ("no UTF-8", says(200, b"\xff\xfe\n".to_vec())),
        ("an array", says(200, "[1]\n")),
        ("a number", says(200, "7\n")),
        ("deep", says(200, "[".repeat(100_000) + "\n")),
        ("endless", says(200, "x".repeat(9 << 20))),
        ("blank lines", says(200, "\n".repeat(9 << 20))),
        ("half a line", says(200, "{\"cursor\":0,\"event\":\"exit\"")),
        ("another call", of_another_call),
        ("cut", cut),
        ("slow", slow),
        ("204", says(204, "")),
        ("301", says(301, "{}")),
        ("404", says(404, "<html>")),
        ("500", says(500, "{}")),
        ("530", says(530, "")),
        ("another status", says(404, refusal("stdin-closed"))),
        ("an unknown code", says(409, refusal("yes"))),
        ("no session", says(409, refusal("session"))),
        ("an old call", says(409, refusal("seen"))),
    ]
}

/// Every request, by the operation that it makes.
fn requests(sandbox: &Sandbox, process: &str) -> Vec<(&'static str, Ask)> {
    let of = |rest: &str| sandbox.path(&format!("/{process}{rest}"));
    vec![
        ("start", Ask::post(sandbox.path(""), json!({"command": "a"}))),
        ("start", Ask::exec(&sandbox.id, "a")),
        ("processes", Ask::get(sandbox.path(""))),
        ("process", Ask::get(of(""))),
        ("process", Ask::get(of("/output")).header("accept", "text/event-stream")),
        ("follow", Ask::get(of("/output"))),
        ("follow", Ask::get(of("/output")).header("accept", "text/event-stream")),
        ("follow", Ask::exec(&sandbox.id, "a")),
        ("stdin", Ask::post(of("/stdin?at=0"), json!({})).bytes("x")),
        ("signal", Ask::post(of("/signal"), json!({"signal": "WINCH"}))),
        ("resize", Ask::post(of("/resize"), json!({"cols": 1, "rows": 1}))),
        ("metrics", Ask::get(format!("/api/sandboxes/{}/metrics", sandbox.id))),
        ("forget", Ask::delete(of(""))),
    ]
}

/// Has one operation answered so, and asks.
fn asked(sandbox: &Sandbox, operation: &'static str, answer: &Streamed, ask: Ask) -> Answer {
    let answer = answer.clone();
    let is_it = move |it: &Operation| it.name() == operation;
    sandbox.stage.world.sim_mut().set_impostor(move |_, it| is_it(it).then(|| answer.clone()));
    sandbox.stage.ask(ask)
}

fn assert_problem(answer: &Answer, about: &str) {
    if answer.header("content-type") == "text/event-stream" {
        let told = events(answer);
        let last = told.last().unwrap_or_else(|| panic!("{about}: nothing was told"));
        assert!(last.name == "error" && last.data["code"].is_string(), "{about}: {told:?}");
        assert!(!names(&told).contains(&"exit"), "{about}: {told:?}");
    } else {
        assert!(answer.status >= 400 && !answer.code().is_empty(), "{about}: {answer:?}");
    }
}

#[test]
fn any_answer_to_any_call_is_a_problem() {
    for (what, answer) in nonsense() {
        let sandbox = Sandbox::new();
        let process = sandbox.started(json!({"command": "a", "stdin": true, "pty": {"cols": 1, "rows": 1}}));
        for (operation, ask) in requests(&sandbox, &process) {
            let told = asked(&sandbox, operation, &answer, ask);
            assert_problem(&told, &format!("{what} for {operation}"));
        }
    }
}

/// Lines that the daemon would not tell, behind some that it would.
#[test]
fn lines_that_do_not_fit_together_are_a_problem() {
    let out = |cursor: u64, data: &str| {
        format!("{{\"cursor\":{cursor},\"event\":\"out\",\"stream\":\"stdout\",\"data\":\"{data}\"}}\n")
    };
    let exit = "{\"cursor\":0,\"event\":\"exit\",\"exitCode\":0}\n";
    for (what, lines) in [
        ("a byte before the place", out(0, "QQ==")),
        ("a byte behind the place", out(5, "QQ==")),
        ("a byte twice", out(1, "QQ==") + &out(1, "QQ==")),
        ("no base64", out(1, "!!!!")),
        ("an impossible gap", "{\"cursor\":1,\"event\":\"gap\",\"bytes\":18446744073709551615}\n".into()),
        ("an exit without a code", "{\"cursor\":0,\"event\":\"exit\"}\n".into()),
        ("a code that is too large", exit.replace(":0}", ":4294967296}")),
        ("another stream", out(1, "QQ==").replace("stdout", "stdnull")),
        ("a line and garbage", format!("{{\"cursor\":0,\"event\":\"started\",\"pid\":1}}\n{{}}\n{exit}")),
        ("a place that is none", exit.replace("\"cursor\":0", "\"cursor\":-1")),
    ] {
        let sandbox = Sandbox::new();
        let process = sandbox.started(json!({"command": "a"}));
        let output = || Ask::get(sandbox.path(&format!("/{process}/output")));
        for ask in [output(), output().header("accept", "text/event-stream"), Ask::exec(&sandbox.id, "a")] {
            assert_problem(&asked(&sandbox, "follow", &says(200, &*lines), ask), what);
        }
    }
}

/// A process that nobody has asked about.
#[test]
fn another_process_is_no_answer() {
    let sandbox = Sandbox::new();
    let process = sandbox.started(json!({"command": "a", "pty": {"cols": 1, "rows": 1}}));
    let other = json!({"process": "f".repeat(32), "state": "running", "boot": "0".repeat(32), "pid": 7});
    let answer = says(200, other.to_string());
    for (operation, ask) in requests(&sandbox, &process) {
        if ["start", "process", "signal", "resize"].contains(&operation) {
            assert_problem(&asked(&sandbox, operation, &answer, ask), operation);
        }
    }
}

/// A daemon may be told to say nothing; that is no end of the process.
#[test]
fn an_answer_without_a_line_tells_nothing() {
    let sandbox = Sandbox::new();
    let process = sandbox.started(json!({"command": "a"}));
    let page = asked(
        &sandbox,
        "follow",
        &says(200, ""),
        Ask::get(sandbox.path(&format!("/{process}/output?after=3"))),
    );
    assert_eq!(page.json(), json!({"state": "running", "cursor": "3", "events": []}));
    let streamed =
        Ask::get(sandbox.path(&format!("/{process}/output"))).header("accept", "text/event-stream");
    assert_problem(&asked(&sandbox, "follow", &says(200, ""), streamed), "streamed");
    assert_problem(&asked(&sandbox, "follow", &says(200, ""), Ask::exec(&sandbox.id, "a")), "exec");
}

/// A session after the other, or another boot each time: a call is signed twice, and no more.
#[test]
fn sessions_without_end_are_given_up() {
    let unique = |it: u8| Unique([it; 16]);
    let body = |boot: u8| {
        json!({"code": "session", "detail": "over", "session": unique(7), "boot": unique(boot)}).to_string()
    };
    for boot in [1, 2] {
        let sandbox = Sandbox::new();
        let process = sandbox.started(json!({"command": "a", "stdin": true, "pty": {"cols": 1, "rows": 1}}));
        for (operation, ask) in requests(&sandbox, &process) {
            let before = sandbox.asked(operation);
            assert_problem(&asked(&sandbox, operation, &says(409, body(boot)), ask), operation);
            assert!(sandbox.asked(operation) - before <= 4, "{operation}");
        }
    }
}

/// What `GET /healthz` says decides which key signs, and nothing else.
#[test]
fn a_health_that_is_none_is_a_problem() {
    for fault in [
        Fault::Page(200),
        Fault::Page(503),
        Fault::Refused(200, "{}".into()),
        Fault::CutBody(0),
        Fault::Unanswered,
    ] {
        let sandbox = Sandbox::new();
        let process = sandbox.started(json!({"command": "a"}));
        let faulty = fault.clone();
        sandbox.stage.world.fault_if(move |it| (it.path == "/healthz").then(|| faulty.clone()));
        let runs = sandbox.runs();
        for (operation, ask) in requests(&sandbox, &process) {
            assert_problem(&sandbox.stage.ask(ask), &format!("{fault:?} {operation}"));
        }
        assert_eq!(sandbox.runs(), runs, "{fault:?}");
    }
}
