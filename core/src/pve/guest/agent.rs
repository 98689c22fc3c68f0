//! Commands in a virtual machine: PVE hands them to the QEMU guest agent,
//! which keeps all output until the command has ended.
//!
//! Nothing of ours listens in the guest, so there is no token and no port.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE};
use futures_util::{Stream, stream};
use http::Request;
use serde_json::Value;
use time::OffsetDateTime;

use super::{Located, located::not_running, probe::Probe};
use crate::{
    error::{Code, Error},
    io::{Failure, Io, NetError, Sent, fetch},
    pve::{
        api::{self, PveError, perl},
        cluster::Cluster,
        marks::{Mark, state::is_coming_up},
    },
    sandbox::{
        channel::Channel,
        command::{self, ExecRequest, Line, Opened, limit::exit_lines},
    },
    text::{
        shell::quote,
        utf8::{Decoded, decode, replaced},
    },
};

/// How long after its time a command's end may take to be told.
const SLACK: Duration = Duration::from_secs(15);
/// The agent keeps 16 MiB of each stream; JSON makes more of them.
const ANSWER_CAP: usize = 48 << 20;
/// Time before a command is asked for first.
const FIRST_PAUSE: Duration = Duration::from_millis(150);
/// Time between two questions how a command stands, as long as requests are no matter.
const LONGEST_PAUSE: Duration = Duration::from_secs(3);
/// For one question how a command stands.
const QUESTION: Duration = Duration::from_secs(10);

/// Starts a command, once. It is never sent again: PVE's call has no way to
/// tell a second one from the first.
pub async fn open<I: Io>(
    cluster: &Cluster<'_, I>,
    found: &Located,
    request: &ExecRequest,
) -> Result<Opened<impl Stream<Item = Result<Vec<Line>, NetError>> + Unpin + use<I>>, Error> {
    let guest = found.api(cluster);
    let allowed = request.timeout();
    let begun = cluster.now();
    // The agent cannot end a command: `timeout` does, in the guest.
    let script = request.script(Some(allowed));
    let data = cluster
        .send(guest.agent_exec(&["/bin/sh", "-c", &script], None))
        .await
        .map_err(|error| not_run(cluster, &found.mark, error))?;
    let Some(pid) = data.get("pid").and_then(perl::integer) else {
        return Err(Error::new(
            Code::ExecCut,
            "PVE's answer names no process; the command may have been run",
        ));
    };
    let waiting = Waiting {
        io: cluster.io.clone(),
        question: guest.agent_exec_status(pid).request,
        begun,
        allowed,
        left: cluster.left(),
    };
    Ok(Opened { lines: Box::pin(stream::once(waiting.end())) })
}

/// Whether the agent answers. An error is one that waiting does not mend.
/// `first` is run where the disk or the environment needs it.
pub async fn probe<I: Io>(
    cluster: &Cluster<'_, I>,
    found: &Located,
    first: &ExecRequest,
) -> Result<Probe, Error> {
    match cluster.send(found.api(cluster).agent_ping()).await {
        Ok(_) if found.mark.env.is_none() => Ok(Probe::Ready(Channel::Agent)),
        Ok(_) => {
            let opened = match open(cluster, found, first).await {
                Ok(opened) => opened,
                Err(error) => return Ok(Probe::NotYet(error.detail().to_owned())),
            };
            Ok(match command::collect_output(opened, 1024).await {
                Ok(outcome) if outcome.exit_code == 0 => Probe::Ready(Channel::Agent),
                Ok(_) => Probe::Unable,
                Err(error) => Probe::NotYet(error.to_string()),
            })
        }
        Err(error) if error.is_final() || error.lacks_agent() => Err(error.into()),
        Err(error) => Ok(Probe::NotYet(error.to_string())),
    }
}

/// Bytes of input that one script of our own may have: older versions of PVE take requests of 64 KiB.
pub const INPUT: usize = 44 << 10;

/// Runs a script of our own for `sh` to its end, with these bytes as its input; its exit code and its output. It may be
/// run again.
pub async fn script<I: Io>(
    cluster: &Cluster<'_, I>,
    found: &Located,
    text: &str,
    input: &[u8],
    until: OffsetDateTime,
) -> Result<(i32, Vec<u8>), PveError> {
    let guest = found.api(cluster);
    // What PVE makes of bytes that are no text differs between versions; and nothing of this is longer in a form.
    let input = URL_SAFE.encode(input);
    let fed = format!(
        "command -v base64 >/dev/null || {{ echo 'there is no base64 in it'; exit 127; }}\ntr _- /+ | base64 -d | sh -c {}",
        quote(text)
    );
    let (text, input) = if input.is_empty() { (text, None) } else { (&*fed, Some(&*input)) };
    let data = cluster.send(guest.agent_exec(&["/bin/sh", "-c", text], input)).await?;
    let pid = data.get("pid").and_then(perl::integer);
    let pid = pid.ok_or_else(|| PveError::Shape("it names no process".into()))?;
    let mut pause = FIRST_PAUSE;
    loop {
        cluster.io.sleep(pause).await;
        match cluster.send(guest.agent_exec_status(pid)).await {
            Ok(told) if told.get("exited").is_some_and(perl::truthy) => {
                return said(&told).ok_or_else(|| PveError::Shape("it tells no exit code".into()));
            }
            Ok(_) if cluster.now() >= until => {
                return Err(PveError::Net(cut("the end of a script was not told in time")));
            }
            Ok(_) => {}
            Err(error) => return Err(error),
        }
        pause = (pause * 7 / 5).min(LONGEST_PAUSE);
    }
}

