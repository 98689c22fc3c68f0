//! A process is started once, whatever is cut on the way and whoever asks again.

use pve_edge_bed::sim::execd::ExecLine;

use super::sandbox::{Sandbox, name, pause};
use crate::stage::prelude::*;

#[test]
fn a_start_that_was_not_answered_is_repeated_and_runs_once() {
    for fault in [
        Fault::Unanswered,
        Fault::CutBody(0),
        Fault::Silent,
        Fault::Late(std::time::Duration::from_millis(50)),
    ] {
        let sandbox = Sandbox::new();
        sandbox.stage.world.fault_once(|it| it.path == "/v1/start", fault.clone());
        let answer = sandbox.start(json!({"command": "a"}));
        assert_eq!(answer.shows(), "201 running", "{fault:?} {answer:?}");
        assert_eq!((sandbox.runs(), sandbox.asked("start")), (1, 2), "{fault:?}");
        assert_eq!(
            sandbox.stage.ask(Ask::get(sandbox.path(""))).json()["items"].as_array().map(Vec::len),
            Some(1)
        );
    }
}

#[test]
fn a_start_that_is_never_answered_may_have_run() {
    let sandbox = Sandbox::new();
    sandbox.stage.world.fault_if(|it| (it.path == "/v1/start").then_some(Fault::Unanswered));
    let answer = sandbox.start(json!({"command": "a"}));
    assert_eq!(answer.refusal(), "502 exec-cut", "{answer:?}");
    assert!(answer.body.contains("may or may not have been run"), "{answer:?}");
    assert_eq!((sandbox.runs(), sandbox.asked("start")), (1, 4));
}

#[test]
fn a_start_that_was_never_sent_has_run_nothing() {
    let sandbox = Sandbox::new();
    sandbox.stage.world.fault_if(|it| (it.path == "/v1/start").then_some(Fault::NeverSent));
    let answer = sandbox.start(json!({"command": "a"}));
    assert_eq!((answer.refusal().as_str(), sandbox.runs()), ("502 exec-unreachable", 0), "{answer:?}");
}

/// 1. A start arrives, and its answer is lost.
/// 2. The guest is restarted, or stays off.
/// 3. The same start would run a second time.
#[test]
fn a_start_is_not_repeated_after_a_restart() {
    for key in [None, Some("k")] {
        for is_on in [true, false] {
            let sandbox = Sandbox::new();
            sandbox.stage.world.fault_once(|it| it.path == "/v1/start", Fault::Unanswered);
            let (vmid, mut is_first) = (sandbox.vmid(), true);
            sandbox.stage.world.hook(move |sim, moment, seen| {
                if moment == Moment::After && seen.path == "/v1/start" && std::mem::take(&mut is_first) {
                    sim.set_running(vmid, false);
                    sim.set_running(vmid, is_on);
                }
            });
            let answer = match key {
                Some(key) => sandbox.start_keyed(key, json!({"command": "a"})),
                None => sandbox.start(json!({"command": "a"})),
            };
            assert_eq!(answer.refusal(), "502 exec-cut", "{key:?} {is_on} {answer:?}");
            assert_eq!(sandbox.runs(), 1);
            assert!(!is_on || answer.body.contains("restarted"), "{answer:?}");
            // The key is remembered: the client may ask again.
            if let (Some(key), true) = (key, is_on) {
                sandbox.stage.world.advance(Duration::seconds(1));
                let again = sandbox.start_keyed(key, json!({"command": "a"}));
                assert_eq!((again.shows().as_str(), sandbox.runs()), ("201 lost", 1), "{again:?}");
            }
        }
    }
}

#[test]
fn the_same_key_is_the_same_process() {
    for kind in BOTH {
        let sandbox = Sandbox::with(kind, vec![pause(60), ExecLine::Exit(0)]);
        let first = sandbox.start_keyed("k", json!({"command": "a", "env": {"B": "1", "A": "2"}}));
        assert_eq!(first.shows(), "201 running", "{first:?}");
        // However its JSON is spelled.
        let body = "{\"env\": {\"A\": \"2\", \"\\u0042\": \"1\"}, \"stdin\": false, \"command\": \"a\"}";
        let ask = Ask::post(sandbox.path(""), json!({})).bytes(body).header("idempotency-key", "k");
        assert_eq!(name(&sandbox.stage.ask(ask)), name(&first));
        assert_eq!(sandbox.runs(), 1);
        for other in [json!({"command": "b"}), json!({"command": "a", "tag": "t"}), json!({"argv": ["a"]})] {
            assert_eq!(sandbox.start_keyed("k", other).refusal(), "409 idempotency-conflict");
        }
        // `exec` is another request.
        let ask = Ask::exec(&sandbox.id, "a").header("idempotency-key", "k");
        assert_eq!(sandbox.stage.ask(ask).refusal(), "409 idempotency-conflict");
        assert_eq!(sandbox.runs(), 1);
        assert_ne!(name(&sandbox.start_keyed("l", json!({"command": "a"}))), name(&first));
        let other = Sandbox { id: sandbox.stage.created(json!({})), stage: sandbox.stage.clone() };
        assert_ne!(
            name(&other.start_keyed("k", json!({"command": "a"}))),
            name(&first),
            "of its own sandbox"
        );
    }
}

