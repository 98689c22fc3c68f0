//! The time limit of a command whose output comes faster than it is read.

use std::time::Duration;

use futures_util::{Stream, StreamExt, stream};

use super::{Line, Output};
use crate::io::{Failure, Io};

/// Time after the limit for which the command's own end may still be on its way.
const GRACE: Duration = Duration::from_secs(2);

/// Ends output that still comes when the time that the command is `allowed`, from its answer on, is over: the rest waits
/// behind a reader that is too slow, and so does the daemon's message that it has ended the command. Output that stops
/// without an exit is cut. Dropping the stream ends the command.
pub(crate) fn limit_output<I: Io>(
    lines: impl Stream<Item = Output> + Unpin,
    io: I,
    allowed: Duration,
) -> impl Stream<Item = Output> + Unpin {
    let over = io.now() + allowed;
    Box::pin(stream::unfold(Some((lines, io)), move |state| async move {
        let (mut lines, io) = state?;
        let asked = io.now();
        let output = lines.next().await?;
        let now = io.now();
        let late = now >= over + GRACE;
        match output {
            Ok(found) if late && !found.iter().any(|it| matches!(it, Line::Exit(_))) => {
                Some((Ok(found.into_iter().chain(timed_out()).collect()), None))
            }
            // The reader has paused for so long that the connection's deadline has passed too.
            Err(error) if late && error.failure == Failure::Timeout && now - asked < GRACE => {
                Some((Ok(timed_out().into()), None))
            }
            output => Some((output, Some((lines, io)))),
        }
    }))
}

/// Lines by which the daemon tells that the command's time was over.
pub(crate) fn timed_out() -> [Line; 2] {
    [Line::Error("timeout: the command took longer than it was allowed".into()), Line::Exit(124)]
}

/// Lines for an exit code: those of a time limit, if the command is `late` and `timeout` has ended or killed it.
pub(crate) fn exit_lines(code: i32, late: bool) -> impl Iterator<Item = Line> {
    let is_late = late && matches!(code, 124 | 137);
    let ended = is_late.then(timed_out);
    ended.into_iter().flatten().chain((!is_late).then_some(Line::Exit(code)))
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::sandbox::command::{ExecError, Opened, clock::Clock, collect_output};

    /// The command may take 10 s; each piece comes as many seconds after it was asked for.
    fn outcome(pieces: Vec<(i64, Output)>, unread: i64) -> Result<(i32, bool, usize), ExecError> {
        let clock = Clock::default();
        let io = clock.clone();
        let pieces = stream::iter(pieces).map(move |(after, output)| {
            clock.advance(after);
            output
        });
        let read = io.clone();
        let lines = limit_output(pieces, io, Duration::from_secs(10)).inspect(move |_| read.advance(unread));
        let all = collect_output(Opened { lines }, 1 << 20).now_or_never().expect("nothing waits");
        all.map(|it| (it.exit_code, it.timed_out, it.stdout.len()))
    }

    fn line() -> Output {
        Ok(vec![Line::Stdout("y\n".into())])
    }

    #[test]
    fn output_faster_than_its_reader_ends_when_the_time_is_over() {
        let endless = || (0..1000).map(|_| (0, line())).collect::<Vec<_>>();
        // Read a piece a second: the one that is read after 12 s is the last.
        assert_eq!(outcome(endless(), 1).unwrap(), (124, true, 2 * 13));
        // The connection's time is over before the reader comes back.
        assert_eq!(outcome(vec![(0, line()), (0, Err(Clock::late()))], 20).unwrap(), (124, true, 2));
    }

    #[test]
    fn the_daemons_own_end_is_the_end() {
        let late = vec![(0, line()), (11, Ok(vec![Line::Exit(7)]))];
        assert_eq!(outcome(late, 0).unwrap(), (7, false, 2));
        let very_late = vec![(0, line()), (14, Ok(vec![Line::Stdout("z\n".into()), Line::Exit(7)]))];
        assert_eq!(outcome(very_late, 0).unwrap(), (7, false, 4));
    }

    #[test]
    fn output_that_stops_without_a_word_is_cut() {
        assert!(matches!(outcome(vec![(0, line()), (20, Err(Clock::late()))], 0), Err(ExecError::Cut)));
        assert!(matches!(outcome(vec![(0, line()), (0, Err(Clock::late()))], 0), Err(ExecError::Cut)));
        assert!(matches!(outcome(vec![(0, line())], 20), Err(ExecError::Cut)));
    }
}