/// Exit code and output of a script of our own that has ended.
fn said(told: &Value) -> Option<(i32, Vec<u8>)> {
    let (mut code, mut output) = (None, String::new());
    for line in lines(told, false)? {
        match line {
            Line::Stdout(text) => output.push_str(&text),
            Line::Exit(exit) => code = Some(exit),
            _ => {}
        }
    }
    Some((code?, output.into_bytes()))
}

/// Why a command was not started, or that nobody knows.
fn not_run<I: Io>(cluster: &Cluster<'_, I>, mark: &Mark, error: PveError) -> Error {
    if error.is_final() || error.lacks_agent() || matches!(error, PveError::Budget) {
        return error.into();
    }
    let id = mark.id();
    if error.is_not_running() {
        // The machine's own text says so too; a young one is on its way.
        return if is_coming_up(mark, cluster.now()) {
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
        let mut pause = FIRST_PAUSE;
        loop {
            self.io.sleep(pause).await;
            let now = self.io.now();
            if now >= deadline || self.left == 0 {
                return Err(cut("the command's end was not told in time"));
            }
            self.left -= 1;
            let answer = fetch(&self.io, self.question.clone(), now + QUESTION, ANSWER_CAP).await;
            match answer.map_err(PveError::Net).and_then(|it| api::decode(&it)) {
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
            pause = (pause * 7 / 5).min(spread.max(LONGEST_PAUSE));
        }
    }
}

fn cut(why: &str) -> NetError {
    NetError { sent: Sent::Maybe, failure: Failure::Cut, detail: why.to_owned() }
}

/// What the agent says of a command that has ended.
fn lines(told: &Value, late: bool) -> Option<Vec<Line>> {
    let number = |name| told.get(name).and_then(perl::integer).and_then(|it| i32::try_from(it).ok());
    let is_cut = |name: &str| told.get(name).is_some_and(perl::truthy);
    let text = |name: &str, cut: &str| {
        let text = told.get(name).and_then(Value::as_str).filter(|it| !it.is_empty());
        text.map(|it| decoded(it, is_cut(cut)))
    };
    let code = number("exitcode").or_else(|| number("signal").map(|it| 128 + it))?;
    let mut lines = Vec::new();
    lines.extend(text("out-data", "out-truncated").map(Line::Stdout));
    lines.extend(text("err-data", "err-truncated").map(Line::Stderr));
    if is_cut("out-truncated") || is_cut("err-truncated") {
        lines.push(Line::TooLong);
    }
    lines.extend(exit_lines(code, late));
    Some(lines)
}

/// PVE sends each byte of an output as a character (qemu-server `Agent.pm`
/// `qemu_exec_status`); together they are UTF-8 again. A byte that is not becomes U+FFFD, and
/// the rest stays; a character that the agent's limit has cut is left out.
fn decoded(text: &str, is_cut: bool) -> String {
    let Some(bytes) = text.chars().map(|it| u8::try_from(it).ok()).collect::<Option<Vec<u8>>>() else {
        return text.to_owned();
    };
    let Decoded { mut text, rest, .. } = decode(&bytes);
    if !is_cut {
        text.push_str(&replaced(rest));
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn no_exit_code_is_no_success() {
        assert_eq!(lines(&json!({"exited": 1}), false), None);
        assert_eq!(lines(&json!({"exited": 1, "exitcode": "0"}), false), Some(vec![Line::Exit(0)]));
        assert_eq!(lines(&json!({"exited": true, "signal": 9}), false), Some(vec![Line::Exit(137)]));
    }

    #[test]
    fn output_is_the_text_that_the_command_printed() {
        let sent = |bytes: &[u8]| bytes.iter().map(|it| char::from(*it)).collect::<String>();
        assert_eq!(decoded(&sent("grün → 緑".as_bytes()), false), "grün → 緑");
        assert_eq!(decoded(&sent(&"grün".as_bytes()[..3]), true), "gr");
        assert_eq!(decoded(&sent(&"grün".as_bytes()[..3]), false), "gr\u{fffd}");
        assert_eq!(decoded("→", false), "→");
    }

    #[test]
    fn each_byte_that_is_no_text_is_replaced_and_the_rest_stays() {
        let sent = |bytes: &[u8]| bytes.iter().map(|it| char::from(*it)).collect::<String>();
        let mixed = [b"gr\xc3\xbcn \xff\xfe ".as_slice(), "→".as_bytes(), b" \xe2\x86 end\n"].concat();
        for is_cut in [false, true] {
            assert_eq!(decoded(&sent(&mixed), is_cut), "grün \u{fffd}\u{fffd} → \u{fffd}\u{fffd} end\n");
        }
        assert_eq!(decoded(&sent(b"\xff ok \xe2"), true), "\u{fffd} ok ");
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