#[test]
fn a_key_outlives_the_end_of_its_process_and_a_restart() {
    let sandbox = Sandbox::new();
    let start = || sandbox.start_keyed("k", json!({"command": "a"}));
    let process = name(&start());
    sandbox.ends();
    assert_eq!((start().shows().as_str(), name(&start())), ("201 exited", process.clone()));
    sandbox.restarts();
    let again = start();
    assert_eq!(
        (again.shows().as_str(), name(&again), sandbox.runs()),
        ("201 lost", process.clone(), 1),
        "{again:?}"
    );
    assert_eq!(sandbox.start_keyed("k", json!({"command": "b"})).refusal(), "409 idempotency-conflict");
    assert_eq!(sandbox.get(&process).shows(), "200 lost");
    for verb in ["signal", "stdin"] {
        let answer = match verb {
            "signal" => sandbox.post(&format!("{process}/signal"), json!({"signal": "TERM"})),
            _ => sandbox.stdin(&process, "at=0", b"a"),
        };
        assert_eq!(answer.refusal(), "409 process-gone");
    }
    let page = sandbox.get(&format!("{process}/output")).json();
    assert_eq!((&page["state"], &page["events"]), (&json!("lost"), &json!([])));
    // One without a key is forgotten.
    let other = sandbox.started(json!({"command": "a"}));
    sandbox.restarts();
    assert_eq!(sandbox.get(&other).refusal(), "404 no-such-process");
}

/// The name under an older secret is looked for first.
#[test]
fn a_key_outlives_the_rotation_of_the_secret() {
    let sandbox = Sandbox::new();
    let first = sandbox.start_keyed("k", json!({"command": "a"}));
    let secrets = format!("{} {}", "n".repeat(32), crate::stage::SECRET);
    let rotated = Sandbox {
        stage: sandbox.stage.beside("rotated", &[("EDGE_SECRET", &secrets)]),
        id: sandbox.id.clone(),
    };
    assert_eq!(name(&rotated.start_keyed("k", json!({"command": "a"}))), name(&first));
    assert_eq!(rotated.start_keyed("k", json!({"command": "b"})).refusal(), "409 idempotency-conflict");
    assert_eq!(rotated.start_keyed("l", json!({"command": "a"})).shows(), "201 running");
    assert_eq!(sandbox.runs(), 2);
}

/// Two clients with one key: the daemon decides, and both are told of one process.
#[test]
fn one_key_at_the_same_time_runs_once() {
    let sandbox = Sandbox::new();
    let ask = || Ask::post(sandbox.path(""), json!({"command": "a"})).header("idempotency-key", "k");
    let both = sandbox.stage.world.run_all([sandbox.stage.pending(ask()), sandbox.stage.pending(ask())]);
    let names: Vec<_> = both.into_iter().map(|it| name(&it.expect("an answer"))).collect();
    assert_eq!((&names[0], sandbox.runs()), (&names[1], 1));
}

/// Nothing could keep the key there, so nothing is run under it.
#[test]
fn a_key_by_another_way_is_refused_before_anything_runs() {
    for kind in BOTH {
        let stage = Stage::with(kind);
        let id = stage.created(json!({}));
        let before = stage.world.sim().executions().clone();
        let keyed = |ask: Ask| stage.ask(ask.header("idempotency-key", "k"));
        let processes = format!("/api/sandboxes/{id}/processes");
        for answer in [
            keyed(Ask::exec(&id, "a")),
            keyed(Ask::exec(&id, "a").header("accept", "text/event-stream")),
            keyed(Ask::post(&processes, json!({"command": "a"}))),
            stage.ask(Ask::post(&processes, json!({"command": "a"}))),
        ] {
            assert_eq!(answer.refusal(), "422 unsupported", "{answer:?}");
        }
        assert_eq!(*stage.world.sim().executions(), before);
    }
}
