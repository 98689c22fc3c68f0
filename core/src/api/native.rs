//! The native API: what each route asks of the provider, and how that is answered.

pub(super) mod deployment;
mod files;
pub(super) mod power;
mod processes;
mod sandboxes;
mod services;
mod snapshots;
mod templates;
mod terminal;
pub(super) mod tunnel;

use futures_util::{Stream, future::Either};
use http::{HeaderMap, Response};

use self::deployment::alive;
use super::{
    action::Action,
    answer::{streamed, with},
    guest,
    openapi::openapi,
    page, prefer,
    request::{ApiRequest, Query, wants_events},
    routes::Route,
};
use crate::{
    access::keys::Caller,
    error::{Code, Error, cut},
    io::{Io, NetError, ResponseBody, apart::apart, headers::PREFERENCE_APPLIED},
    provider::Provider,
    settings::Settings,
};

/// Authenticates a request and answers it.
pub(super) async fn answer<I: Io>(
    provider: Provider<'_, I>,
    route: Result<Route, Vec<&'static str>>,
    request: http::Request<Vec<u8>>,
    upload: Option<I::Upload>,
) -> Result<
    Response<ResponseBody<impl Stream<Item = Result<Vec<u8>, NetError>> + Unpin + use<I>, I::Body>>,
    Error,
> {
    if let Some(answer) = open_to_all(&route, request.headers()) {
        return Ok(answer.map(ResponseBody::Whole));
    }
    if let Ok(route) = &route
        && let Some(answer) = guest::answer(&provider, route, &request).await?
    {
        return Ok(answer);
    }
    let query = Query::of(&request);
    let caller = caller(&provider, &route, &query, request.headers())?;
    let route = route.map_err(|methods| unmatched(&cut(request.uri().path()), &methods))?;
    query.only(route.action.parameters())?;
    let asked = ApiRequest { caller: &caller, route: &route, query: &query, request: &request };
    match (route.action, upload) {
        (Action::ExecSandbox | Action::ReadOutput, _) if wants_events(request.headers()) => {
            let events = processes::stream(&provider, &asked).await?;
            return Ok(streamed(events).map(|it| ResponseBody::Events(Either::Left(it))));
        }
        (Action::WatchFiles, _) => {
            let events = files::watch(&provider, &asked).await?;
            return Ok(streamed(events).map(|it| ResponseBody::Events(Either::Right(it))));
        }
        (Action::OpenTerminal, _) => return terminal::open(&provider, &asked).await,
        (Action::GetFile, _) => return files::get(&provider, &asked).await,
        (Action::PutFile, Some(body)) => {
            return Ok(files::put(&provider, &asked, body).await?.map(ResponseBody::Whole));
        }
        _ => {}
    }
    let applied = prefer::applied(request.headers(), &provider.platform).filter(|_| route.action.waits());
    let answer = whole(&provider, &asked).await?;
    Ok(match &applied {
        Some(applied) => with(answer, PREFERENCE_APPLIED, applied),
        None => answer,
    }
    .map(ResponseBody::Whole))
}

/// Who asks: by an API key, or by a link where that opens something.
fn caller<I: Io>(
    provider: &Provider<'_, I>,
    route: &Result<Route, Vec<&'static str>>,
    query: &Query,
    headers: &HeaderMap,
) -> Result<Caller, Error> {
    if let Some(caller) = route.as_ref().ok().and_then(|route| terminal::caller(provider, route, query)) {
        return caller;
    }
    caller_by_key(provider.settings(), headers)
}

/// Who asks, by an API key.
pub(super) fn caller_by_key(settings: &Settings, headers: &HeaderMap) -> Result<Caller, Error> {
    settings.api_keys.authenticate(headers).ok_or_else(|| {
        Error::new(Code::Unauthorized, "send an API key of this deployment: Authorization: Bearer KEY")
    })
}

/// What is answered without a key.
fn open_to_all(route: &Result<Route, Vec<&'static str>>, headers: &HeaderMap) -> Option<Response<Vec<u8>>> {
    match route.as_ref().ok()?.action {
        Action::GetHealth => Some(alive()),
        Action::GetDescription => Some(openapi()),
        Action::GetPageScript => Some(page::script(headers)),
        Action::GetPageStyle => Some(page::style(headers)),
        _ => None,
    }
}

