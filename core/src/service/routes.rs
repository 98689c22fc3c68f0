//! The table of routes, and what each does.

use std::time::Duration;

use futures_util::Stream;
use http::{HeaderMap, Method, Request, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    Body,
    answer::{empty, plain, tagged, with},
    asked::{Query, idempotency_key, if_match, wait, wants_events},
    openapi::openapi,
    snapshots::snapshots,
    templates::templates,
};
use crate::{
    auth::Caller,
    change::{self, Patch},
    config,
    create::{self, CreateRequest},
    edge::Edge,
    error::{Code, Error},
    exec,
    execd::{self, ExecBody, ExecRequest},
    health,
    io::{Io, NetError},
    marks::Mark,
    place::not_found,
    power::{self, Did, Keeps},
    read,
    remove::{self, Removed},
    request::{Ttl, json as read_json},
    rollback,
    sandbox::{Sandbox, SandboxId, State},
    sweep::sweep,
};

/// How long a creation waits when nobody says.
pub(super) const CREATE_WAIT: Duration = Duration::from_secs(20);
/// How long a deletion waits when nobody says.
pub(super) const DELETE_WAIT: Duration = Duration::from_secs(10);

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// The API's description.
    OpenApi,
    /// Alive.
    Health,
    /// Provider reachable.
    SandboxHealth,
    /// What a client may ask for.
    Config,
    /// Make one.
    Create,
    /// All of them.
    List,
    /// One of them.
    Get,
    /// Change what is kept about it.
    Patch,
    /// Delete it.
    Delete,
    /// Give it more time.
    Extend,
    /// Run a command in it.
    Exec,
    /// Start it.
    Start,
    /// Stop it.
    Stop,
    /// Reboot it.
    Reboot,
    /// Pause it.
    Pause,
    /// Resume it.
    Resume,
    /// Take a snapshot of it.
    TakeSnapshot,
    /// The snapshots that it keeps.
    ListKept,
    /// Delete one of them.
    DeleteKept,
    /// Roll it back to one of them.
    Rollback,
    /// All snapshots and presets.
    ListSnapshots,
    /// One snapshot.
    GetSnapshot,
    /// Change what is kept about it.
    PatchSnapshot,
    /// Delete it.
    DeleteSnapshot,
    /// Make a template from nothing.
    BuildTemplate,
    /// One that is made so.
    GetTemplate,
    /// Say that the exec daemon is in it.
    ConfirmTemplate,
    /// Delete it.
    DeleteTemplate,
    /// Sweep.
    Sweep,
}

/// Method, path template, what it does.
pub(super) const ROUTES: [(&str, &str, Action); 29] = [
    ("GET", "/openapi.json", Action::OpenApi),
    ("GET", "/api/health", Action::Health),
    ("GET", "/api/health/sandbox", Action::SandboxHealth),
    ("GET", "/api/config/sandbox", Action::Config),
    ("POST", "/api/sandboxes", Action::Create),
    ("GET", "/api/sandboxes", Action::List),
    ("GET", "/api/sandboxes/{id}", Action::Get),
    ("PATCH", "/api/sandboxes/{id}", Action::Patch),
    ("DELETE", "/api/sandboxes/{id}", Action::Delete),
    ("POST", "/api/sandboxes/{id}/extend", Action::Extend),
    ("POST", "/api/sandboxes/{id}/exec", Action::Exec),
    ("POST", "/api/sandboxes/{id}/start", Action::Start),
    ("POST", "/api/sandboxes/{id}/stop", Action::Stop),
    ("POST", "/api/sandboxes/{id}/reboot", Action::Reboot),
    ("POST", "/api/sandboxes/{id}/pause", Action::Pause),
    ("POST", "/api/sandboxes/{id}/resume", Action::Resume),
    ("POST", "/api/sandboxes/{id}/snapshots", Action::TakeSnapshot),
    ("GET", "/api/sandboxes/{id}/snapshots", Action::ListKept),
    ("DELETE", "/api/sandboxes/{id}/snapshots/{snapshot}", Action::DeleteKept),
    ("POST", "/api/sandboxes/{id}/rollback", Action::Rollback),
    ("GET", "/api/snapshots", Action::ListSnapshots),
    ("GET", "/api/snapshots/{id}", Action::GetSnapshot),
    ("PATCH", "/api/snapshots/{id}", Action::PatchSnapshot),
    ("DELETE", "/api/snapshots/{id}", Action::DeleteSnapshot),
    ("POST", "/api/templates", Action::BuildTemplate),
    ("GET", "/api/templates/{id}", Action::GetTemplate),
    ("PATCH", "/api/templates/{id}", Action::ConfirmTemplate),
    ("DELETE", "/api/templates/{id}", Action::DeleteTemplate),
    ("POST", "/api/gc", Action::Sweep),
];

/// A row of the table that a request matches.
#[derive(Clone, Debug)]
pub(super) struct Route {
    pub(super) action: Action,
    template: &'static str,
    pub(super) id: String,
    /// Of a path that names two things.
    pub(super) snapshot: String,
}

impl Route {
    /// For logs: the path without ids.
    pub(super) fn template(&self) -> &'static str {
        self.template
    }
}

