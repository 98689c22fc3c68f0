//! Writing the standard input of a command while its output is followed.

use std::time::Duration;

use futures_util::{Stream, StreamExt, future::ready, stream};
use pve_edge_guest_protocol::{
    Unique,
    answer::{Code as Refused, Done},
    call::Operation,
    process::{Named, Stdin, StdinTaken},
};

use super::CALL;
use crate::{
    daemon::{CallFailure, Daemon},
    error::{Code, Error},
    io::Io,
    sandbox::process::Event,
};

/// Bytes that are sent at once.
const PIECE: usize = 256 << 10;
/// Pause after the daemon has taken nothing; it grows to the longest one.
const PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// Number of failures that are passed over one after the other.
const TRIES: u32 = 6;
/// Requests that are kept back: for following the output, and for ending a command that gets no input.
const RESERVE: u32 = 8;

/// Writes the bytes and closes standard input. A command may end, or close it, without reading it: then the rest is not
/// needed. The one event is an error: the command was ended, because its input could not be written.
pub(super) fn feed<I: Io>(
    daemon: Daemon<'static, I>,
    process: Unique,
    bytes: Vec<u8>,
) -> impl Stream<Item = Result<Vec<Event>, Error>> + Unpin + use<I> {
    let written = stream::once(write(daemon, process, bytes));
    Box::pin(written.filter_map(|result| ready(result.err().map(Err))))
}

async fn write<I: Io>(mut daemon: Daemon<'static, I>, process: Unique, bytes: Vec<u8>) -> Result<(), Error> {
    let (mut at, mut pause, mut tries) = (0, PAUSE, 0);
    loop {
        let rest = bytes.get(at..).unwrap_or_default();
        let piece = rest.get(..PIECE).unwrap_or(rest);
        let operation = Operation::Stdin(Stdin { process, at: at as u64, end: piece.len() == rest.len() });
        let deadline = daemon.invocation().now() + CALL;
        let taken: Result<StdinTaken, _> = match daemon.invocation().left() {
            ..=RESERVE => Err(CallFailure::Budget),
            _ => daemon.ask(&operation, piece, deadline).await,
        };
        match taken {
            Ok(taken) if taken.closed => return Ok(()),
            Ok(taken) => {
                let before = at;
                at = usize::try_from(taken.at).unwrap_or(usize::MAX).clamp(at, bytes.len());
                tries = 0;
                if at > before && before + piece.len() == at {
                    pause = PAUSE;
                    continue;
                }
            }
            Err(CallFailure::Refused(refusal))
                if matches!(
                    refusal.code,
                    Refused::StdinClosed | Refused::ProcessGone | Refused::NoSuchProcess
                ) =>
            {
                return Ok(());
            }
            Err(failure) if failure.is_passing() && tries < TRIES => tries += 1,
            Err(failure) => return Err(unwritten(daemon, process, &failure).await),
        }
        daemon.invocation().io.sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Ends a command that waits for input which cannot be written.
async fn unwritten<I: Io>(mut daemon: Daemon<'static, I>, process: Unique, failure: &CallFailure) -> Error {
    let deadline = daemon.invocation().now() + CALL;
    let forgotten: Result<Done, _> = daemon.ask(&Operation::Forget(Named { process }), &[], deadline).await;
    let end = if forgotten.is_ok() { "it was ended" } else { "it may run on until its time is over" };
    Error::new(Code::ExecCut, format!("the command's input could not be written ({failure}): {end}"))
}
