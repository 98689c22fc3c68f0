//! Processes of a sandbox, by the project's own daemon in it.

mod commands;
mod hostile;
mod input;
mod once;
mod output;
mod refused;
mod sandbox;

use std::cell::Cell;

use pve_edge_bed::sim::execd::ExecLine;
use pve_edge_guest_protocol::process::Size;

use self::sandbox::{Sandbox, name, pause};
use crate::stage::prelude::*;

/// The answer's members, which are all that it has.
fn members(value: &Value) -> Vec<&str> {
    value.as_object().map(|it| it.keys().map(String::as_str).collect()).unwrap_or_default()
}

#[test]
fn a_process_is_told_as_it_stands() {
    for kind in BOTH {
        let sandbox = Sandbox::with(kind, vec![pause(5), ExecLine::Stdout("done".into()), ExecLine::Exit(3)]);
        let answer = sandbox.start(json!({"command": "work", "tag": "t", "cwd": "/tmp", "user": "1000"}));
        let process = name(&answer);
        assert_eq!(answer.status, 201, "{answer:?}");
        assert_eq!(answer.header("location"), sandbox.path(&format!("/{process}")));
        let mut told = answer.json();
        assert_eq!(told["ageMs"].take().as_u64(), Some(0));
        let running = json!({
            "process": process, "state": "running", "pid": 4242, "tag": "t", "argv": ["bash", "-c", "work"],
            "cwd": "/tmp", "user": "1000", "pty": false, "stdin": null, "exit": null, "cursor": "0", "ageMs": null,
        });
        assert_eq!(told, running);
        sandbox.stage.world.advance(Duration::seconds(6));
        let told = sandbox.get(&process).json();
        assert_eq!((&told["state"], &told["cursor"]), (&json!("exited"), &json!("5")));
        assert_eq!(told["exit"], json!({"exitCode": 3, "timedOut": false}));
        assert!(told["ageMs"].as_u64().is_some_and(|it| (6000..7000).contains(&it)), "{told}");
        assert_eq!(members(&told), members(&running));
    }
}

#[test]
fn an_argv_a_terminal_and_an_input_are_told() {
    let sandbox = Sandbox::new();
    let told = sandbox.start(json!({"argv": ["cat", "-"], "stdin": true})).json();
    assert_eq!(
        (&told["argv"], &told["cwd"], &told["user"]),
        (&json!(["cat", "-"]), &json!("/root"), &json!("root"))
    );
    assert_eq!((&told["stdin"], &told["pty"]), (&json!({"at": 0, "closed": false}), &json!(false)));
    let told = sandbox.start(json!({"command": "vi", "pty": {"cols": 80, "rows": 24}})).json();
    assert_eq!((&told["stdin"], &told["pty"]), (&json!({"at": 0, "closed": false}), &json!(true)));
    assert_eq!(sandbox.process().size, Some(Size { cols: 80, rows: 24 }));
}

