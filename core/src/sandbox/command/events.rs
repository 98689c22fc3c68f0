//! The output of a running command as server-sent events.

use std::{fmt::Display, pin::Pin, time::Duration};

use futures_util::{
    Stream, StreamExt,
    future::{Either, select},
    stream::{self, ReadyChunks},
};
use serde::Serialize;

use super::cut;
use crate::{
    error::Error,
    io::{Io, NetError},
    sandbox::process::{
        Event, Exit,
        event::{Message, Told},
    },
    text::sse,
};

/// Time without output after which a comment is sent: otherwise a client that has left is not noticed (rule P9.1).
const SILENCE: Duration = Duration::from_secs(15);
/// Number of pieces of output that are sent on as one, if they have come already: a daemon may send each line by itself.
const TOGETHER: usize = 64;

/// The events of a command or a process as server-sent events: last `exit`, or `error`. Events without an end become an
/// error, never a success. Dropping the stream ends the connection to the daemon; by cmux-execd and Morph, that ends the
/// command (rule P9.2).
pub fn events<I: Io, L: Stream<Item = Result<Vec<Event>, Error>> + Unpin>(
    events: L,
    io: I,
    request_id: String,
) -> impl Stream<Item = Result<Vec<u8>, NetError>> + Unpin {
    let events = events.ready_chunks(TOGETHER);
    let state = State { events, io, request_id, over: false, timed_out: false };
    Box::pin(stream::unfold(state, async |mut state| {
        let text = state.next().await?;
        Some((Ok(text.into_bytes()), state))
    }))
}

struct State<I, L: Stream> {
    events: ReadyChunks<L>,
    io: I,
    request_id: String,
    over: bool,
    timed_out: bool,
}

impl<I: Io, L: Stream<Item = Result<Vec<Event>, Error>> + Unpin> State<I, L> {
    /// The text of all events that have come, or a comment after a silence.
    async fn next(&mut self) -> Option<String> {
        let mut text = String::new();
        while text.is_empty() && !self.over {
            let silence: Pin<Box<_>> = Box::pin(self.io.sleep(SILENCE));
            let chunks = match select(self.events.next(), silence).await {
                Either::Left((chunks, _)) => chunks,
                Either::Right(_) => {
                    sse::comment(&mut text, "still running");
                    break;
                }
            };
            let Some(chunks) = chunks else {
                self.cut(&mut text, &cut());
                break;
            };
            for chunk in chunks {
                match chunk {
                    Ok(events) => events.into_iter().for_each(|event| self.tell(&mut text, event)),
                    Err(error) => self.cut(&mut text, &error),
                }
            }
        }
        (!text.is_empty()).then_some(text)
    }

    /// Ends the events because the output was cut.
    fn cut(&mut self, text: &mut String, error: &Error) {
        if !self.over {
            self.over = true;
            sse::event(text, "error", None, &error.problem(&self.request_id));
        }
    }

    /// Adds an event.
    fn tell(&mut self, text: &mut String, Event { event, told, cursor }: Event) {
        if self.over {
            return;
        }
        let place = cursor.as_ref().map(|it| it as &dyn Display);
        match told {
            Told::Message(Message { message }) => {
                self.timed_out |= message.starts_with("timeout");
                self.error(text, &message);
            }
            Told::TooLong => self.error(text, "output was too long, and some of it is left out"),
            Told::Exit(exit) => {
                self.over = true;
                let exit = Exit { timed_out: exit.timed_out || self.timed_out, ..exit };
                sse::event(text, event, place, &exit);
            }
            told => sse::event(text, event, place, &told),
        }
    }

    fn error(&self, text: &mut String, message: &str) {
        sse::event(text, "error", None, &Failed { message, request_id: &self.request_id });
    }
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

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::sandbox::command::{Line, Lines, Opened, Output, clock::Clock};

    /// Each line by itself, as a daemon sends them: `count` of them, and an end.
    fn lines(count: usize) -> impl Stream<Item = Output> + Unpin {
        let mut lines = Lines::default();
        let line = |_| b"{\"type\":\"stdout\",\"data\":\"y\"}\n".to_vec();
        let all = (0..count).map(line).chain([b"{\"type\":\"exit\",\"code\":0}\n".to_vec()]);
        stream::iter(all.map(move |it| Ok(lines.push(&it))).collect::<Vec<_>>())
    }

    fn told(lines: impl Stream<Item = Output> + Unpin, clock: &Clock) -> Vec<String> {
        let events = events(Opened { lines }.events(), clock.clone(), "the-id".into());
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
