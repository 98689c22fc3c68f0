//! Routes about terminals of a sandbox.

use std::num::NonZeroU16;

use http::Response;

use super::processes::parameter;
use crate::{
    access::{
        keys::Caller,
        link::{LIFETIME, Link, Use},
    },
    api::{
        answer::plain,
        request::{ApiRequest, Query},
        routes::Route,
    },
    error::{Code, Error},
    io::{Io, ResponseBody, websocket},
    provider::Provider,
    sandbox::{
        process::After,
        terminal::{TerminalLink, TerminalRequest},
    },
    text::rfc3339::stamp,
};

/// Opens a terminal, and joins the client with it.
pub(super) async fn open<I: Io, E>(
    provider: &Provider<'_, I>,
    asked: &ApiRequest<'_>,
) -> Result<Response<ResponseBody<E, I::Body>>, Error> {
    // What is wrong with it is told first: it would be refused as a websocket too.
    let wanted = wanted(asked)?;
    let opening = websocket::opening(asked.request.headers(), &provider.platform)?;
    let answer = provider.open_terminal(asked.caller, asked.id(), &wanted, &opening).await?;
    Ok(websocket::joined(answer))
}

/// The terminal that a request asks for.
fn wanted(asked: &ApiRequest<'_>) -> Result<TerminalRequest, Error> {
    let refuse = |names: &[&str], fix: &str| {
        let given = names.iter().find(|name| asked.query.get(name).is_some());
        given.map_or(Ok(()), |name| Err(Error::field(*name, fix)))
    };
    match asked.query.get("process") {
        Some(process) => {
            refuse(&["cols", "rows", "user"], "is of a new shell, and cannot be given with process")?;
            let after = parameter(asked, "after", "start, end, or the cursor of an event")?;
            Ok(TerminalRequest::Process(process.parse()?, after.unwrap_or(After::Start)))
        }
        None => {
            refuse(&["after"], "is of a process, and cannot be given without it")?;
            let size = |name| parameter::<NonZeroU16>(asked, name, "1 to 65535");
            let user = asked.query.get("user").map(str::to_owned);
            TerminalRequest::shell(size("cols")?, size("rows")?, user)
        }
    }
}

/// Makes a link that opens a terminal of the sandbox, for browsers, which cannot send a key.
pub(super) async fn link<I: Io>(
    provider: &Provider<'_, I>,
    asked: &ApiRequest<'_>,
) -> Result<Response<Vec<u8>>, Error> {
    websocket::ensure_websockets(&provider.platform)?;
    // A link is made for what can be opened.
    provider.daemon(asked.caller, asked.id(), "a terminal").await?;
    let base = provider.asked_at.as_deref().and_then(|it| it.strip_prefix("http"));
    let base = base.ok_or_else(|| Error::field("Host", "the name under which this API is asked"))?;
    // The sandbox was found: its id has nothing in it that a URL would spell otherwise.
    let id = asked.id();
    let expires = (provider.now() + LIFETIME).truncate_to_second();
    let link = Link {
        sandbox: id.to_owned(),
        opens: Use::Terminal,
        caller: asked.caller.clone(),
        expires: expires.unix_timestamp(),
    };
    let token = link.token(&provider.settings().secrets);
    let url = format!("ws{base}/api/sandboxes/{id}/terminal?token={token}");
    Ok(plain(200, &TerminalLink { url, expires_at: stamp(expires) }))
}

/// The caller in whose name a link was made, if the request comes by one.
pub(super) fn caller<I: Io>(
    provider: &Provider<'_, I>,
    route: &Route,
    query: &Query,
) -> Option<Result<Caller, Error>> {
    let token = query.get("token").filter(|_| route.opens_by_link())?;
    let link = Link::of(token, &provider.settings().secrets, provider.now().unix_timestamp());
    let link = link.filter(|it| it.opens == Use::Terminal && it.sandbox == route.id);
    Some(link.map(|it| it.caller).ok_or_else(|| {
        let text =
            "the link has expired, or is of another sandbox: ask for another one with POST …/terminal/link";
        Error::new(Code::Unauthorized, text)
    }))
}
