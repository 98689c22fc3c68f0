//! No secret leaves by an answer, a path or a log line.

use std::{
    io::Write,
    sync::{Arc, Mutex},
};

use pve_edge_bed::sim::TOKEN;

use crate::stage::{SECRET, prelude::*};

/// Log lines of this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().map_or(Ok(0), |mut log| log.write(bytes))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What is logged while something is done, and what that gives.
pub(crate) fn logged<T>(done: impl Fn() -> T) -> (String, T) {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
    let result = tracing::subscriber::with_default(subscriber, || {
        // A place that logs and was first met by another thread, without a subscriber, is taken for silent.
        drop(done());
        tracing::callsite::rebuild_interest_cache();
        done()
    });
    let bytes = log.0.lock().expect("one thread").clone();
    (String::from_utf8(bytes).expect("text"), result)
}

/// The value of an environment variable.
const VARIABLE: &str = "value-of-a-variable";

/// What must not be seen anywhere.
fn secrets(exec_token: &str) -> [String; 5] {
    let api_token = TOKEN.rsplit_once('=').map_or(TOKEN, |(_, secret)| secret);
    [api_token.into(), SECRET.into(), "key-blue".into(), exec_token.into(), VARIABLE.into()]
}

#[test]
fn of_everything_that_is_said() {
    let (logged, (stage, answers, exec_token)) = logged(say_everything);
    assert_eq!(exec_token.len(), 64);
    assert!(logged.contains("pve"), "nothing was logged");
    let paths: Vec<String> = stage.world.requests().into_iter().map(|it| it.host + &it.path).collect();
    // The exec daemon alone is told the variables.
    let of_exec = |line: &&str| line.contains("/exec ") || line.contains("\"type\":\"stdout\"");
    let told_to_pve: String = stage.world.transcript().lines().filter(|it| !of_exec(it)).collect();
    for secret in secrets(&exec_token) {
        for (what, text) in [
            ("an answer", &answers),
            ("a path", &paths.join("\n")),
            ("the log", &logged),
            ("what PVE is told", &told_to_pve),
            ("Debug", &stage.debugged()),
        ] {
            assert!(!text.contains(&secret), "{what} has a secret:\n{text}");
        }
    }
}

/// Each operation as it should be, then each with each of its requests failing.
fn say_everything() -> (Stage, String, String) {
    let stage = Stage::new();
    let made = stage.ask(create());
    let id = made.id();
    let run = stage.world.sim().guest(vmid_of(&id)).and_then(|it| it.run.clone());
    let exec_token = run.and_then(|it| it.token).unwrap_or_default();
    let mut answers = format!("{:?}{}", made.headers, made.body);
    for fault in
        [None, Some(Fault::Unanswered), Some(Fault::Refused(500, "broken".into())), Some(Fault::NeverSent)]
    {
        for ask in operations(&id) {
            if let Some(fault) = fault.clone() {
                let mut nth = 0;
                stage.world.fault_if(move |_| {
                    nth += 1;
                    (nth % 2 == 0).then(|| fault.clone())
                });
            }
            let answer = stage.ask(ask);
            answers.push_str(&format!("{:?}{}\n", answer.headers, answer.body));
            stage.world.clear_faults();
        }
    }
    (stage, answers, exec_token)
}

fn create() -> Ask {
    Ask::create_keyed("k").json(json!({"env": {"A": VARIABLE}}))
}

fn operations(id: &str) -> Vec<Ask> {
    vec![
        create(),
        create().without("idempotency-key"),
        Ask::one(id),
        Ask::get("/api/sandboxes"),
        Ask::get("/api/config/sandbox"),
        Ask::get("/api/health/sandbox"),
        Ask::change(id, json!({"name": "x"})),
        Ask::extend(id, 600),
        Ask::exec(id, "true"),
        Ask::exec(id, "true").header("accept", "text/event-stream"),
        Ask::get("/api/sandboxes").header("authorization", "Bearer key-blue-and-more"),
    ]
}
