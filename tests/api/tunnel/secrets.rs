//! Neither the API's token nor a tunnel's leaves, but by the one member of the one answer.

use pve_edge_bed::cloudflare::{TOKEN, TUNNEL_SECRET};

use super::{Bed, make, undo};
use crate::{
    secrets::logged,
    stage::{SECRET, prelude::*},
};

#[test]
fn of_everything_that_is_said_about_the_tunnel() {
    let (log, (bed, answers, given)) = logged(say_everything);
    assert!(log.contains("cloudflare") && given > 0, "{given} tokens were given, and logged was\n{log}");
    let requests = bed.stage.world.requests();
    let paths: Vec<String> = requests.iter().map(|it| format!("{}{}", it.host, it.path)).collect();
    let bodies: Vec<String> = requests.iter().map(|it| it.body.clone()).collect();
    for secret in [TOKEN, TUNNEL_SECRET, SECRET, "key-ops"] {
        for (what, text) in [
            ("an answer", &answers),
            ("a path", &paths.join("\n")),
            ("what Cloudflare is sent", &bodies.join("\n")),
            ("the log", &log),
            ("Debug", &bed.stage.debugged()),
        ] {
            assert!(!text.contains(secret), "{what} has a secret:\n{text}");
        }
    }
}

/// Each operation as it should be, then each with each other request failing: all answers without `token`, and how often
/// that was there.
fn say_everything() -> (Bed, String, usize) {
    let bed = Bed::new();
    let (mut answers, mut given) = (String::new(), 0);
    let faults = [
        None,
        Some(Fault::Unanswered),
        Some(Fault::Page(500)),
        Some(Fault::Page(403)),
        Some(Fault::NeverSent),
        Some(Fault::CutBody(0)),
    ];
    for fault in faults {
        let asks = [
            make(json!({"dryRun": true})),
            make(json!({})),
            make(json!({"vpc": true})),
            make(json!({"plan": "another"})),
            Ask::get("/api/tunnel").by("ops"),
            undo(""),
            undo("?force=true"),
        ];
        for ask in asks {
            if let Some(fault) = fault.clone() {
                let mut nth = 0;
                bed.stage.world.fault_if(move |_| {
                    nth += 1;
                    (nth % 4 == 0).then(|| fault.clone())
                });
            }
            let answer = bed.stage.ask(ask);
            let mut body = answer.json();
            given += usize::from(body.as_object_mut().is_some_and(|it| it.remove("token").is_some()));
            answers.push_str(&format!("{:?}{body}\n", answer.headers));
            bed.stage.world.clear_faults();
        }
    }
    (bed, answers, given)
}
