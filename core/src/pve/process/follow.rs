//! Following a process's output, whatever is cut on the way to the sandbox.

use std::time::Duration;

use futures_util::{
    Stream,
    future::{Either, select},
    stream,
};
use pve_edge_guest_protocol::Unique;
use time::OffsetDateTime;

use super::runner::{Runner, Told};
use crate::{
    daemon::CallFailure,
    error::{Code, Error},
    io::Io,
    sandbox::process::{Decoder, End, Event, Foreign},
};

/// Time for which one answer of the daemon is read; then it is asked to go on.
const FOLLOW: Duration = Duration::from_secs(3600);
/// Time without a word of the sandbox, which says every 15 s that the process is there, after which the connection counts as cut.
const SILENCE: Duration = Duration::from_secs(50);
/// Time after which a connection that is cut was a good one.
const GOOD: Duration = Duration::from_secs(30);
/// Number of cuts that are repaired one after the other without anything new in between.
const TRIES: u32 = 6;
/// Pause before the first repair; each further one is twice as long.
const PAUSE: Duration = Duration::from_millis(100);

/// The events of a process until its end. A connection that is cut is made again from the last place, so that a client
/// sees no cut; an error is one that this does not mend.
pub(super) fn follow<I: Io>(
    runner: Runner<'static, I>,
    process: Unique,
    decoder: Decoder,
    is_kept: bool,
) -> impl Stream<Item = Result<Vec<Event>, Error>> + Unpin + use<I> {
    let begun = runner.invocation().now();
    let follower = Follower { runner, process, decoder, is_kept, told: None, begun, tries: 0, end: None };
    Box::pin(stream::unfold(Some(follower), async |follower| {
        let mut follower = follower?;
        let piece = follower.next().await;
        let goes_on = piece.is_ok() && !matches!(follower.end, Some(End::Exit(_)));
        Some((piece, goes_on.then_some(follower)))
    }))
}

/// Follower of one process.
struct Follower<I: Io> {
    runner: Runner<'static, I>,
    process: Unique,
    decoder: Decoder,
    /// Whether it is found again when its end was told.
    is_kept: bool,
    told: Option<Told<I>>,
    /// When it began to tell.
    begun: OffsetDateTime,
    /// Number of cuts since the last good connection.
    tries: u32,
    end: Option<End>,
}

impl<I: Io> Follower<I> {
    /// The next events: at least one, unless the process is at its end.
    async fn next(&mut self) -> Result<Vec<Event>, Error> {
        loop {
            if self.end == Some(End::Lost) {
                return Err(lost());
            }
            let Some(told) = &mut self.told else {
                self.open().await?;
                continue;
            };
            let silence = Box::pin(self.runner.invocation().io.sleep(SILENCE));
            let Either::Left((Some(Ok((lines, _))), _)) = select(Box::pin(told.next()), silence).await else {
                self.told = None;
                self.cut().await?;
                continue;
            };
            let mut events = Vec::new();
            for heard in lines {
                let end = heard.and_then(|line| self.decoder.take(line, &mut events));
                self.end = end.map_err(|Foreign| foreign())?;
                if self.end.is_some() {
                    break;
                }
            }
            if !events.is_empty() {
                self.tries = 0;
                return Ok(events);
            }
        }
    }

    /// Asks to be told what comes after the last place.
    async fn open(&mut self) -> Result<(), Error> {
        self.begun = self.runner.invocation().now();
        let to_its_end = (self.is_kept, self.begun + FOLLOW);
        match self.runner.follow(self.process, &self.decoder, (None, None), to_its_end).await {
            Ok(told) => {
                self.told = Some(told);
                Ok(())
            }
            Err(failure) if failure.is_passing() => self.cut().await,
            Err(failure) => Err(failure.into()),
        }
    }

    /// Waits before the next try, or gives up.
    async fn cut(&mut self) -> Result<(), Error> {
        let invocation = self.runner.invocation();
        if invocation.now() - self.begun >= GOOD {
            self.tries = 0;
        }
        self.tries += 1;
        if self.tries > TRIES {
            let text = "the output was cut, and the sandbox's daemon is not reached any more: the process may run on; \
                        follow it from the last cursor";
            return Err(Error::new(Code::ExecCut, text));
        }
        invocation.io.sleep(PAUSE * (1 << (self.tries - 1))).await;
        Ok(())
    }
}

/// The error of a process whose end nobody knows.
pub(super) fn lost() -> Error {
    let text = "the process's keeper in the sandbox is gone, or the sandbox was restarted: the process may have ended, \
                and the rest of its output is lost";
    Error::new(Code::ProcessLost, text)
}

/// The error of an answer that is none of the daemon.
fn foreign() -> Error {
    Error::from(CallFailure::Foreign { status: 200 })
}
