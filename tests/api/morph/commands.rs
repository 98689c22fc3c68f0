//! Commands, over Morph's stream.

use std::{sync::Arc, time::Duration};

use pve_edge_bed::{morph::real, sim::execd::ExecLine};

use super::{made, stage};
use crate::stage::prelude::*;

/// A sandbox whose commands do this.
fn running(lines: Vec<ExecLine>) -> (Stage, String) {
    let stage = stage();
    let id = made(&stage, json!({})).id();
    stage.account().set_runner(Arc::new(move |_, _| lines.clone()));
    (stage, id)
}

fn out(text: &str) -> ExecLine {
    ExecLine::Stdout(text.to_owned())
}

#[test]
fn output_and_exit_code_as_the_command_gave_them() {
    let (stage, id) =
        running(vec![out("grün\n"), ExecLine::Stderr("oh".into()), out("no end"), ExecLine::Exit(3)]);
    let answer = stage.ask(Ask::exec(&id, "x"));
    let outcome = json!({"exitCode": 3, "stdout": "grün\nno end", "stderr": "oh", "timedOut": false});
    assert_eq!((answer.status, answer.json()), (200, outcome));
    let events = stage.ask(Ask::exec(&id, "x").header("accept", "text/event-stream"));
    let wanted = "event: stdout\ndata: {\"data\":\"grün\\n\"}\n\nevent: stderr\ndata: {\"data\":\"oh\"}\n\n\
                  event: stdout\ndata: {\"data\":\"no end\"}\n\nevent: exit\ndata: {\"exitCode\":3,\"timedOut\":false}\n\n";
    assert_eq!(events.body, wanted);
}

#[test]
fn words_reach_the_program_through_two_shells() {
    let stage = stage();
    let id = made(&stage, json!({})).id();
    stage.account().set_runner(real());
    let words = ["printf", "%s|", "it's", "$HOME `x`", "a\nb", "\"q\" \\"];
    let body = json!({"argv": words, "cwd": "/", "env": {"A": "it's"}});
    let answer = stage.act(&id, "exec", body);
    assert_eq!(answer.json()["stdout"], "it's|$HOME `x`|a\nb|\"q\" \\|", "{answer:?}");
}

/// The vendor's own SDK takes such a stream for a success.
#[test]
fn a_stream_without_an_exit_code_is_no_success() {
    for lines in [vec![out("some")], vec![out("some"), ExecLine::Cut], vec![]] {
        let (stage, id) = running(lines.clone());
        let answer = stage.ask(Ask::exec(&id, "x"));
        assert_eq!(answer.refusal(), "502 exec-cut", "{lines:?}: {answer:?}");
        let events = stage.ask(Ask::exec(&id, "x").header("accept", "text/event-stream"));
        assert_eq!(events.status, 200);
        assert!(
            events.body.contains("\"code\":\"exec-cut\"") && !events.body.contains("event: exit"),
            "{events:?}"
        );
    }
    let (stage, id) = running(vec![out("some"), ExecLine::Exit(0)]);
    for pieces in 0..3 {
        stage.world.fault_once(|it: &Seen| it.path.ends_with("/exec/sse"), Fault::CutBody(pieces));
        assert_eq!(stage.ask(Ask::exec(&id, "x")).code(), "exec-cut", "{pieces}");
    }
}

#[test]
fn what_takes_too_long_is_told_so() {
    let ended = vec![out("some"), ExecLine::Wait(Duration::from_millis(1100)), ExecLine::Exit(124)];
    let (stage, id) = running(ended);
    let body = json!({"command": "sleep 9", "timeoutMs": 1000});
    let exec = || Ask::act(&id, "exec", body.clone());
    let answer = stage.ask(exec()).json();
    assert_eq!((&answer["timedOut"], &answer["exitCode"]), (&json!(true), &json!(124)), "{answer}");
    let events = stage.ask(exec().header("accept", "text/event-stream"));
    assert!(events.body.contains("{\"exitCode\":124,\"timedOut\":true}"), "{events:?}");
    // Its own 124, in time, is its own.
    let (stage, id) = running(vec![ExecLine::Exit(124)]);
    let answer = stage.ask(Ask::exec(&id, "exit 124")).json();
    assert_eq!((&answer["timedOut"], &answer["exitCode"]), (&json!(false), &json!(124)));
    // One that neither ends nor is ended.
    let (stage, id) = running(vec![ExecLine::Wait(Duration::from_secs(9000)), ExecLine::Exit(0)]);
    assert_eq!(stage.act(&id, "exec", body).code(), "exec-cut");
}

#[test]
fn more_output_than_fits_is_left_out_and_told() {
    let (stage, id) = running(vec![out(&"x".repeat(5 << 20)), ExecLine::Exit(0)]);
    let answer = stage.ask(Ask::exec(&id, "x")).json();
    assert_eq!(
        (&answer["truncated"], answer["stdout"].as_str().map(str::len)),
        (&json!(true), Some(4 << 20))
    );
}
