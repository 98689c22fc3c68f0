//! Commands in an instance: each is sent to Morph at most once, and Morph streams its output.

use std::time::Duration;

use futures_util::{Stream, StreamExt};
use serde_json::Value;

use super::{
    Cloud,
    finish::open_environment,
    instance::{Instance, Status, find_instance, read_integer},
    refusal::MorphError,
};
use crate::{
    access::keys::Caller,
    error::{Code, Error},
    io::Io,
    sandbox::{
        channel::Channel,
        command::{self, ExecError, ExecRequest, Line, Lines, Opened, Output, limit::exit_lines},
        id::{MorphId, not_found},
    },
};

/// Time that Morph's answer may take beyond the command's own time.
const SLACK: Duration = Duration::from_secs(15);
/// Time for the first command of a machine.
const FIRST: Duration = Duration::from_secs(10);

/// Runs a command and returns its output as it comes. The command is never sent again. What Morph's call has not is
/// refused.
pub async fn open<I: Io>(
    cloud: &Cloud<'_, I>,
    caller: &Caller,
    id: &MorphId,
    request: &ExecRequest,
    key: Option<&str>,
) -> Result<Opened<impl Stream<Item = Output> + Unpin + use<I>>, Error> {
    if let Some(wish) = request.wish().or(key.map(|_| "an `Idempotency-Key` of a command")) {
        return Err(Channel::Morph.lacks(wish));
    }
    let instance = find_instance(cloud, caller, id).await?;
    ensure_running(cloud, &instance)?;
    let request = request.within(&open_environment(cloud, &instance)?);
    let deadline = cloud.now() + request.timeout() + SLACK;
    run(cloud, id, &request, deadline).await.map_err(|error| match error {
        // The instance was deleted or paused between the look at it and the command.
        ExecError::Refused { status: 404 | 410 } => not_found(id),
        ExecError::Refused { status: 409 } => not_running(&instance),
        error => exec_error(&error),
    })
}

/// Refuses a sandbox that runs no commands now.
fn ensure_running<I: Io>(cloud: &Cloud<'_, I>, instance: &Instance) -> Result<(), Error> {
    let (id, now) = (&instance.id, cloud.now());
    if instance.is_over(now) || instance.condemned().is_some() {
        return Err(not_found(id));
    }
    if instance.is_expired(now) {
        let text = format!("{id} has expired and is being paused: extend it, or resume it");
        return Err(Error::new(Code::NotRunning, text));
    }
    if instance.is_coming_up(now) {
        return Err(still_creating(id));
    }
    match instance.status {
        Status::Ready if instance.is_committed() => Ok(()),
        Status::Pending if instance.is_committed() => Err(still_creating(id)),
        _ => Err(not_running(instance)),
    }
}

/// The refusal of a sandbox that is still coming up.
pub(super) fn still_creating(id: &MorphId) -> Error {
    Error::new(Code::StillCreating, format!("{id} is still coming up; ask again")).retry_after(2)
}

/// The refusal of a sandbox whose state must be changed first.
pub(super) fn not_running(instance: &Instance) -> Error {
    let id = &instance.id;
    let text = match instance.status {
        Status::Error => format!("Morph says that {id} is broken: delete it"),
        _ if !instance.is_committed() => format!("the creation of {id} was given up: delete it"),
        _ => format!("{id} is paused: resume it first"),
    };
    Error::new(Code::NotRunning, text)
}

async fn run<I: Io>(
    cloud: &Cloud<'_, I>,
    id: &MorphId,
    request: &ExecRequest,
    deadline: time::OffsetDateTime,
) -> Result<Opened<impl Stream<Item = Output> + Unpin + use<I>>, ExecError> {
    let (begun, io) = (cloud.now(), cloud.io.clone());
    let call = cloud.morph.exec(id, &request.script(Some(request.timeout())));
    let Opened { lines } = command::send_command(
        &cloud.io,
        call,
        deadline,
        "text/event-stream",
        Lines::with_parser(parse_event),
    )
    .await?;
    let allowed = request.timeout();
    let lines = lines.map(move |output| {
        let late = io.now() - begun >= allowed;
        output.map(|lines| lines.into_iter().flat_map(|it| with_time_limit(it, late)).collect())
    });
    Ok(Opened { lines: command::limit_output(lines, cloud.io.clone(), allowed) })
}

