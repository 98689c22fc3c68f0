//! What is said to PVE, in order.

mod create;
mod others;

use expect_test::Expect;

use crate::stage::prelude::*;

/// Asks, and compares what was said and what was answered.
fn check(stage: &Stage, ask: Ask, expected: Expect) -> Answer {
    let (text, answer) = said(stage, ask);
    expected.assert_eq(&text);
    answer
}

/// Asks on the newest PVE and on an older one, and tells in what the two differ: lines of the newest alone
/// begin with `-`, lines of the older alone with `+`.
fn difference(newest: &Stage, older: &Stage, ask: Ask) -> String {
    let (newest, _) = said(newest, ask.clone());
    let (older, _) = said(older, ask);
    different_lines(&newest, &older)
}

fn said(stage: &Stage, ask: Ask) -> (String, Answer) {
    stage.world.clear_transcript();
    let answer = stage.ask(ask);
    let told = told(&stage.world.transcript());
    (format!("{told}= {} {}\n", answer.status, without_services(&answer.body)), answer)
}

/// Lines that one text has and the other has not, by their longest common subsequence.
fn different_lines(before: &str, after: &str) -> String {
    let (a, b): (Vec<_>, Vec<_>) = (before.lines().collect(), after.lines().collect());
    let mut common = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            let longest = common[i + 1][j].max(common[i][j + 1]);
            common[i][j] = if a[i] == b[j] { common[i + 1][j + 1] + 1 } else { longest };
        }
    }
    let (mut i, mut j, mut lines) = (0, 0, String::new());
    while i < a.len() || j < b.len() {
        if i < a.len() && j < b.len() && a[i] == b[j] {
            (i, j) = (i + 1, j + 1);
        } else if i < a.len() && (j == b.len() || common[i + 1][j] >= common[i][j + 1]) {
            lines += &format!("-{}\n", a[i]);
            i += 1;
        } else {
            lines += &format!("+{}\n", b[j]);
            j += 1;
        }
    }
    lines
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
