//! What is said to PVE, in order.

mod create;
mod others;

use expect_test::Expect;

use crate::stage::{Answer, Ask, Stage};

/// Asks, and compares what was said and what was answered.
fn check(stage: &Stage, ask: Ask, expected: Expect) -> Answer {
    stage.world.clear_transcript();
    let answer = stage.ask(ask);
    let told = told(&stage.world.transcript());
    expected.assert_eq(&format!("{told}= {} {}\n", answer.status, without_services(&answer.body)));
    answer
}

/// Requests as they are, without what only repeats; answers only as far as they are no data.
pub(crate) fn told(transcript: &str) -> String {
    let mut told = String::new();
    for line in transcript.lines() {
        // The name of an adapter may stand in front.
        let (name, line) = match line.split_once(' ') {
            Some((name, rest)) if rest.starts_with(['<', '>', '!']) => (format!("{name} "), rest),
            _ => (String::new(), line),
        };
        let line = match line.strip_prefix("< ") {
            Some(answer) => format!("{name}  {}", refusal(answer)),
            None => name + &short(line.strip_prefix("> ").unwrap_or(line)),
        };
        told.push_str(line.trim_end());
        told.push('\n');
    }
    told
}

fn refusal(answer: &str) -> String {
    let status = answer.split(' ').next().unwrap_or_default();
    let message = answer.split_once("\"message\":\"").map_or("", |(_, rest)| rest);
    format!("{status} {}", message.split(['"', '\\']).next().unwrap_or_default())
}

/// The notes for people, digests and task ids have tests of their own.
fn short(line: &str) -> String {
    let notes = between(&format!("{line} "), "<!-- pve-edge -->", "<!-- /pve-edge -->\\n\\n", "<notes> ");
    let digest = between(&notes, "digest=", " ", "digest=… ");
    between(&digest, "UPID%3A", "/status", "<upid>/status")
}

fn without_services(body: &str) -> String {
    between(body, ",\"services\":[", "]", "")
}

fn between(text: &str, from: &str, to: &str, instead: &str) -> String {
    let Some((before, rest)) = text.split_once(from) else { return text.to_owned() };
    let Some((_, after)) = rest.split_once(to) else { return text.to_owned() };
    format!("{before}{instead}{after}")
}
