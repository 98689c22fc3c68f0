//! Server-sent events, as they come.

use std::time::Duration;

use futures_util::StreamExt;
use http::Request;
use serde_json::Value;
use tokio::time::timeout;

use super::client::{Body, Client};

/// Longer than any event may take; a command that waits for a client's next step waits longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// Events of one answer.
pub(super) struct Events {
    body: Body,
    read: String,
    bytes: Vec<u8>,
    /// Id of the last one that had any.
    pub(super) last_id: Option<String>,
}

impl Events {
    /// Asks for them.
    pub(super) async fn open(client: &Client, request: Request<Vec<u8>>) -> Self {
        let answer = client.open(request).await;
        let kind = answer.headers.get("content-type").and_then(|it| it.to_str().ok()).unwrap_or_default();
        assert_eq!((answer.status, kind), (200, "text/event-stream"));
        Self { body: answer.body, read: String::new(), bytes: Vec::new(), last_id: None }
    }

    /// The next one that is not `started`: its name and its data.
    pub(super) async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some((event, rest)) = self.read.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                self.read = rest;
                let member =
                    |name: &str| event.lines().find_map(|it| it.strip_prefix(name)).map(str::to_owned);
                self.last_id = member("id: ").or(self.last_id.take());
                match member("event: ") {
                    Some(name) if name != "started" => {
                        let data = member("data: ").expect("data");
                        return Some((name, serde_json::from_str(&data).expect("JSON")));
                    }
                    _ => continue,
                }
            }
            self.read().await?;
        }
    }

    /// Reads more; `None` at the end, which is behind a whole event.
    async fn read(&mut self) -> Option<()> {
        let chunk = timeout(PATIENCE, self.body.next()).await.expect("an event in time");
        let Some(chunk) = chunk else {
            assert_eq!((self.read.as_str(), self.bytes.len()), ("", 0), "an event is cut");
            return None;
        };
        self.bytes.extend(chunk.expect("a chunk"));
        // A character may be split.
        let valid = match std::str::from_utf8(&self.bytes) {
            Ok(all) => all.len(),
            Err(error) => error.valid_up_to(),
        };
        let bytes: Vec<u8> = self.bytes.drain(..valid).collect();
        self.read.push_str(&String::from_utf8(bytes).expect("valid so far"));
        Some(())
    }
}
