//! Output as server-sent events, while the command runs.

use std::{collections::VecDeque, pin::pin, time::Duration};

use futures_util::{
    Stream, StreamExt,
    future::{Either, select},
    stream,
};
use serde_json::{Value, json};

use super::{ExecError, Line, Opened, Output};
use crate::io::{Io, NetError};

/// Without a word for so long, a client that has left is not noticed.
const SILENCE: Duration = Duration::from_secs(15);

/// `stdout`, `stderr`, and last `exit` or `error`. A stream that ends without
/// an exit code is told as an error, never as success. Dropping it ends the
/// connection to the daemon, which ends the command.
pub fn events<I: Io, L: Stream<Item = Output> + Unpin>(
    opened: Opened<L>,
    io: I,
    problem: impl Fn(&ExecError) -> Value + Unpin + 'static,
) -> impl Stream<Item = Result<Vec<u8>, NetError>> + Unpin {
    let state = State { lines: opened.lines, io, ready: VecDeque::new(), over: false, timed_out: false };
    Box::pin(stream::unfold((state, problem), async |(mut state, problem)| {
        let event = state.next(&problem).await?;
        Some((Ok(event), (state, problem)))
    }))
}

struct State<I, L> {
    lines: L,
    io: I,
    ready: VecDeque<Vec<u8>>,
    over: bool,
    timed_out: bool,
}

impl<I: Io, L: Stream<Item = Output> + Unpin> State<I, L> {
    async fn next(&mut self, problem: &impl Fn(&ExecError) -> Value) -> Option<Vec<u8>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if self.over {
                return None;
            }
            let chunk = {
                let silence = pin!(self.io.sleep(SILENCE));
                match select(self.lines.next(), silence).await {
                    Either::Left((chunk, _)) => chunk,
                    Either::Right(_) => return Some(b": still running\n\n".to_vec()),
                }
            };
            match chunk {
                Some(Ok(lines)) => {
                    for line in lines {
                        self.tell(line);
                    }
                }
                Some(Err(_)) | None => {
                    self.over = true;
                    return Some(sse("error", &problem(&ExecError::Cut)));
                }
            }
        }
    }

    fn tell(&mut self, line: Line) {
        if self.over {
            return;
        }
        self.ready.push_back(match line {
            Line::Stdout(data) => sse("stdout", &json!({"data": data})),
            Line::Stderr(data) => sse("stderr", &json!({"data": data})),
            Line::Error(message) => {
                self.timed_out |= message.starts_with("timeout");
                sse("error", &json!({"message": message}))
            }
            Line::TooLong => {
                sse("error", &json!({"message": "output was too long, and some of it is left out"}))
            }
            Line::Exit(code) => {
                self.over = true;
                sse("exit", &json!({"exitCode": code, "timedOut": self.timed_out}))
            }
        });
    }
}

/// JSON has no raw newline, so one `data:` line is enough.
fn sse(event: &str, data: &Value) -> Vec<u8> {
    let data = serde_json::to_string(data).unwrap_or_default();
    format!("event: {event}\ndata: {data}\n\n").into_bytes()
}
