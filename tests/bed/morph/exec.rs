//! Commands in instances.

use std::{process::Command, sync::Arc};

use http::{HeaderMap, HeaderValue, header};
use serde_json::json;

use super::Morph;
use crate::sim::execd::{ExecLine, Piece, Streamed};

/// What runs the commands, by instance.
pub type Runner = Arc<dyn Fn(&str, &str) -> Vec<ExecLine> + Send + Sync>;

/// Commands are real processes.
pub fn real() -> Runner {
    Arc::new(|_, command| match Command::new("/bin/sh").args(["-c", command]).output() {
        Ok(output) => {
            let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
            let code = output.status.code().unwrap_or(137);
            vec![
                ExecLine::Stdout(text(output.stdout)),
                ExecLine::Stderr(text(output.stderr)),
                ExecLine::Exit(code),
            ]
        }
        Err(error) => vec![ExecLine::Stderr(error.to_string()), ExecLine::Exit(127)],
    })
}

impl Morph {
    /// Runs a command and tells all of it, or as it comes.
    pub(crate) fn exec(&mut self, id: &str, command: &[String], streams: bool) -> Streamed {
        let line = command.join(" ");
        *self.ran.entry((id.to_owned(), line.clone())).or_default() += 1;
        let lines = (self.runner)(id, &line);
        let kind = if streams { "text/event-stream" } else { "application/json" };
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        let pieces = if streams { events(lines) } else { whole(lines) };
        Streamed { status: 200, headers, pieces }
    }
}

fn events(lines: Vec<ExecLine>) -> Vec<Piece> {
    let event = |kind: &str, content: serde_json::Value| {
        Piece::Bytes(format!("data: {}\n\n", json!({"type": kind, "content": content})).into_bytes())
    };
    let mut pieces = vec![Piece::Bytes(b": connected\n\n".to_vec())];
    for line in lines {
        match line {
            ExecLine::Stdout(text) if text.is_empty() => {}
            ExecLine::Stderr(text) if text.is_empty() => {}
            ExecLine::Stdout(text) => pieces.push(event("stdout", text.into())),
            ExecLine::Stderr(text) | ExecLine::Error(text) => pieces.push(event("stderr", text.into())),
            ExecLine::Wait(wait) => pieces.push(Piece::Wait(wait)),
            ExecLine::Cut => return [pieces, vec![Piece::Cut]].concat(),
            ExecLine::Exit(code) => {
                pieces.push(event("exit_code", code.into()));
                pieces.push(Piece::Bytes(b"data: [DONE]\n\n".to_vec()));
            }
        }
    }
    pieces
}

fn whole(lines: Vec<ExecLine>) -> Vec<Piece> {
    let (mut out, mut err, mut code) = (String::new(), String::new(), 0);
    let mut pieces = Vec::new();
    for line in lines {
        match line {
            ExecLine::Stdout(text) => out.push_str(&text),
            ExecLine::Stderr(text) | ExecLine::Error(text) => err.push_str(&text),
            ExecLine::Exit(exit) => code = exit,
            ExecLine::Wait(wait) => pieces.push(Piece::Wait(wait)),
            ExecLine::Cut => return [pieces, vec![Piece::Cut]].concat(),
        }
    }
    let body = json!({"exit_code": code, "stdout": out, "stderr": err});
    pieces.push(Piece::Bytes(body.to_string().into_bytes()));
    pieces
}