/// The route of a request, or which methods its path takes.
pub(super) fn find(method: &Method, path: &str) -> Result<Route, Vec<&'static str>> {
    let mut methods = Vec::new();
    for (verb, template, action) in ROUTES {
        let Some((id, snapshot)) = matches(template, path) else { continue };
        if verb == method.as_str() {
            return Ok(Route { action, template, id, snapshot });
        }
        methods.push(verb);
    }
    Err(methods)
}

fn matches(template: &str, path: &str) -> Option<(String, String)> {
    let (mut id, mut snapshot) = (String::new(), String::new());
    let mut actual = path.split('/');
    for wanted in template.split('/') {
        let segment = actual.next()?;
        match wanted {
            "{id}" if !segment.is_empty() => id = segment.to_owned(),
            "{snapshot}" if !segment.is_empty() => snapshot = segment.to_owned(),
            _ if wanted == segment => {}
            _ => return None,
        }
    }
    actual.next().is_none().then_some((id, snapshot))
}

/// Authenticates, then does what the route says.
pub(super) async fn answer<I: Io>(
    edge: &Edge<'_, I>,
    route: Result<Route, Vec<&'static str>>,
    request: Request<Vec<u8>>,
) -> Result<Response<Body<impl Stream<Item = Result<Vec<u8>, NetError>> + Unpin + use<I>>>, Error> {
    match &route {
        Ok(route) if route.action == Action::Health => return Ok(alive().map(Body::Whole)),
        Ok(route) if route.action == Action::OpenApi => return Ok(openapi().map(Body::Whole)),
        _ => {}
    }
    let caller = edge.settings.api_keys.authenticate(request.headers()).ok_or_else(|| {
        Error::new(Code::Unauthorized, "send an API key of this deployment: Authorization: Bearer KEY")
    })?;
    let route = route.map_err(|methods| unmatched(request.uri().path(), &methods))?;
    let query = Query::of(&request);
    if route.action == Action::Exec && wants_events(request.headers()) {
        query.only(&[])?;
        return events(edge, &caller, &route.id, &request).await.map(|it| it.map(Body::Stream));
    }
    whole(edge, &caller, &route, &query, &request).await.map(|it| it.map(Body::Whole))
}

fn alive() -> Response<Vec<u8>> {
    plain(200, &json!({"status": "ok"}))
}

fn unmatched(path: &str, methods: &[&str]) -> Error {
    if methods.is_empty() {
        Error::new(Code::UnknownPath, format!("there is nothing at {path}"))
    } else {
        let methods = methods.join(", ");
        Error::new(Code::MethodNotAllowed, format!("{path} takes {methods}")).member("allow", methods)
    }
}

