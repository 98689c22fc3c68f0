//! Commands in a virtual machine: PVE hands them to the QEMU guest agent,
//! which keeps all output until the command has ended.
//!
//! Nothing of ours listens in the guest, so there is no token and no port.

use std::time::Duration;

use futures_util::{Stream, stream};
use http::Request;
use serde_json::Value;
use time::OffsetDateTime;

use crate::{
    edge::Edge,
    error::{Code, Error},
    execd::{self, ExecRequest, Line, Opened, Probe},
    io::{Failure, Io, NetError, Sent, fetch},
    marks::Mark,
    place::{Place, not_running},
    pve::{self, PveError, config::Config, perl},
    sandbox::{SandboxId, is_coming_up},
};

/// The agent cannot end a command: `timeout` does, in the guest. `$0` is the
/// command and `$1` the seconds, so that nothing has to be quoted.
pub(crate) const WRAPPER: &str = "exec timeout -k 5 \"$1\" \"$(command -v bash || command -v sh)\" -c \"$0\"";
/// How long after its time a command's end may take to be told.
const SLACK: Duration = Duration::from_secs(15);
/// The agent keeps 16 MiB of each stream; JSON makes more of them.
const ANSWER_CAP: usize = 48 << 20;
/// For one question how a command stands.
const QUESTION: Duration = Duration::from_secs(10);

/// Starts a command, once. It is never sent again: PVE's call has no way to
/// tell a second one from the first.
pub async fn open<I: Io>(
    edge: &Edge<'_, I>,
    found: &Place,
    request: &ExecRequest,
) -> Result<Opened<impl Stream<Item = Result<Vec<Line>, NetError>> + Unpin + use<I>>, Error> {
    let mark = &found.mark;
    let guest = edge.pve.guest(&found.node, mark.kind, mark.vmid);
    let allowed = request.timeout();
    let seconds = seconds(allowed);
    let begun = edge.now();
    let command = ["/bin/sh", "-c", WRAPPER, request.line(), &*seconds];
    let data = edge.send(guest.agent_exec(&command)).await.map_err(|error| not_run(edge, mark, error))?;
    let Some(pid) = data.get("pid").and_then(perl::integer) else {
        return Err(Error::new(
            Code::ExecCut,
            "PVE's answer names no process; the command may have been run",
        ));
    };
    let waiting = Waiting {
        io: edge.io.clone(),
        question: guest.agent_exec_status(pid).request,
        begun,
        allowed,
        left: edge.left(),
    };
    Ok(Opened { lines: Box::pin(stream::once(waiting.end())) })
}

/// As `timeout` takes them.
pub(crate) fn seconds(duration: Duration) -> String {
    let (whole, part) = (duration.as_secs(), duration.subsec_millis());
    if part == 0 { whole.to_string() } else { format!("{whole}.{part:03}") }
}

/// Whether the agent answers. An error is one that waiting does not mend.
/// `first` is run where the disk or the environment needs it.
pub async fn probe<I: Io>(
    edge: &Edge<'_, I>,
    node: &str,
    config: &Config,
    mark: &Mark,
    first: &ExecRequest,
) -> Result<Probe, Error> {
    match edge.send(edge.pve.guest(node, mark.kind, mark.vmid).agent_ping()).await {
        Ok(_) if mark.env.is_none() => Ok(Probe::Ready),
        Ok(_) => {
            let config = config.clone();
            let place = Place { node: node.to_owned(), config, mark: mark.clone(), committed: true };
            let Ok(opened) = open(edge, &place, first).await else { return Ok(Probe::NotYet) };
            Ok(match execd::collect(opened, 1024).await {
                Ok(outcome) if outcome.exit_code == 0 => Probe::Ready,
                Ok(_) => Probe::Unable,
                Err(_) => Probe::NotYet,
            })
        }
        Err(error) if error.is_final() || error.lacks_agent() => Err(error.into()),
        Err(_) => Ok(Probe::NotYet),
    }
}

/// Why a command was not started, or that nobody knows.
fn not_run<I: Io>(edge: &Edge<'_, I>, mark: &Mark, error: PveError) -> Error {
    if error.is_final() || error.lacks_agent() || matches!(error, PveError::Budget) {
        return error.into();
    }
    let id = SandboxId::of(mark);
    if error.is_not_running() {
        // The machine's own text says so too; a young one is on its way.
        return if is_coming_up(mark, edge.now()) {
            Error::new(Code::StillCreating, format!("{id} is still coming up; ask again")).retry_after(2)
        } else if error.is_agent_silent() {
            let text = format!("the command was not run: the guest agent of {id} does not answer");
            Error::new(Code::ExecUnreachable, text).retry_after(2)
        } else {
            not_running(mark)
        };
    }
    if error.is_never_sent() {
        return Error::new(Code::ExecUnreachable, format!("the command was not run: {error}")).retry_after(2);
    }
    let text = format!("{error}; the command may or may not have been run, and is not run again by itself");
    Error::new(Code::ExecCut, text)
}

/// A command that the agent has started.
struct Waiting<I> {
    io: I,
    question: Request<Vec<u8>>,
    begun: OffsetDateTime,
    allowed: Duration,
    /// Requests that the platform allows still.
    left: u32,
}