/// Answers in one piece: one row for each action.
async fn whole<I: Io>(
    provider: &Provider<'_, I>,
    asked: &ApiRequest<'_>,
) -> Result<Response<Vec<u8>>, Error> {
    match asked.route.action {
        // They are answered before there is a caller.
        Action::GetHealth
        | Action::GetDescription
        | Action::GetFrontPage
        | Action::GetPageScript
        | Action::GetPageStyle
        | Action::GetSetupScript
        | Action::GetProxyScript
        | Action::GetInstallScript
        | Action::GetGuestProgram => Err(unmatched("", &[])),
        Action::GetSandboxHealth => deployment::health(provider).await,
        Action::GetConfig => deployment::offer(provider).await,
        Action::Sweep => deployment::sweep(provider, asked).await,
        Action::MakeTunnel => apart(tunnel::make(provider, asked)).await,
        Action::GetTunnel => apart(tunnel::get(provider, asked)).await,
        Action::DeleteTunnel => apart(tunnel::remove(provider, asked)).await,
        Action::CreateSandbox => sandboxes::create(provider, asked).await,
        Action::ListSandboxes => sandboxes::list(provider, asked).await,
        Action::GetSandbox => sandboxes::get(provider, asked).await,
        Action::PatchSandbox => sandboxes::patch(provider, asked).await,
        Action::DeleteSandbox => sandboxes::remove(provider, asked).await,
        Action::ExtendSandbox => sandboxes::extend(provider, asked).await,
        Action::ExecSandbox => processes::exec(provider, asked).await,
        Action::CreateProcess => processes::create(provider, asked).await,
        Action::ListProcesses => processes::list(provider, asked).await,
        Action::GetProcess => processes::get(provider, asked).await,
        Action::DeleteProcess => processes::remove(provider, asked).await,
        Action::ReadOutput => processes::output(provider, asked).await,
        Action::WriteStdin => processes::write_stdin(provider, asked).await,
        Action::SignalProcess => processes::signal(provider, asked).await,
        Action::ResizeProcess => processes::resize(provider, asked).await,
        Action::LinkTerminal => terminal::link(provider, asked).await,
        Action::PutService => services::put(provider, asked).await,
        Action::GetService => services::get(provider, asked).await,
        Action::DeleteService => services::remove(provider, asked).await,
        Action::LinkService => services::link(provider, asked).await,
        Action::GetMetrics => processes::metrics(provider, asked).await,
        // They are answered, or their bodies read, as the bytes come.
        Action::GetFile | Action::PutFile | Action::WatchFiles | Action::OpenTerminal => {
            Err(Error::new(Code::Internal, "a body that streams was to be answered in one piece"))
        }
        Action::DeleteFile => files::remove(provider, asked).await,
        Action::ListFiles => files::list(provider, asked).await,
        Action::MakeFolder => files::mkdir(provider, asked).await,
        Action::MoveFile => files::rename(provider, asked).await,
        Action::StartSandbox | Action::ResumeSandbox => power::start(provider, asked).await,
        Action::StopSandbox => power::stop(provider, asked).await,
        Action::RebootSandbox => power::reboot(provider, asked).await,
        Action::PauseSandbox => power::pause(provider, asked).await,
        Action::RollbackSandbox => power::rollback(provider, asked).await,
        Action::TakeSnapshot => snapshots::take(provider, asked).await,
        Action::ListKeptSnapshots => snapshots::list_kept(provider, asked).await,
        Action::DeleteKeptSnapshot => snapshots::remove_kept(provider, asked).await,
        Action::ListSnapshots => snapshots::list(provider, asked).await,
        Action::GetSnapshot => snapshots::get(provider, asked).await,
        Action::PatchSnapshot => snapshots::patch(provider, asked).await,
        Action::DeleteSnapshot => snapshots::remove(provider, asked).await,
        Action::BuildTemplate => templates::build(provider, asked).await,
        Action::GetTemplate => templates::get(provider, asked).await,
        Action::ConfirmTemplate => templates::confirm(provider, asked).await,
        Action::DeleteTemplate => templates::remove(provider, asked).await,
    }
}

fn unmatched(path: &str, methods: &[&str]) -> Error {
    if methods.is_empty() {
        Error::new(Code::UnknownPath, format!("there is nothing at {path}"))
    } else {
        let methods = methods.join(", ");
        Error::new(Code::MethodNotAllowed, format!("{path} takes {methods}")).member("allow", methods)
    }
}
