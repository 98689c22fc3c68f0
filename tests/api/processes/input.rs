//! Standard input of processes: each byte once, in order.

use super::sandbox::Sandbox;
use crate::stage::prelude::*;

fn open() -> (Sandbox, String) {
    let sandbox = Sandbox::new();
    let process = sandbox.started(json!({"command": "cat", "stdin": true}));
    (sandbox, process)
}

#[test]
fn bytes_are_taken_once_and_in_order() {
    let (sandbox, process) = open();
    let put = |query: &str, bytes: &[u8]| {
        let answer = sandbox.stdin(&process, query, bytes);
        (answer.status, answer.json())
    };
    assert_eq!(put("at=0", b"a\0\xff"), (200, json!({"at": 3, "closed": false})));
    assert_eq!(put("at=0", b"a\0\xff"), (200, json!({"at": 3, "closed": false})), "it was sent again");
    assert_eq!(put("at=2&end=false", b"\xffd"), (200, json!({"at": 4, "closed": false})), "it overlaps");
    assert_eq!(put("at=4&end=true", b"e"), (200, json!({"at": 5, "closed": true})));
    assert_eq!(put("at=4&end=true", b"e"), (200, json!({"at": 5, "closed": true})));
    assert_eq!(sandbox.process().input, b"a\0\xffde");
    assert_eq!(sandbox.stdin(&process, "at=5", b"f").refusal(), "409 stdin-closed");
    assert_eq!(sandbox.get(&process).json()["stdin"], json!({"at": 5, "closed": true}));
}

#[test]
fn a_place_behind_what_was_taken_is_refused_with_the_right_one() {
    let (sandbox, process) = open();
    assert_eq!(sandbox.stdin(&process, "at=0", b"abc").status, 200);
    for at in ["4", "18446744073709551615"] {
        let answer = sandbox.stdin(&process, &format!("at={at}&end=true"), b"x");
        assert_eq!(
            (answer.refusal().as_str(), &answer.json()["at"]),
            ("409 stdin-offset", &json!(3)),
            "{answer:?}"
        );
    }
    assert_eq!(sandbox.process().input, b"abc");
    assert!(!sandbox.process().closed);
}

#[test]
fn a_process_that_does_not_read_takes_a_part() {
    let (sandbox, process) = open();
    sandbox.process().room = 4;
    let answer = sandbox.stdin(&process, "at=0&end=true", b"0123456789");
    assert_eq!((answer.status, answer.json()), (202, json!({"at": 4, "closed": false})));
    let answer = sandbox.stdin(&process, "at=4&end=true", b"456789");
    assert_eq!((answer.status, answer.json()), (202, json!({"at": 8, "closed": false})));
    let answer = sandbox.stdin(&process, "at=0&end=true", b"0123456789");
    assert_eq!((answer.status, answer.json()), (200, json!({"at": 10, "closed": true})));
    assert_eq!(sandbox.process().input, b"0123456789");
}

/// The answer is lost after the bytes were taken: they are passed over when they come again.
#[test]
fn input_that_was_not_answered_is_sent_again() {
    let (sandbox, process) = open();
    sandbox.stage.world.fault_once(|it| it.path == "/v1/stdin", Fault::Unanswered);
    let answer = sandbox.stdin(&process, "at=0&end=true", b"abc");
    assert_eq!(
        (answer.status, answer.json(), sandbox.asked("stdin")),
        (200, json!({"at": 3, "closed": true}), 2)
    );
    assert_eq!(sandbox.process().input, b"abc");
}

#[test]
fn input_for_nobody_is_refused() {
    let (sandbox, process) = open();
    let deaf = sandbox.started(json!({"command": "a"}));
    assert_eq!(sandbox.stdin(&deaf, "at=0", b"x").refusal(), "409 stdin-closed");
    let terminal = sandbox.started(json!({"command": "a", "pty": {"cols": 80, "rows": 24}}));
    assert_eq!(sandbox.stdin(&terminal, "at=0", b"x").status, 200, "a terminal always takes it");
    sandbox.ends();
    assert_eq!(sandbox.stdin(&terminal, "at=1", b"x").refusal(), "409 process-gone");
    sandbox.restarts();
    assert_eq!(sandbox.stdin(&process, "at=0", b"x").refusal(), "404 no-such-process");
}

/// One call takes 1 MiB; a client that sends more in one request is told so before anything is taken.
#[test]
fn a_body_may_have_a_megabyte() {
    let (sandbox, process) = open();
    let most = vec![7; 1 << 20];
    assert_eq!(sandbox.stdin(&process, "at=0", &most).status, 200);
    let answer = sandbox.stdin(&process, &format!("at={}", most.len()), &vec![7; most.len() + 1]);
    assert_eq!(answer.refusal(), "413 too-large", "{answer:?}");
    assert_eq!(sandbox.process().input.len(), most.len());
}