impl<I: Io> Waiting<I> {
    /// Asks until the command has ended. Its output is told once: an answer
    /// that is lost on the way is lost.
    async fn end(mut self) -> Result<Vec<Line>, NetError> {
        let deadline = self.begun + self.allowed + SLACK;
        let mut pause = Duration::from_millis(150);
        loop {
            self.io.sleep(pause).await;
            let now = self.io.now();
            if now >= deadline || self.left == 0 {
                return Err(cut("the command's end was not told in time"));
            }
            self.left -= 1;
            let answer = fetch(&self.io, self.question.clone(), now + QUESTION, ANSWER_CAP).await;
            match answer.map_err(PveError::Net).and_then(|it| pve::decode(&it)) {
                Ok(told) if told.get("exited").is_some_and(perl::truthy) => {
                    let late = self.io.now() - self.begun >= self.allowed;
                    return lines(&told, late).ok_or_else(|| cut("the agent tells no exit code"));
                }
                Ok(_) => {}
                Err(error) if error.is_agent_silent() || !error.is_refusal() => {}
                Err(error) => return Err(cut(&error.to_string())),
            }
            // Often at first; then so that the requests last as long as the command may.
            let rest = (deadline - self.io.now()).max(time::Duration::ZERO).unsigned_abs();
            let spread = rest / self.left.max(1);
            pause = (pause * 7 / 5).min(spread.max(Duration::from_secs(3)));
        }
    }
}

fn cut(why: &str) -> NetError {
    NetError { sent: Sent::Maybe, failure: Failure::Cut, detail: why.to_owned() }
}

/// What the agent says of a command that has ended.
fn lines(told: &Value, late: bool) -> Option<Vec<Line>> {
    let number = |name| told.get(name).and_then(perl::integer).and_then(|it| i32::try_from(it).ok());
    let text = |name: &str| told.get(name).and_then(Value::as_str).filter(|it| !it.is_empty()).map(decoded);
    let code = number("exitcode").or_else(|| number("signal").map(|it| 128 + it))?;
    let mut lines = Vec::new();
    lines.extend(text("out-data").map(Line::Stdout));
    lines.extend(text("err-data").map(Line::Stderr));
    if ["out-truncated", "err-truncated"].iter().any(|it| told.get(it).is_some_and(perl::truthy)) {
        lines.push(Line::TooLong);
    }
    lines.extend(exit(code, late));
    Some(lines)
}

/// How a command ended: as `timeout` exits when it has ended the command, or had to kill it.
pub(crate) fn exit(code: i32, late: bool) -> impl Iterator<Item = Line> {
    let timed_out = late && matches!(code, 124 | 137);
    let why = "timeout: the command took longer than it was allowed";
    let error = timed_out.then(|| Line::Error(why.into()));
    error.into_iter().chain([Line::Exit(if timed_out { 124 } else { code })])
}

/// PVE sends each byte of an output as a character (qemu-server
/// `Agent.pm` `qemu_exec_status`); together they are UTF-8 again, but for a
/// character that the agent's limit has cut.
fn decoded(text: &str) -> String {
    let Some(bytes) = text.chars().map(|it| u8::try_from(it).ok()).collect::<Option<Vec<u8>>>() else {
        return text.to_owned();
    };
    match std::str::from_utf8(&bytes) {
        Ok(whole) => whole.to_owned(),
        Err(error) if error.error_len().is_none() => {
            String::from_utf8_lossy(bytes.get(..error.valid_up_to()).unwrap_or_default()).into_owned()
        }
        Err(_) => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use serde_json::json;

    use super::*;

    #[test]
    fn the_wrapper_runs_the_line_as_it_is_and_ends_it_in_time() {
        let run = |line: &str, seconds: &str| {
            let output = Command::new("/bin/sh").args(["-c", WRAPPER, line, seconds]).output().unwrap();
            (output.status.code(), String::from_utf8(output.stdout).unwrap())
        };
        assert_eq!(
            run("echo 'a  b' \"$HOME\" >/dev/null; printf %s 'it'\\''s'; exit 3", "5"),
            (Some(3), "it's".into())
        );
        assert_eq!(run("sleep 5", "0.1"), (Some(124), String::new()));
    }

    #[test]
    fn no_exit_code_is_no_success() {
        assert_eq!(lines(&json!({"exited": 1}), false), None);
        assert_eq!(lines(&json!({"exited": 1, "exitcode": "0"}), false), Some(vec![Line::Exit(0)]));
        assert_eq!(lines(&json!({"exited": true, "signal": 9}), false), Some(vec![Line::Exit(137)]));
    }

    #[test]
    fn output_is_the_text_that_the_command_printed() {
        let sent = |bytes: &[u8]| bytes.iter().map(|it| char::from(*it)).collect::<String>();
        assert_eq!(decoded(&sent("grün → 緑".as_bytes())), "grün → 緑");
        assert_eq!(decoded(&sent(&"grün".as_bytes()[..3])), "gr");
        assert_eq!(decoded("grün"), "grün");
        assert_eq!(decoded("→"), "→");
    }

    #[test]
    fn what_was_cut_or_took_too_long_is_told() {
        let told = json!({"exited": 1, "exitcode": 124, "out-data": "x", "out-truncated": 1});
        let out = || Line::Stdout("x".into());
        assert_eq!(lines(&told, false), Some(vec![out(), Line::TooLong, Line::Exit(124)]));
        let late = lines(&told, true).unwrap();
        assert!(
            matches!(late.as_slice(), [_, Line::TooLong, Line::Error(why), Line::Exit(124)] if why.starts_with("timeout"))
        );
    }
}