/// The lines of the answer for a line of Morph: an exit by `timeout` is told as a time limit.
fn with_time_limit(line: Line, late: bool) -> impl Iterator<Item = Line> {
    let (other, code) = match line {
        Line::Exit(code) => (None, Some(code)),
        other => (Some(other), None),
    };
    other.into_iter().chain(code.into_iter().flat_map(move |code| exit_lines(code, late)))
}

/// Runs the first command of a machine and returns its exit code; `None` while the machine runs no commands.
pub(super) async fn run_first_command<I: Io>(
    cloud: &Cloud<'_, I>,
    id: &MorphId,
    request: &ExecRequest,
) -> Option<i32> {
    if !cloud.spend(1) {
        return None;
    }
    let deadline = (cloud.now() + FIRST).min(cloud.end());
    let opened = run(cloud, id, request, deadline).await.ok()?;
    command::collect_output(opened, 1024).await.ok().map(|it| it.exit_code)
}

/// Parses a line of Morph's stream. A stream that ends without an exit code counts as cut; Morph's SDK counts it as a
/// success.
fn parse_event(line: &[u8]) -> Option<Line> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let event: Value = serde_json::from_slice(line.strip_prefix(b"data: ")?).ok()?;
    let content = event.get("content")?;
    match event.get("type")?.as_str()? {
        "stdout" => Some(Line::Stdout(content.as_str()?.to_owned())),
        "stderr" => Some(Line::Stderr(content.as_str()?.to_owned())),
        "exit_code" => Some(Line::Exit(read_integer(content)?.try_into().ok()?)),
        _ => None,
    }
}

/// The API's error for an error of a command; it says whether the command may have run.
pub fn exec_error(error: &ExecError) -> Error {
    let (code, text) = match error {
        ExecError::Unauthorized => {
            return MorphError::Refused { status: 401, detail: String::new(), after: None }.into();
        }
        ExecError::NotSent(cause) => {
            let text = format!("the command was not run: {cause}");
            return Error::new(Code::ExecUnreachable, text).retry_after(2);
        }
        ExecError::Refused { status: 429 } => {
            let text = "Morph answered 429: the command was not run; ask again";
            return Error::new(Code::MorphBusy, text).retry_after(5);
        }
        ExecError::Refused { status } if (400..500).contains(status) => {
            (Code::ExecFailed, format!("Morph refused the command with {status}; it was not run"))
        }
        ExecError::Refused { status } => (
            Code::ExecCut,
            format!("status {status} came instead of output; the command may or may not have been run"),
        ),
        ExecError::Unanswered(cause) => (
            Code::ExecCut,
            format!("{cause}; the command may or may not have been run, and is not run again by itself"),
        ),
        ExecError::Cut => return command::cut(),
    };
    Error::new(code, text)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn only_an_exit_code_is_an_end() {
        let mut lines = Lines::with_parser(parse_event);
        let text = ": ka\n\nevent: x\ndata: {\"type\":\"stdout\",\"content\":\"a\\nb\"}\r\ndata: [DONE]\ndata: {\"type\":\"exit_code\",\"content\":\"0\"}\n";
        assert_eq!(lines.push(text.as_bytes()), [Line::Stdout("a\nb".into())]);
        let text = "data: {\"type\":\"stderr\",\"content\":\"\u{fc}\"}\ndata: {\"type\":\"exit_code\",\"content\":3}\n";
        assert_eq!(lines.push(text.as_bytes()), [Line::Stderr("\u{fc}".into()), Line::Exit(3)]);
    }

    #[test]
    fn a_shell_runs_the_line_as_it_is_and_ends_it_in_time() {
        let run = |command: &str, timeout: u64| {
            let body = serde_json::json!({"command": command, "timeoutMs": timeout});
            let request = ExecRequest::parse(serde_json::from_value(body).unwrap()).unwrap();
            let output =
                Command::new("sh").args(["-c", &request.script(Some(request.timeout()))]).output().unwrap();
            (output.status.code(), String::from_utf8(output.stdout).unwrap())
        };
        assert_eq!(
            run("printf '%s' 'it'\\''s \"$HOME\" \\n'; exit 3", 5000),
            (Some(3), "it's \"$HOME\" \\n".into())
        );
        assert_eq!(run("sleep 5", 100), (Some(124), String::new()));
    }
}
