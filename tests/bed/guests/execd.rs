//! The daemon in a guest that runs commands: JSON in, JSON lines out as they come.

use std::{io, process::ExitStatus, process::Stdio, time::Duration};

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use rustix::process::Pid;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader},
    process::{Child, Command},
    sync::mpsc::{self, Sender},
    time::sleep,
};

use super::{GuestState, Guests, group};
use crate::serve::{Reply, boxed, text, whole};

/// Largest request.
const MAX_REQUEST: usize = 1 << 20;

/// Bytes from which on lines are sent, however many more are there.
const FRAME: usize = 64 << 10;

/// Output without a line end is sent in pieces of this size.
const MAX_LINE: u64 = 4 << 20;

#[derive(Deserialize)]
struct Exec {
    command: String,
    timeout_ms: Option<u64>,
}

/// Answers as the daemon of `vmid`.
pub(super) async fn answer(
    guests: &Guests,
    vmid: u32,
    guest: GuestState,
    request: Request<Incoming>,
) -> Reply {
    match (request.uri().path(), request.method()) {
        ("/healthz", _) => text(StatusCode::OK, "ok"),
        ("/exec", &Method::POST) if authorized(&guest, request.headers()) => match read(request).await {
            Ok(exec) => run(guests, vmid, &guest, exec),
            Err((status, why)) => text(status, why),
        },
        ("/exec", &Method::POST) => {
            whole(StatusCode::UNAUTHORIZED, "application/json", r#"{"error":"Unauthorized"}"#)
        }
        ("/exec", _) => text(StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n"),
        _ => text(StatusCode::NOT_FOUND, "404 page not found\n"),
    }
}

fn authorized(guest: &GuestState, headers: &HeaderMap) -> bool {
    let Some(token) = &guest.token else { return true };
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    given.is_some_and(|given| given.strip_prefix("Bearer ").unwrap_or(given) == token)
}

async fn read(request: Request<Incoming>) -> Result<Exec, (StatusCode, &'static str)> {
    let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if !content_type.is_some_and(|value| value.contains("application/json")) {
        return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, "content-type must be application/json\n"));
    }
    let body = Limited::new(request.into_body(), MAX_REQUEST).collect().await;
    let bad = |why| (StatusCode::BAD_REQUEST, why);
    let body = body.map_err(|_| bad("the body is too large, or broke off\n"))?;
    let exec: Exec = serde_json::from_slice(&body.to_bytes()).map_err(|_| bad("invalid JSON\n"))?;
    match exec.command.trim() {
        "" => Err(bad("command is required\n")),
        _ => Ok(exec),
    }
}

fn run(guests: &Guests, vmid: u32, guest: &GuestState, exec: Exec) -> Reply {
    let (lines, mut receiver) = mpsc::channel(64);
    let spawned = spawn(guests, vmid, guest, &["bash", "-c", &exec.command], Stdio::null());
    tokio::spawn(async move {
        let code = match spawned {
            Ok((child, group)) => follow(child, group, exec.timeout_ms.filter(|&ms| ms > 0), &lines).await,
            Err(error) => {
                send(&lines, json!({"type": "error", "message": error.to_string()})).await;
                127
            }
        };
        send(&lines, json!({"type": "exit", "code": code})).await;
    });
    let frames = stream::poll_fn(move |context| receiver.poll_recv(context));
    let mut reply = boxed(Response::new(StreamBody::new(frames)));
    let headers = reply.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/jsonlines"));
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    reply
}

/// Starts the command in a process group of its own.
pub(super) fn spawn(
    guests: &Guests,
    vmid: u32,
    guest: &GuestState,
    command: &[&str],
    input: Stdio,
) -> io::Result<(Child, Pid)> {
    let (program, arguments) = command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    guests.shared.reconcile();
    let mut homes = guests.shared.homes();
    let home = guests.home(&mut homes, vmid, guest)?;
    home.used = true;
    let folder = home.files.folder.path();
    // A guest has an /etc of its own.
    let own = format!("{}/etc/pve-edge", folder.display());
    let child = Command::new(program)
        .args(arguments.iter().map(|it| it.replace("/etc/pve-edge", &own)))
        .env_clear()
        .env("HOME", folder)
        .envs(guests.variables(vmid, guest, folder))
        .current_dir(folder)
        .stdin(input)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()?;
    let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    let group = group.ok_or_else(|| io::Error::other("the process is gone"))?;
    home.groups.push(group);
    Ok((child, group))
}

/// Sends the output until both pipes are closed, as the real daemon does: a
/// background process that holds one keeps the answer open. What it leaves
/// behind in an orderly way runs on; nothing survives a client that leaves.
async fn follow(mut child: Child, group: Pid, timeout_ms: Option<u64>, lines: &Lines) -> i32 {
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let work = async {
        tokio::join!(copy(stdout, "stdout", lines), copy(stderr, "stderr", lines));
        child.wait().await
    };
    let time_out = async {
        match timeout_ms {
            Some(ms) => sleep(Duration::from_millis(ms)).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        status = work => return status.map_or(1, code),
        () = time_out => {}
        () = lines.closed() => {}
    }
    group::kill(group);
    if let Some(ms) = timeout_ms {
        send(lines, json!({"type": "error", "message": format!("timeout after {ms}ms")})).await;
    }
    124
}

/// As a shell tells it.
pub(super) fn code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1)
}

type Line = Result<Frame<Bytes>, io::Error>;
type Lines = Sender<Line>;

async fn copy(pipe: Option<impl AsyncRead + Unpin>, kind: &str, lines: &Lines) {
    let Some(pipe) = pipe else { return };
    let mut pipe = BufReader::new(pipe);
    let (mut line, mut frame) = (Vec::new(), String::new());
    while let Ok(1..) = (&mut pipe).take(MAX_LINE).read_until(b'\n', &mut line).await {
        let end = line.strip_suffix(b"\n").unwrap_or(&line);
        let end = end.strip_suffix(b"\r").unwrap_or(end);
        let told = json!({"type": kind, "data": String::from_utf8_lossy(end)});
        frame.push_str(&format!("{told}\n"));
        line.clear();
        // Lines that are there already go together.
        if frame.len() >= FRAME || !pipe.buffer().contains(&b'\n') {
            let _ = lines.send(Ok(Frame::data(std::mem::take(&mut frame).into()))).await;
        }
    }
}

async fn send(lines: &Lines, line: Value) {
    // The receiver is gone when the client is; `follow` sees that.
    let _ = lines.send(Ok(Frame::data(format!("{line}\n").into()))).await;
}
