//! The answers of the page for people.

use serde_json::{Value, json};

use super::operations::Answer;

/// The front page, in one of its forms.
pub(super) fn front() -> Answer {
    Answer::new(200, "What is missing and how to set it; or the page for people, or where the API is")
        .media("text/plain", text())
        .media("text/html", text())
        .header("X-Content-Type-Options", exactly("nosniff"))
        .header("Referrer-Policy", exactly("no-referrer"))
        .header("Cross-Origin-Opener-Policy", json!({"schema": {"type": "string", "enum": ["same-origin"]}}))
        .header("Content-Security-Policy", json!({"required": true, "schema": text()}))
}

/// A part of the page.
pub(super) fn part(media: &str) -> Vec<Answer> {
    let etag = json!({"required": true, "schema": {"type": "string", "pattern": "^\"[0-9a-f]{64}\"$"}});
    let part = |answer: Answer| {
        answer.header("ETag", etag.clone()).header("X-Content-Type-Options", exactly("nosniff"))
    };
    let known = Answer::new(304, "The part is the one that If-None-Match names");
    vec![part(Answer::new(200, "The part").media(media, text())), part(known)]
}

fn text() -> Value {
    json!({"type": "string"})
}

fn exactly(value: &str) -> Value {
    json!({"required": true, "schema": {"type": "string", "enum": [value]}})
}
