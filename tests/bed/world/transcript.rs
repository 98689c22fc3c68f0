//! What went over the wire, for people and expect tests; never a secret.

use std::{collections::BTreeMap, rc::Rc};

use super::{Inner, Seen, World};
use crate::sim::{
    Reply,
    execd::{Piece, Streamed},
};
use http::{Request, header};
use pve_edge_core::io::NetError;
use time::OffsetDateTime;

/// Longer bodies are cut in the transcript.
const SHOWN: usize = 800;

impl World {
    /// `> METHOD path body` and `< status body`, in the order of execution.
    /// Names of [`World::io_named`] stand in front.
    pub fn transcript(&self) -> String {
        self.inner.borrow().lines.iter().map(|line| format!("{line}\n")).collect()
    }

    /// Forgets what is written so far.
    pub fn clear_transcript(&self) {
        self.inner.borrow_mut().lines.clear();
    }

    /// All requests that were sent.
    pub fn requests(&self) -> Vec<Seen> {
        self.inner.borrow().seen.clone()
    }

    /// How often each `METHOD path template` was sent, numbers replaced.
    pub fn counts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for seen in &self.inner.borrow().seen {
            *counts.entry(format!("{} {}", seen.method, template(&seen.path))).or_default() += 1;
        }
        counts
    }

    /// Has another host answered by this closure.
    pub fn route(&self, host: &str, answer: impl Fn(&Request<Vec<u8>>) -> Result<Reply, NetError> + 'static) {
        let streamed = move |request: &Request<Vec<u8>>, _| {
            let Reply { status, headers, body, .. } = answer(request)?;
            Ok(Streamed { status, headers, pieces: vec![Piece::Bytes(body)] })
        };
        self.inner.borrow_mut().routes.push((host.into(), Rc::new(streamed)));
    }

    /// The same, by one that is told the time and answers piece by piece.
    pub fn serve(
        &self,
        host: &str,
        answer: impl Fn(&Request<Vec<u8>>, OffsetDateTime) -> Streamed + 'static,
    ) {
        let answer = move |request: &Request<Vec<u8>>, now| Ok(answer(request, now));
        self.inner.borrow_mut().routes.push((host.into(), Rc::new(answer)));
    }
}

impl Inner {
    pub(crate) fn log_request(&mut self, seen: &Seen) {
        let host = if seen.path.starts_with("/api2/") { "" } else { &seen.host };
        let space = if seen.body.is_empty() { "" } else { " " };
        let line = format!("> {} {host}{}{space}{}", seen.method, seen.path, seen.body);
        self.note(seen, &line);
    }

    pub(crate) fn log_reply(&mut self, seen: &Seen, reply: &Reply) {
        let body = clipped(&String::from_utf8_lossy(&reply.body));
        let reason = if body.is_empty() || body == "{\"data\":null}" { &reply.reason } else { "" };
        let line = format!("< {} {reason}{}{body}", reply.status, if reason.is_empty() { "" } else { " " });
        self.note(seen, line.trim_end());
    }

    pub(crate) fn log_stream(&mut self, seen: &Seen, streamed: &Streamed) {
        let mut line = format!("< {}", streamed.status);
        for piece in &streamed.pieces {
            match piece {
                Piece::Bytes(bytes) => {
                    line.push(' ');
                    line.push_str(String::from_utf8_lossy(bytes).trim_end());
                }
                Piece::Wait(wait) => line.push_str(&format!(" ({wait:?})")),
                Piece::Cut => line.push_str(" (cut)"),
            }
        }
        self.note(seen, &clipped(&line));
    }

    pub(crate) fn note(&mut self, seen: &Seen, line: &str) {
        let name = if seen.name.is_empty() { String::new() } else { format!("{} ", seen.name) };
        self.lines.push(format!("{name}{}", redacted(line)));
    }
}

/// A body as text: forms decoded, one `key=value` after the other.
pub(crate) fn readable(request: &Request<Vec<u8>>) -> String {
    let kind =
        request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let text = if kind.starts_with("application/x-www-form-urlencoded") {
        let pairs = form_urlencoded::parse(request.body());
        pairs.map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")
    } else {
        String::from_utf8_lossy(request.body()).into_owned()
    };
    redacted(&text.replace('\0', "\\0").replace('\n', "\\n"))
}

/// Runs of 64 hexadecimal digits are tokens.
fn redacted(text: &str) -> String {
    let mut out = String::new();
    let mut run = String::new();
    for c in text.chars().chain(['\n']) {
        if c.is_ascii_hexdigit() {
            run.push(c);
            continue;
        }
        out.push_str(if run.len() == 64 { "<64 hex>" } else { &run });
        run.clear();
        out.push(c);
    }
    out.pop();
    out
}

fn clipped(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{}… ({} bytes)", &text[..at], text.len()),
        None => text.into(),
    }
}

fn template(path: &str) -> String {
    let path = path.split('?').next().unwrap_or(path);
    let segments = path.split('/').map(|segment| match segment {
        number if number.parse::<u32>().is_ok() => "{vmid}",
        upid if upid.starts_with("UPID") => "{upid}",
        other => other,
    });
    segments.collect::<Vec<_>>().join("/")
}
