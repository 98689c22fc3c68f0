//! Changes of a folder that is watched, as server-sent events.

use std::{pin::Pin, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use futures_util::{
    Stream, StreamExt,
    future::{Either, select},
    stream,
};
use pve_edge_guest_protocol::file as protocol;
use serde::Serialize;
use serde_json::json;

use crate::{
    error::{Code, Error},
    io::{Io, NetError},
    sandbox::command::Lines,
    text::sse::{comment, event},
};

/// Time without a change after which a comment is sent: otherwise a client that has left is not noticed (rule P9.1).
const SILENCE: Duration = Duration::from_secs(15);
const STILL: &str = "still watching";

/// Change of a file or folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema), schemars(rename = "FileChange"))]
#[serde(rename_all = "camelCase")]
pub(crate) struct Changed {
    /// Path below the folder that is watched. U+FFFD stands for bytes that are not UTF-8.
    path: String,
    /// Bytes of the path in Base64, if they are not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "contract", schemars(with = "String"))]
    path_bytes: Option<String>,
    /// Whether it is a folder.
    directory: bool,
}

impl From<protocol::Changed> for Changed {
    fn from(changed: protocol::Changed) -> Self {
        let protocol::Changed { path, directory, bytes } = changed;
        Self { path, path_bytes: bytes.map(|it| STANDARD.encode(it.0)), directory }
    }
}

/// The changes in a daemon's lines, as server-sent events: first `watching`, last `gone`, or `error` where the lines are
/// cut.
pub fn events<I: Io>(
    body: I::Body,
    io: I,
    request_id: String,
) -> impl Stream<Item = Result<Vec<u8>, NetError>> + Unpin {
    // Changes that cannot be told are lost; words of a newer daemon are not.
    let mut lines = Lines::new(parse, || protocol::Change::Overflow);
    let changes = body.map(move |chunk| chunk.map(|bytes| lines.push(&bytes)));
    let watch = Watch { changes, io, request_id, over: false };
    Box::pin(stream::unfold(watch, async |mut watch| {
        let text = watch.next().await?;
        Some((Ok(text.into_bytes()), watch))
    }))
}

fn parse(line: &[u8]) -> Option<protocol::Change> {
    Some(serde_json::from_slice(line).unwrap_or(protocol::Change::Alive))
}

struct Watch<I, C> {
    changes: C,
    io: I,
    request_id: String,
    over: bool,
}

impl<I: Io, C: Stream<Item = Result<Vec<protocol::Change>, NetError>> + Unpin> Watch<I, C> {
    /// The text of the changes that come next, or a comment after a silence.
    async fn next(&mut self) -> Option<String> {
        let mut text = String::new();
        while text.is_empty() && !self.over {
            let silence: Pin<Box<_>> = Box::pin(self.io.sleep(SILENCE));
            let changes = match select(self.changes.next(), silence).await {
                Either::Left((changes, _)) => changes,
                Either::Right(_) => Some(Ok(vec![protocol::Change::Alive])),
            };
            match changes {
                Some(Ok(changes)) => changes.into_iter().for_each(|change| self.tell(&mut text, change)),
                None | Some(Err(_)) => self.cut(&mut text),
            }
        }
        (!text.is_empty()).then_some(text)
    }

    /// Ends the events because the daemon's lines were cut.
    fn cut(&mut self, text: &mut String) {
        self.over = true;
        let error = Error::new(Code::ExecCut, "the watch was cut: watch the folder again, and list it");
        event(text, "error", None, &error.problem(&self.request_id));
    }

    /// Adds the event of a change.
    fn tell(&mut self, text: &mut String, change: protocol::Change) {
        use protocol::Change;
        if self.over {
            return;
        }
        let mut changed = |name, it| event(text, name, None, &Changed::from(it));
        match change {
            Change::Created(it) => changed("created", it),
            Change::Modified(it) => changed("modified", it),
            Change::Attributes(it) => changed("attributes", it),
            Change::Removed(it) => changed("removed", it),
            Change::Watching => event(text, "watching", None, &json!({})),
            Change::Overflow => event(text, "overflow", None, &json!({})),
            Change::Alive => comment(text, STILL),
            Change::Gone => {
                self.over = true;
                event(text, "gone", None, &json!({}));
            }
        }
    }
}