#[test]
fn processes_are_listed_the_oldest_first_and_found_by_their_tag() {
    let sandbox = Sandbox::new();
    let list = |query: &str| {
        let answer = sandbox.stage.ask(Ask::get(sandbox.path(query)));
        assert_eq!((answer.status, &answer.json()["nextCursor"]), (200, &Value::Null), "{answer:?}");
        let items = answer.json()["items"].as_array().cloned().unwrap_or_default();
        items.iter().map(|it| it["process"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    assert!(list("").is_empty());
    let start = |body: Value| {
        sandbox.stage.world.advance(Duration::seconds(1));
        sandbox.started(body)
    };
    let all = [
        start(json!({"command": "a"})),
        start(json!({"command": "b", "tag": "x y"})),
        start(json!({"command": "c", "tag": "x y"})),
    ];
    assert_eq!(list(""), all);
    assert_eq!(list("?tag=x%20y"), all[1..]);
    assert!(list("?tag=x").is_empty() && list("?tag=").is_empty());
}

#[test]
fn a_deletion_leaves_nothing_of_a_process() {
    let sandbox = Sandbox::new();
    let process = sandbox.started(json!({"command": "a"}));
    let answer = sandbox.delete(&process);
    assert_eq!((answer.status, &*answer.body), (204, ""), "{answer:?}");
    assert_eq!(sandbox.get(&process).refusal(), "404 no-such-process");
    assert_eq!(sandbox.delete(&process).refusal(), "404 no-such-process");
    assert_eq!(sandbox.stage.ask(Ask::get(sandbox.path(""))).json()["items"], json!([]));
}

#[test]
fn a_signal_is_sent_once_and_tells_how_the_process_stands() {
    let sandbox = Sandbox::new();
    let process = sandbox.started(json!({"command": "a"}));
    let signal = |body: Value| sandbox.post(&format!("{process}/signal"), body);
    assert_eq!(signal(json!({"signal": "WINCH", "scope": "process"})).shows(), "200 running");
    let ended = signal(json!({"signal": "SIGTERM", "scope": "tree"}));
    assert_eq!(ended.shows(), "200 exited", "{ended:?}");
    assert_eq!(ended.json()["exit"], json!({"exitCode": 143, "signal": "TERM", "timedOut": false}));
    assert_eq!(sandbox.process().signals, ["WINCH", "TERM"]);
    assert_eq!(signal(json!({"signal": "TERM"})).refusal(), "409 process-gone");
}

#[test]
fn a_terminal_gets_another_size() {
    let sandbox = Sandbox::new();
    let process = sandbox.started(json!({"command": "a", "pty": {"cols": 80, "rows": 24}}));
    let resize = |process: &str| sandbox.post(&format!("{process}/resize"), json!({"cols": 132, "rows": 50}));
    let answer = resize(&process);
    assert_eq!((answer.shows().as_str(), &answer.json()["pty"]), ("200 running", &json!(true)), "{answer:?}");
    assert_eq!(sandbox.process().size, Some(Size { cols: 132, rows: 50 }));
    let without = sandbox.started(json!({"command": "b"}));
    assert_eq!(resize(&without).refusal(), "422 unsupported");
}

#[test]
fn what_a_sandbox_uses_is_measured() {
    for kind in BOTH {
        let sandbox = Sandbox::with(kind, vec![ExecLine::Exit(0)]);
        let answer = sandbox.stage.ask(Ask::get(format!("/api/sandboxes/{}/metrics", sandbox.id)));
        let told = answer.json();
        assert_eq!((answer.status, &told["cpus"]), (200, &json!(1.5)), "{answer:?}");
        let all = [
            "cpuUsedUs",
            "cpus",
            "diskTotal",
            "diskUsed",
            "memoryCached",
            "memoryTotal",
            "memoryUsed",
            "oomKills",
            "processes",
            "uptimeMs",
        ];
        assert_eq!(members(&told), all);
    }
}

/// What a call that may be made twice has done is seen, though its answer was lost.
#[test]
fn what_may_be_repeated_is_repeated_once() {
    let sandbox = Sandbox::new();
    let process = sandbox.started(json!({"command": "a", "pty": {"cols": 80, "rows": 24}}));
    let of = |rest: &str| sandbox.path(&format!("/{process}{rest}"));
    let metrics = format!("/api/sandboxes/{}/metrics", sandbox.id);
    for (operation, ask) in [
        ("processes", Ask::get(sandbox.path(""))),
        ("process", Ask::get(of(""))),
        ("resize", Ask::post(of("/resize"), json!({"cols": 1, "rows": 1}))),
        ("stdin", Ask::post(of("/stdin?at=0"), json!({})).bytes("abc")),
        ("metrics", Ask::get(metrics)),
        ("follow", Ask::get(of("/output"))),
        ("process", Ask::get(of("/output")).header("accept", "text/event-stream")),
    ] {
        for fault in [Fault::Unanswered, Fault::CutBody(0), Fault::NeverSent, Fault::Page(502)] {
            let before = sandbox.asked(operation);
            let path = format!("/v1/{operation}");
            sandbox.stage.world.fault_once(move |it| it.path == path, fault.clone());
            let answer = sandbox.stage.ask(ask.clone());
            assert_eq!((answer.status, sandbox.asked(operation) - before), (200, 2), "{fault:?} {answer:?}");
        }
        let path = format!("/v1/{operation}");
        sandbox.stage.world.fault_if(move |it| (it.path == path).then_some(Fault::Unanswered));
        let answer = sandbox.stage.ask(ask);
        assert_eq!(answer.refusal(), "502 exec-cut", "{answer:?}");
        assert!(answer.json()["detail"].as_str().is_some_and(|it| !it.contains("command")), "{answer:?}");
        sandbox.stage.world.clear_faults();
    }
    assert_eq!(sandbox.process().input, b"abc");
}

/// Whoever would repeat it might hit another process, or the same one twice.
#[test]
fn a_signal_and_a_deletion_are_never_repeated() {
    for fault in [Fault::Unanswered, Fault::CutBody(0), Fault::NeverSent, Fault::Page(502), Fault::Silent] {
        let code = if fault == Fault::NeverSent { "502 exec-unreachable" } else { "502 exec-cut" };
        for operation in ["signal", "forget"] {
            let sandbox = Sandbox::new();
            let process = sandbox.started(json!({"command": "a"}));
            let (faulty, path) = (fault.clone(), format!("/v1/{operation}"));
            sandbox.stage.world.fault_if(move |it| (it.path == path).then(|| faulty.clone()));
            let answer = match operation {
                "signal" => sandbox.post(&format!("{process}/signal"), json!({"signal": "USR1"})),
                _ => sandbox.delete(&process),
            };
            assert_eq!(
                (answer.refusal().as_str(), sandbox.asked(operation)),
                (code, 1),
                "{fault:?} {answer:?}"
            );
            // A look tells what has become of it.
            let stands = sandbox.get(&process);
            let was_done = !matches!(fault, Fault::NeverSent | Fault::Page(_));
            let wanted = match (was_done, operation) {
                (false, _) => "200 running",
                (true, "signal") => "200 exited",
                (true, _) => "404 ",
            };
            assert_eq!(stands.shows(), wanted, "{fault:?} {stands:?}");
        }
    }
}

/// 1. A session of the daemon ends between two calls.
/// 2. A call of the old one is refused, which proves that it did nothing: it is signed again.
#[test]
fn a_new_session_of_the_daemon_is_not_seen() {
    let sandbox = Sandbox::new();
    let (vmid, is_first) = (sandbox.vmid(), Cell::new(false));
    sandbox.stage.world.hook(move |sim, moment, seen| {
        let is_start = moment == Moment::Before && seen.path == "/v1/start";
        if is_start && !is_first.replace(!is_first.get()) {
            sim.draw_session(vmid);
        }
    });
    for count in 1..4 {
        sandbox.started(json!({"command": "a"}));
        assert_eq!((sandbox.runs() as usize, sandbox.asked("start")), (count, 2 * count));
    }
}
