//! No secret leaves by an answer, a path or a log line.

use pve_edge_bed::morph::KEY;

use super::stage;
use crate::{
    secrets::logged,
    stage::{SECRET, prelude::*},
};

const VARIABLE: &str = "value-of-a-variable";

#[test]
fn of_everything_that_is_said_about_morph() {
    let (log, (stage, answers)) = logged(say_everything);
    assert!(log.contains("morph"), "nothing was logged");
    let requests = stage.world.requests();
    let paths: Vec<String> = requests.iter().map(|it| format!("{}{}", it.host, it.path)).collect();
    // A command alone carries the variables.
    let kept: Vec<String> =
        requests.iter().filter(|it| !it.path.ends_with("/exec/sse")).map(|it| it.body.clone()).collect();
    for secret in [KEY, SECRET, "key-blue", VARIABLE] {
        for (what, text) in [
            ("an answer", &answers),
            ("a path", &paths.join("\n")),
            ("the log", &log),
            ("what Morph keeps", &kept.join("\n")),
            ("Debug", &stage.debugged()),
        ] {
            assert!(!text.contains(secret), "{what} has a secret:\n{text}");
        }
    }
}

/// Each operation as it should be, then each with each other request failing.
fn say_everything() -> (Stage, String) {
    let stage = stage();
    let create = || Ask::create_keyed("k").json(json!({"env": {"A": VARIABLE}}));
    let id = stage.ask(create()).id();
    let mut answers = String::new();
    let faults = [
        None,
        Some(Fault::Unanswered),
        Some(Fault::Refused(500, "broken".into())),
        Some(Fault::Refused(401, "no".into())),
        Some(Fault::NeverSent),
    ];
    for fault in faults {
        for ask in [
            create(),
            create().without("idempotency-key"),
            Ask::one(&id),
            Ask::get("/api/sandboxes"),
            Ask::get("/api/config/sandbox"),
            Ask::get("/api/health/sandbox"),
            Ask::change(&id, json!({"name": "x"})),
            Ask::extend(&id, 600),
            Ask::exec(&id, "true"),
            Ask::exec(&id, "true").header("accept", "text/event-stream"),
            Ask::act(&id, "snapshots", json!({})),
            Ask::act(&id, "pause", json!({})),
            Ask::act(&id, "resume", json!({})),
            Ask::gc(),
        ] {
            if let Some(fault) = fault.clone() {
                let mut nth = 0;
                stage.world.fault_if(move |_| {
                    nth += 1;
                    (nth % 2 == 0).then(|| fault.clone())
                });
            }
            // What a command prints is its own affair: the stand-in's print themselves.
            let printed = matches!(&ask, ask if format!("{ask:?}").contains("/exec"));
            let answer = stage.ask(ask);
            if !printed {
                answers.push_str(&format!("{:?}{}\n", answer.headers, answer.body));
            }
            stage.world.clear_faults();
        }
    }
    (stage, answers)
}
