//! Commands by the project's own daemon: a process that is started and followed in one request.

use base64::{Engine, engine::general_purpose::STANDARD};
use pve_edge_bed::sim::execd::ExecLine;

use super::sandbox::{Event, Sandbox, events, name, names, pause};
use crate::stage::prelude::*;

fn line(text: &str) -> ExecLine {
    ExecLine::Stdout(text.into())
}

#[test]
fn the_outcome_names_its_process_and_the_place_behind_its_output() {
    for kind in BOTH {
        let lines = vec![line("grün"), pause(70), ExecLine::Stderr("rot".into()), ExecLine::Exit(3)];
        let sandbox = Sandbox::with(kind, lines);
        let answer = sandbox.exec(json!({"argv": ["a"], "user": "1000"}));
        let process = name(&answer);
        let told = json!({
            "exitCode": 3, "stdout": "grün\n", "stderr": "rot\n", "timedOut": false, "process": process, "cursor": "10.4",
        });
        assert_eq!((answer.status, answer.json()), (200, told), "{answer:?}");
        let stands = sandbox.get(&process).json();
        assert_eq!((&stands["state"], &stands["user"]), (&json!("exited"), &json!("1000")));
        let streamed = sandbox.stage.ask(Ask::exec(&sandbox.id, "a").header("accept", "text/event-stream"));
        let told = events(&streamed);
        assert_eq!(names(&told), ["started", "stdout", "stderr", "exit"]);
        assert_eq!(
            told.iter().map(|it| it.id.as_deref()).collect::<Vec<_>>(),
            ["0", "6", "10.4", "10.4"].map(Some)
        );
    }
}

/// A client that was cut goes on with the process that it has been told of.
#[test]
fn a_stream_that_was_cut_goes_on_as_a_process() {
    let sandbox = Sandbox::with(Kind::Lxc, vec![line("one"), pause(30), line("two"), ExecLine::Exit(0)]);
    let told = events(&sandbox.stage.ask(Ask::exec(&sandbox.id, "a").header("accept", "text/event-stream")));
    let [Event { data, .. }, first, rest @ ..] = told.as_slice() else { panic!("{told:?}") };
    let process = data["process"].as_str().expect("its name");
    let after = first.id.as_deref().expect("a place");
    assert_eq!(sandbox.events(&format!("{process}/output?after={after}")), rest);
}

#[test]
fn input_reaches_the_command_in_either_encoding() {
    let large = "0123456789abcdef".repeat(40_000);
    for (body, input) in [
        (json!({"stdin": ""}), vec![]),
        (json!({"stdin": "grün\n"}), "grün\n".into()),
        (json!({"stdin": STANDARD.encode(b"\xff\0a"), "encoding": "base64"}), b"\xff\0a".to_vec()),
        (json!({"stdin": large}), large.clone().into()),
    ] {
        for fault in [None, Some(Fault::Unanswered), Some(Fault::CutBody(0))] {
            let sandbox = Sandbox::with(Kind::Lxc, vec![pause(30), line("ok"), ExecLine::Exit(0)]);
            if let Some(fault) = fault.clone() {
                sandbox.stage.world.fault_once(|it| it.path == "/v1/start", fault);
            }
            let mut body = body.clone();
            body["command"] = json!("cat");
            let answer = sandbox.exec(body);
            assert_eq!((answer.status, &answer.json()["exitCode"]), (200, &json!(0)), "{fault:?} {answer:?}");
            let process = sandbox.process();
            assert!(process.input == input && process.closed, "{fault:?} {} bytes", process.input.len());
        }
    }
}

#[test]
fn output_in_base64_has_all_bytes() {
    let sandbox = Sandbox::with(Kind::Lxc, vec![line("grün"), ExecLine::Exit(0)]);
    let told = sandbox.exec(json!({"command": "a", "encoding": "base64"})).json();
    assert_eq!((&told["stdout"], &told["stderr"]), (&json!(STANDARD.encode("grün\n")), &json!("")));
    assert!(told.get("lossy").is_none());
}

/// It is given with the start: nothing is left to be done for a command whose client leaves.
#[test]
fn input_takes_no_call_of_its_own() {
    let sandbox = Sandbox::with(Kind::Lxc, vec![line("ok"), ExecLine::Exit(0)]);
    let answer = sandbox.exec(json!({"command": "true", "stdin": "unread"}));
    assert_eq!((answer.status, &answer.json()["stdout"]), (200, &json!("ok\n")), "{answer:?}");
    assert_eq!((sandbox.asked("start"), sandbox.asked("stdin")), (1, 0));
}

#[test]
fn the_same_key_tells_the_same_output_again() {
    let sandbox = Sandbox::with(Kind::Lxc, vec![line("one"), pause(30), ExecLine::Exit(0)]);
    let exec =
        |body: Value| sandbox.stage.ask(Ask::act(&sandbox.id, "exec", body).header("idempotency-key", "k"));
    sandbox.stage.world.fault_once(|it| it.path == "/v1/start", Fault::Unanswered);
    let first = exec(json!({"command": "a"}));
    assert_eq!((first.status, &first.json()["stdout"]), (200, &json!("one\n")), "{first:?}");
    assert_eq!(
        exec(json!({"command": "a", "timeoutMs": 300_000})).json(),
        first.json(),
        "the default is spelled out"
    );
    for other in [
        json!({"command": "a", "stdin": ""}),
        json!({"command": "a", "encoding": "base64"}),
        json!({"command": "b"}),
    ] {
        assert_eq!(exec(other).refusal(), "409 idempotency-conflict");
    }
    assert_eq!(sandbox.runs(), 1);
    sandbox.restarts();
    assert_eq!(exec(json!({"command": "a"})).refusal(), "409 process-lost");
    assert_eq!(sandbox.runs(), 1);
}

#[test]
fn a_command_that_takes_too_long_is_ended() {
    let sandbox = Sandbox::with(Kind::Lxc, vec![line("begun"), pause(3600), ExecLine::Exit(0)]);
    let told = sandbox.exec(json!({"command": "a", "timeoutMs": 4000})).json();
    assert_eq!((&told["timedOut"], &told["stdout"]), (&json!(true), &json!("begun\n")), "{told}");
}

#[test]
fn a_command_is_never_run_twice() {
    for fault in [Fault::Unanswered, Fault::Silent, Fault::CutBody(0), Fault::Page(502)] {
        let sandbox = Sandbox::with(Kind::Lxc, vec![line("ok"), ExecLine::Exit(0)]);
        let faulty = fault.clone();
        sandbox.stage.world.fault_if(move |it| (it.path == "/v1/start").then(|| faulty.clone()));
        let answer = sandbox.exec(json!({"command": "a"}));
        assert_eq!(answer.refusal(), "502 exec-cut", "{fault:?} {answer:?}");
        assert!(sandbox.runs() <= 1, "{fault:?}");
    }
}
