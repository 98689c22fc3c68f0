//! The output of a running command as server-sent events.

use std::{fmt::Write, pin::Pin, time::Duration};

use futures_util::{
    Stream, StreamExt,
    future::{Either, select},
    stream::{self, ReadyChunks},
};
use serde::Serialize;

use super::{ExecError, Line, Opened, Output};
use crate::{
    error::Error,
    io::{Io, NetError},
};

/// Time without output after which a comment is sent: otherwise a client that has left is not noticed (rule P9.1).
const SILENCE: Duration = Duration::from_secs(15);
/// Number of pieces of output that are sent on as one, if they have come already: a daemon may send each line by itself.
const TOGETHER: usize = 64;

/// The events of a command: `stdout`, `stderr`, and last `exit` or `error`. Output that ends without an exit code becomes
/// an error, never a success. Dropping the stream ends the connection to the daemon, which ends the command (rule P9.2).
pub fn events<I: Io, L: Stream<Item = Output> + Unpin>(
    opened: Opened<L>,
    io: I,
    request_id: String,
    failed: fn(&ExecError) -> Error,
) -> impl Stream<Item = Result<Vec<u8>, NetError>> + Unpin {
    let lines = opened.lines.ready_chunks(TOGETHER);
    let state = State { lines, io, request_id, failed, over: false, timed_out: false };
    Box::pin(stream::unfold(state, async |mut state| {
        let event = state.next().await?;
        Some((Ok(event.into_bytes()), state))
    }))
}

struct State<I, L: Stream> {
    lines: ReadyChunks<L>,
    io: I,
    request_id: String,
    failed: fn(&ExecError) -> Error,
    over: bool,
    timed_out: bool,
}

impl<I: Io, L: Stream<Item = Output> + Unpin> State<I, L> {
    /// The events of all output that has come, or a comment after a silence.
    async fn next(&mut self) -> Option<String> {
        let mut events = String::new();
        while events.is_empty() && !self.over {
            let silence: Pin<Box<_>> = Box::pin(self.io.sleep(SILENCE));
            let chunks = match select(self.lines.next(), silence).await {
                Either::Left((chunks, _)) => chunks,
                Either::Right(_) => return Some(": still running\n\n".to_owned()),
            };
            let Some(chunks) = chunks else {
                self.cut(&mut events);
                break;
            };
            for chunk in chunks {
                match chunk {
                    Ok(lines) => lines.into_iter().for_each(|line| self.tell(&mut events, line)),
                    Err(_) => self.cut(&mut events),
                }
            }
        }
        (!events.is_empty()).then_some(events)
    }

    /// Ends the events because the output was cut.
    fn cut(&mut self, events: &mut String) {
        if !self.over {
            self.over = true;
            sse(events, "error", &(self.failed)(&ExecError::Cut).problem(&self.request_id));
        }
    }

    /// Adds the event of a line.
    fn tell(&mut self, events: &mut String, line: Line) {
        if self.over {
            return;
        }
        match line {
            Line::Stdout(data) => sse(events, "stdout", &Written { data }),
            Line::Stderr(data) => sse(events, "stderr", &Written { data }),
            Line::Error(message) => {
                self.timed_out |= message.starts_with("timeout");
                self.error(events, &message);
            }
            Line::TooLong => self.error(events, "output was too long, and some of it is left out"),
            Line::Exit(code) => {
                self.over = true;
                sse(events, "exit", &Exit { exit_code: code, timed_out: self.timed_out });
            }
        }
    }

    fn error(&self, events: &mut String, message: &str) {
        sse(events, "error", &Failed { message, request_id: &self.request_id });
    }
}

/// Output of a command.
#[derive(Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema), schemars(rename = "Output"))]
pub(crate) struct Written {
    /// A line with its newline; a VM's output comes as one text at the end.
    data: String,
}

/// Something that went wrong with a command.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema), schemars(rename = "ExecError"))]
pub(crate) struct Failed<'a> {
    /// Message of the exec daemon.
    message: &'a str,
    /// Id of the request, as in `X-Request-Id` of the answer.
    request_id: &'a str,
}

/// The end of a command.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
pub(crate) struct Exit {
    /// Exit code; 124: the command timed out; 127: it could not be started.
    exit_code: i32,
    /// Whether the command was ended because its time was over.
    timed_out: bool,
}

/// Adds an event; JSON has no raw newline, so one `data:` line is enough.
fn sse(events: &mut String, event: &str, data: &impl Serialize) {
    let data = serde_json::to_string(data).unwrap_or_default();
    let _ = write!(events, "event: {event}\ndata: {data}\n\n");
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::{
        error::Code,
        sandbox::command::{Lines, clock::Clock},
    };

    fn failed(error: &ExecError) -> Error {
        Error::new(Code::ExecCut, error.to_string())
    }

    /// Each line by itself, as a daemon sends them: `count` of them, and an end.
    fn lines(count: usize) -> impl Stream<Item = Output> + Unpin {
        let mut lines = Lines::default();
        let line = |_| b"{\"type\":\"stdout\",\"data\":\"y\"}\n".to_vec();
        let all = (0..count).map(line).chain([b"{\"type\":\"exit\",\"code\":0}\n".to_vec()]);
        stream::iter(all.map(move |it| Ok(lines.push(&it))).collect::<Vec<_>>())
    }

    fn told(lines: impl Stream<Item = Output> + Unpin, clock: &Clock) -> Vec<String> {
        let events = events(Opened { lines }, clock.clone(), "the-id".into(), failed);
        let all: Vec<_> = events.collect().now_or_never().expect("nothing waits");
        all.into_iter().map(|it| String::from_utf8(it.unwrap()).unwrap()).collect()
    }

    /// What each line costs is its own text: timers and writes are for many of them together.
    #[test]
    fn lines_that_are_there_already_are_sent_on_together() {
        for count in [10_000, 40_000] {
            let clock = Clock::default();
            let pieces = told(lines(count), &clock);
            let most = count / TOGETHER + 2;
            assert!(pieces.len() <= most, "{} writes of {count} lines", pieces.len());
            assert!(clock.sleeps() <= most, "{} timers for {count} lines", clock.sleeps());
            let all = pieces.concat();
            assert_eq!(all.matches("event: stdout\ndata: {\"data\":\"y\\n\"}\n\n").count(), count);
            assert!(all.ends_with("event: exit\ndata: {\"exitCode\":0,\"timedOut\":false}\n\n"), "{count}");
        }
    }

    #[test]
    fn every_error_carries_the_requests_id() {
        let cut = [Ok(vec![Line::Error("timeout".into()), Line::TooLong]), Err(Clock::late())];
        let all = told(stream::iter(cut), &Clock::default()).concat();
        let errors: Vec<_> = all.split("event: error\n").skip(1).collect();
        assert_eq!(errors.len(), 3, "{all}");
        assert!(errors.iter().all(|it| it.contains("\"requestId\":\"the-id\"")), "{all}");
        assert!(errors[2].contains("exec-cut") && !all.contains("event: exit"), "{all}");
    }

    #[test]
    fn what_comes_after_the_end_is_not_told() {
        let ended = [Ok(vec![Line::Exit(3), Line::Stdout("x".into())]), Err(Clock::late())];
        let all = told(stream::iter(ended), &Clock::default()).concat();
        assert_eq!(all, "event: exit\ndata: {\"exitCode\":3,\"timedOut\":false}\n\n");
    }
}
