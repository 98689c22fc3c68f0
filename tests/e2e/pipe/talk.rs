//! Talk of the pipe's tests over a link: a request's body is a script, and its answer is what was heard.

use std::time::Duration;

use futures_util::{
    StreamExt,
    future::{Either, select},
};
use http::{
    HeaderName, Request, Uri,
    header::{AUTHORIZATION, COOKIE, SEC_WEBSOCKET_PROTOCOL},
};
use pve_edge_core::io::{Io, Link, Linked, NetError, Way, collect, fetch};

/// Header of a request whose body is a script.
pub(super) const TALK: &str = "x-talk";

/// Headers of the client's that the link's opening has, too.
const PASSED: [HeaderName; 3] = [AUTHORIZATION, COOKIE, SEC_WEBSOCKET_PROTOCOL];

/// How long an answer may take.
const LONGEST: Duration = Duration::from_secs(120);

/// Largest script, and largest answer of another server.
const CAP: usize = 1 << 10;

/// Opens a link to `upstream`, does each line of the script, and tells what was heard.
///
/// `say TEXT` and `fill LENGTH` send a message, `hear` waits for one, `glance` gives the wait up again and again, `drop`
/// drops the link, and `get PORT` asks another server on this machine.
pub(super) async fn talk<I: Io>(io: &I, upstream: Uri, request: Request<I::Upload>) -> Vec<u8> {
    let mut heard = Vec::new();
    if let Err(error) = hear(io, upstream, request, &mut heard).await {
        heard.extend(format!("failed {:?} {:?}\n", error.sent, error.failure).into_bytes());
    }
    heard
}

/// Talks until something fails.
async fn hear<I: Io>(
    io: &I,
    upstream: Uri,
    request: Request<I::Upload>,
    heard: &mut Vec<u8>,
) -> Result<(), NetError> {
    let (parts, body) = request.into_parts();
    let script = collect(body, CAP).await?;
    let mut opening = Request::new(());
    *opening.uri_mut() = upstream;
    opening.extensions_mut().insert(Way::Public);
    for name in PASSED {
        for value in parts.headers.get_all(&name) {
            opening.headers_mut().append(name.clone(), value.clone());
        }
    }
    match io.link(opening, io.now() + LONGEST).await? {
        Linked::Open(link) => {
            let mut link = Some(link);
            for step in String::from_utf8_lossy(&script).lines() {
                heard.extend(take(io, &mut link, step).await?);
            }
        }
        Linked::Refused(answer) => {
            heard.extend(format!("refused {} {}\n", answer.status, answer.reason).into_bytes());
            heard.extend(answer.body);
        }
    }
    Ok(())
}

/// Takes one step, and tells what it heard.
async fn take<I: Io>(io: &I, link: &mut Option<I::Link>, step: &str) -> Result<Vec<u8>, NetError> {
    let (word, rest) = step.split_once(' ').unwrap_or((step, ""));
    if word == "get" {
        let mut request = Request::new(Vec::new());
        *request.uri_mut() = format!("http://127.0.0.1:{rest}/").parse().unwrap_or_default();
        request.extensions_mut().insert(Way::Public);
        let answer = fetch(io, request, io.now() + LONGEST, CAP).await?;
        return Ok(format!("answer {}\n", answer.status).into_bytes());
    }
    let Some(open) = link else { return Ok(b"dropped\n".to_vec()) };
    match word {
        "say" => open.send(rest.into()).map(|()| Vec::new()),
        "fill" => open.send(filling(rest.parse().unwrap_or(0))).map(|()| Vec::new()),
        "hear" => told(open.next().await),
        "glance" => loop {
            let wait = std::pin::pin!(io.sleep(Duration::from_millis(1)));
            if let Either::Left((message, _)) = select(open.next(), wait).await {
                return told(message);
            }
        },
        "drop" => {
            *link = None;
            Ok(Vec::new())
        }
        _ => Ok(b"what?\n".to_vec()),
    }
}

/// Bytes of which neighbours are not alike.
pub(super) fn filling(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8).collect()
}

/// How a message, or the end, stands in the answer.
fn told(message: Option<Result<Vec<u8>, NetError>>) -> Result<Vec<u8>, NetError> {
    let Some(message) = message.transpose()? else { return Ok(b"end\n".to_vec()) };
    Ok([format!("message {}\n", message.len()).as_bytes(), &message, b"\n"].concat())
}