async fn whole<I: Io>(
    edge: &Edge<'_, I>,
    caller: &Caller,
    route: &Route,
    query: &Query,
    request: &Request<Vec<u8>>,
) -> Result<Response<Vec<u8>>, Error> {
    if route.action != Action::List {
        query.only(&[])?;
    }
    let id = || route.id.parse::<SandboxId>().map_err(|_| not_found(&route.id));
    let (headers, body) = (request.headers(), request.body().as_slice());
    match route.action {
        Action::Health => Ok(alive()),
        Action::OpenApi => Ok(openapi()),
        Action::SandboxHealth => {
            let (healthy, report) = health::health(edge).await;
            Ok(plain(if healthy { 200 } else { 503 }, &report))
        }
        Action::Config => Ok(plain(200, &config::config(edge).await?)),
        Action::Create => create_sandbox(edge, caller, headers, read_json(headers, body)?).await,
        Action::List => Ok(plain(200, &read::list(edge, caller, &query.filter()?).await?)),
        Action::Get => {
            let deadline = edge.deadline(wait(headers)?.unwrap_or_default());
            let (sandbox, mark) = read::get(edge, caller, &id()?, deadline).await?;
            Ok(tagged(plain(200, &sandbox), mark.as_ref()))
        }
        Action::Patch => {
            let patch: Patch = read_json(headers, body)?;
            let mark = change::patch(edge, caller, &id()?, &patch, if_match(headers).as_deref()).await?;
            shown(edge, caller, &id()?, mark).await
        }
        Action::Delete => {
            let deadline = edge.deadline(wait(headers)?.unwrap_or(DELETE_WAIT));
            match remove::remove(edge, caller, &id()?, deadline).await? {
                Removed::Done => Ok(empty()),
                Removed::Working => Ok(plain(202, &json!({"id": route.id, "state": "deleting"}))),
            }
        }
        Action::Extend => {
            let extend: Extend = read_json(headers, body)?;
            let ttl = match extend.ttl_seconds {
                None => Ttl::default(edge.settings),
                Some(seconds) => Ttl::parse(seconds, edge.settings)?,
            };
            let mark = change::extend(edge, caller, &id()?, &ttl).await?;
            shown(edge, caller, &id()?, mark).await
        }
        Action::Exec => {
            let request = ExecRequest::parse(read_json::<ExecBody>(headers, body)?)?;
            let opened = exec::open(edge, caller, &id()?, &request).await?;
            let cap = edge.platform.answer_bytes;
            let outcome = execd::collect(opened, cap).await.map_err(|error| exec::failed(&error))?;
            Ok(plain(200, &outcome))
        }
        Action::Start | Action::Stop | Action::Reboot | Action::Pause | Action::Resume | Action::Rollback => {
            power(edge, caller, route.action, &id()?, headers, body).await
        }
        Action::TakeSnapshot
        | Action::ListKept
        | Action::DeleteKept
        | Action::ListSnapshots
        | Action::GetSnapshot
        | Action::PatchSnapshot
        | Action::DeleteSnapshot => snapshots(edge, caller, route, headers, body).await,
        Action::Sweep => {
            let asked: Gc = read_json(headers, body)?;
            if !caller.admin {
                return Err(Error::new(Code::Forbidden, "the sweep works for all teams: use an admin's key"));
            }
            Ok(plain(200, &sweep(edge, asked.dry_run).await?))
        }
        _ => templates(edge, caller, route, headers, body).await,
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct Gc {
    dry_run: bool,
}

async fn power<I: Io>(
    edge: &Edge<'_, I>,
    caller: &Caller,
    action: Action,
    id: &SandboxId,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Response<Vec<u8>>, Error> {
    let deadline = edge.deadline(wait(headers)?.unwrap_or(CREATE_WAIT));
    let done = match action {
        Action::Stop => power::stop(edge, caller, id, &read_json(headers, body)?, deadline).await?,
        Action::Reboot => power::reboot(edge, caller, id, &read_json(headers, body)?, deadline).await?,
        Action::Rollback => {
            rollback::rollback(edge, caller, id, &read_json(headers, body)?, deadline).await?
        }
        Action::Pause => power::pause(edge, caller, id, &read_json(headers, body)?, deadline).await?,
        _ => power::start(edge, caller, id, &read_json(headers, body)?, deadline).await?,
    };
    let (sandbox, mark) = read::get(edge, caller, id, edge.now()).await?;
    let powered = Powered { did: done.did, keeps: done.keeps, sandbox };
    Ok(tagged(plain(if done.finished { 200 } else { 202 }, &powered), mark.as_ref()))
}

/// A sandbox after a power action.
#[derive(Serialize)]
struct Powered {
    did: Did,
    #[serde(skip_serializing_if = "Option::is_none")]
    keeps: Option<Keeps>,
    #[serde(flatten)]
    sandbox: Sandbox,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct Extend {
    #[serde(deserialize_with = "crate::request::present")]
    ttl_seconds: Option<Option<u64>>,
}

async fn create_sandbox<I: Io>(
    edge: &Edge<'_, I>,
    caller: &Caller,
    headers: &HeaderMap,
    request: CreateRequest,
) -> Result<Response<Vec<u8>>, Error> {
    request.check(edge.settings)?;
    let key = idempotency_key(headers)?;
    let deadline = edge.deadline(wait(headers)?.unwrap_or(CREATE_WAIT));
    let created = create::create(edge, caller, &request, key, deadline).await?;
    let (ready, replayed) = (created.progress.ready, created.replayed);
    let mark = created.progress.mark.clone();
    let sandbox = read::progressed(edge, created.progress).await;
    let status = match (sandbox.state, ready, replayed) {
        (State::Creating, ..) => 202,
        (_, _, true) => 200,
        (_, true, _) => 201,
        // Over, or stopped by somebody, before it was up.
        _ => 202,
    };
    let place = format!("/api/sandboxes/{}", sandbox.id);
    Ok(tagged(with(plain(status, &sandbox), "location", &place), Some(&mark)))
}

/// A sandbox after a change: what was written, and what PVE says of its state.
async fn shown<I: Io>(
    edge: &Edge<'_, I>,
    caller: &Caller,
    id: &SandboxId,
    mark: Mark,
) -> Result<Response<Vec<u8>>, Error> {
    let (sandbox, _): (Sandbox, _) = read::get(edge, caller, id, edge.now()).await?;
    Ok(tagged(plain(200, &sandbox), Some(&mark)))
}

async fn events<I: Io>(
    edge: &Edge<'_, I>,
    caller: &Caller,
    id: &str,
    request: &Request<Vec<u8>>,
) -> Result<Response<impl Stream<Item = Result<Vec<u8>, NetError>> + Unpin + use<I>>, Error> {
    if !edge.platform.streams {
        return Err(Error::new(
            Code::NotAcceptable,
            "this Lambda answers in one piece: set EDGE_LAMBDA_STREAM=1 and the function URL's invoke mode \
             RESPONSE_STREAM, or ask for application/json",
        ));
    }
    let id: SandboxId = id.parse().map_err(|_| not_found(id))?;
    let wanted = ExecRequest::parse(read_json::<ExecBody>(request.headers(), request.body())?)?;
    let opened = exec::open(edge, caller, &id, &wanted).await?;
    let stream = execd::events(opened, edge.io.clone(), |error| exec::failed(error).problem(""));
    let response = with(Response::new(stream), "content-type", "text/event-stream");
    Ok(with(response, "cache-control", "no-store"))
}
