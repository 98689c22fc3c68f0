//! Routes about commands and processes.

use std::str::FromStr;

use futures_util::{Stream, future::Either};
use http::{HeaderName, Response, header::LOCATION};

use crate::{
    api::{
        action::Action,
        answer::{empty, plain, request_id, with},
        request::ApiRequest,
    },
    error::{Code, Error},
    io::{Io, NetError},
    provider::Provider,
    sandbox::{
        command::{ExecBody, ExecRequest, events},
        process::{After, Encoding, ProcessBody, ProcessId, ProcessRequest, SignalBody, SizeBody},
    },
};

/// Where a client of server-sent events goes on.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Server-sent events, where the platform can stream them.
pub(super) async fn stream<I: Io>(
    provider: &Provider<'_, I>,
    asked: &ApiRequest<'_>,
) -> Result<impl Stream<Item = Result<Vec<u8>, NetError>> + Unpin + use<I>, Error> {
    if !provider.platform.streams {
        return Err(Error::new(
            Code::NotAcceptable,
            "this Lambda answers in one piece: set EDGE_LAMBDA_STREAM=1 and the function URL's invoke mode \
             RESPONSE_STREAM, or ask for application/json",
        ));
    }
    let told = if asked.route.action == Action::ExecSandbox {
        let (command, key) = (command(asked)?, asked.idempotency_key()?);
        Either::Left(provider.exec_events(asked.caller, asked.id(), &command, key).await?)
    } else {
        let (after, encoding) = place(asked)?;
        let from = (&after, encoding);
        Either::Right(provider.process_events(asked.caller, asked.id(), process(asked)?, from).await?)
    };
    Ok(events(told, provider.io.clone(), request_id(&provider.seed)))
}

pub(super) async fn exec<I: Io>(
    provider: &Provider<'_, I>,
    asked: &ApiRequest<'_>,
) -> Result<Response<Vec<u8>>, Error> {
    let (command, key) = (command(asked)?, asked.idempotency_key()?);
    Ok(plain(200, &provider.exec(asked.caller, asked.id(), &command, key).await?))
}

pub(super) async fn create<I: Io>(
    provider: &Provider<'_, I>,
    asked: &ApiRequest<'_>,
) -> Result<Response<Vec<u8>>, Error> {
    let (request, key) = (ProcessRequest::parse(asked.json::<ProcessBody>()?)?, asked.idempotency_key()?);
    let started = provider.start_process(asked.caller, asked.id(), &request, key).await?;
    let place = format!("/api/sandboxes/{}/processes/{}", asked.id(), started.process);
    Ok(with(plain(201, &started), LOCATION, &place))
}

pub(super) async fn list<I: Io>(
    provider: &Provider<'_, I>,
    asked: &ApiRequest<'_>,
) -> Result<Response<Vec<u8>>, Error> {
    Ok(plain(200, &provider.list_processes(asked.caller, asked.id(), asked.query.get("tag")).await?))
}

pub(super) async fn get<I: Io>(
    provider: &Provider<'_, I>,
    asked: &ApiRequest<'_>,
) -> Result<Response<Vec<u8>>, Error> {
    Ok(plain(200, &provider.get_process(asked.caller, asked.id(), process(asked)?).await?))
}

pub(super) async fn remove<I: Io>(
    provider: &Provider<'_, I>,
    asked: &ApiRequest<'_>,
) -> Result<Response<Vec<u8>>, Error> {
    provider.remove_process(asked.caller, asked.id(), process(asked)?).await?;
    Ok(empty())
}

pub(super) async fn output<I: Io>(
    provider: &Provider<'_, I>,
    asked: &ApiRequest<'_>,
) -> Result<Response<Vec<u8>>, Error> {
    let (after, encoding) = place(asked)?;
    let (from, wait) = ((&after, encoding), asked.wait().unwrap_or_default());
    Ok(plain(200, &provider.read_output(asked.caller, asked.id(), process(asked)?, from, wait).await?))
}

pub(super) async fn write_stdin<I: Io>(
    provider: &Provider<'_, I>,
    asked: &ApiRequest<'_>,
) -> Result<Response<Vec<u8>>, Error> {
    let at: u64 = parameter(asked, "at", "how many bytes were written before: a number")?
        .ok_or_else(|| Error::field("at", "is needed: how many bytes were written before"))?;
    let end = parameter(asked, "end", "true or false")?.unwrap_or(false);
    let bytes = asked.request.body();
    let taken = provider.write_stdin(asked.caller, asked.id(), process(asked)?, (at, end), bytes).await?;
    let is_all = taken.at >= at.saturating_add(bytes.len() as u64) && taken.closed >= end;
    Ok(plain(if is_all { 200 } else { 202 }, &taken))
}

pub(super) async fn signal<I: Io>(
    provider: &Provider<'_, I>,
    asked: &ApiRequest<'_>,
) -> Result<Response<Vec<u8>>, Error> {
    let signal = asked.json::<SignalBody>()?.parse()?;
    Ok(plain(200, &provider.signal_process(asked.caller, asked.id(), process(asked)?, signal).await?))
}

pub(super) async fn resize<I: Io>(
    provider: &Provider<'_, I>,
    asked: &ApiRequest<'_>,
) -> Result<Response<Vec<u8>>, Error> {
    let size = asked.json::<SizeBody>()?.parse("")?;
    Ok(plain(200, &provider.resize_process(asked.caller, asked.id(), process(asked)?, size).await?))
}

pub(super) async fn metrics<I: Io>(
    provider: &Provider<'_, I>,
    asked: &ApiRequest<'_>,
) -> Result<Response<Vec<u8>>, Error> {
    Ok(plain(200, &provider.metrics(asked.caller, asked.id()).await?))
}

/// The command that a request asks for.
fn command(asked: &ApiRequest<'_>) -> Result<ExecRequest, Error> {
    ExecRequest::parse(asked.json::<ExecBody>()?)
}

/// The process that the path names.
fn process(asked: &ApiRequest<'_>) -> Result<ProcessId, Error> {
    asked.route.part.parse()
}

/// Where output is to begin, and its form: a client that goes on has the place in a header.
fn place(asked: &ApiRequest<'_>) -> Result<(After, Encoding), Error> {
    const PLACE: &str = "start, end, or the cursor of an event";
    let last = asked.request.headers().get(LAST_EVENT_ID).filter(|it| !it.is_empty());
    let after = match last {
        Some(last) => {
            let cursor = last.to_str().ok().and_then(|it| it.parse().ok()).map(After::Cursor);
            Some(cursor.ok_or_else(|| Error::field("Last-Event-ID", "must be the id of an event"))?)
        }
        None => parameter(asked, "after", PLACE)?,
    };
    Ok((after.unwrap_or(After::Start), parameter(asked, "encoding", "text or base64")?.unwrap_or_default()))
}

/// The value of a parameter of the query; `fix` says what it may be.
pub(super) fn parameter<T: FromStr>(
    asked: &ApiRequest<'_>,
    name: &str,
    fix: &str,
) -> Result<Option<T>, Error> {
    asked.query.get(name).map(|it| it.parse().map_err(|_| Error::field(name, fix))).transpose()
}
