//! HTTP in, HTTP out: what both adapters call.

mod action;
mod answer;
mod body;
#[cfg(feature = "contract")]
pub mod contract;
mod cors;
mod guest;
mod native;
mod openapi;
mod page;
mod prefer;
mod request;
mod routes;
mod setup;
mod visit;

use std::sync::Arc;

use futures_util::Stream;
use http::{Method, Request, Response, StatusCode};
use tracing::Instrument;

use self::{
    answer::{bodiless, located, problem, request_id, with},
    routes::Route,
    visit::Asked,
};
use crate::{
    error::{Code, Error, Fault},
    gateway::{Memory, proxy},
    io::{Io, NetError, Platform, ResponseBody, apart::apart, headers::REQUEST_ID, invocation::Invocation},
    provider::{Client, Provider},
    settings::{Apart, Problem, Settings},
};

/// Settings as text pairs, all of them: nothing that is set is taken as unset.
pub type Pairs = Vec<(String, String)>;

/// Path that an adapter has taken off a request's own, such as the stage of API Gateway: an extension of
/// the request, for the paths of answers.
#[derive(Clone, Debug, Default)]
pub struct Mount(pub String);

/// What a deployment keeps between requests: settings, or why there are none.
#[derive(Clone, Debug)]
pub struct Service {
    ready: Result<Ready, Vec<Problem>>,
    /// What is known of sandboxes that are visited.
    memory: Arc<Memory>,
    /// Settings that count also while others are wrong.
    apart: Apart,
}

#[derive(Clone, Debug)]
struct Ready {
    settings: Settings,
    client: Client,
}

impl Ready {
    /// The provider, for one request of a client that has found the API at `asked_at`.
    fn provider<I: Io>(
        &self,
        io: I,
        platform: Platform,
        seed: [u8; 32],
        asked_at: Option<String>,
    ) -> Provider<'_, I> {
        let invocation = Invocation::new(io, self.settings.provider.name(), platform, seed);
        Provider::new(invocation.asked_at(asked_at), &self.settings, &self.client)
    }
}

impl Service {
    /// Reads the settings. It never fails: neither platform can refuse to start, so while settings are wrong
    /// every request but those for the set-up is answered with 503 `misconfigured` (rule P7.1);
    /// [`Service::misconfigured`] tells a program that can.
    pub fn new(settings: &[(String, String)], platform: Platform) -> Self {
        let ready = Settings::read(settings, &platform).and_then(|settings| {
            let client = Client::new(&settings).ok_or_else(|| {
                let why = "and PVE_API_TOKEN, or MORPH_API_KEY, are needed".to_owned();
                vec![Problem::missing("PVE_API_URL", why)]
            })?;
            Ok(Ready { settings, client })
        });
        Self { ready, memory: Arc::default(), apart: Apart::read(settings) }
    }

    /// What is wrong with the settings, never their values.
    pub fn misconfigured(&self) -> &[Problem] {
        match &self.ready {
            Ok(_) => &[],
            Err(problems) => problems,
        }
    }

    /// The script that prepares PVE for this deployment, of what its settings name. It holds no secret.
    pub fn setup_script(&self) -> String {
        setup::script(&self.apart.named)
    }

    /// The script that sets up the proxy on the PVE host. It holds the proxy's keys.
    pub fn proxy_script(&self) -> Result<String, Error> {
        let ready = self.ready.as_ref().map_err(|problems| misconfigured(problems))?;
        proxy::script(&ready.settings)
    }

    /// The settings, when they are right.
    pub fn settings(&self) -> Option<&Settings> {
        self.ready.as_ref().ok().map(|it| &it.settings)
    }
}

/// Answers one request. `seed` is 32 fresh random bytes.
pub async fn handle<I: Io>(
    io: I,
    service: &Service,
    platform: Platform,
    seed: [u8; 32],
    request: Request<I::Upload>,
) -> Response<ResponseBody<impl Stream<Item = Result<Vec<u8>, NetError>> + Unpin + use<I>, I::Body>> {
    let request_id = request_id(&seed);
    let request = match visit::of(service, &platform, request) {
        Asked::Visit(visit) => {
            return apart(visit::answer(io, service, platform, seed, visit, &request_id)).await;
        }
        Asked::Api(request) => request,
    };
    let (parts, body) = request.into_parts();
    let start = io.now();
    let (method, headers) = (parts.method.clone(), parts.headers.clone());
    let base = service.apart.base_path.as_str();
    let (route, is_below) = routes::find_route_below(base, &method, parts.uri.path());
    let (body, upload) = match &route {
        Ok(route) if route.action.takes_any_body() => (Ok(Vec::new()), Some(body)),
        _ => (body::whole(&parts.headers, body).await, None),
    };
    let Mount(mut mount) = parts.extensions.get().cloned().unwrap_or_default();
    mount.push_str(if is_below { base } else { "" });
    let asked_at = request::asked_at(&parts, &mount);
    let template = route.as_ref().map_or("(none)", Route::template);
    let span = tracing::info_span!("request", id = request_id, method = method.as_str(), path = template);
    let clock = io.clone();
    let outcome = async {
        let request = Request::from_parts(parts, body?);
        if let Some(answer) = cors::preflight(&service.apart.origins, &method, &headers) {
            return Ok(answer.map(ResponseBody::Whole));
        }
        if let Some(answer) = setup::answer(service, platform.name, &route, &request, asked_at.as_deref())? {
            return Ok(answer.map(ResponseBody::Whole));
        }
        let ready = service.ready.as_ref().map_err(|problems| misconfigured(problems))?;
        apart(native::answer(ready.provider(io, platform, seed, asked_at), route, request, upload)).await
    }
    .instrument(span.clone())
    .await;
    let error = outcome.as_ref().err().cloned();
    let response = outcome.unwrap_or_else(|error| problem(&error, &request_id).map(ResponseBody::Whole));
    let response = with(located(response, &mount), REQUEST_ID, &request_id);
    let response = cors::share_answer(response, &service.apart.origins, &headers);
    let response = if method == Method::HEAD { bodiless(response) } else { response };
    let ms = (clock.now() - start).whole_milliseconds() as i64;
    span.in_scope(|| log(response.status(), ms, error.as_ref()));
    response
}

/// Logs the answer to a request.
fn log(status: StatusCode, ms: i64, error: Option<&Error>) {
    let status = status.as_u16();
    match error {
        Some(error) if error.fault() == Fault::Us => tracing::error!(status, ms, %error, "answer"),
        Some(error) if error.fault() == Fault::Pve => tracing::warn!(status, ms, %error, "answer"),
        _ => tracing::info!(status, ms, "answer"),
    }
}

/// What the platform's schedule calls: a sweep. The returned text is for the log.
pub async fn scheduled<I: Io>(io: I, service: &Service, platform: Platform, seed: [u8; 32]) -> String {
    let swept = async {
        let ready = service.ready.as_ref().map_err(|problems| misconfigured(problems))?;
        ready.provider(io, platform, seed, None).sweep(false).await
    };
    match swept.await {
        Ok(report) => serde_json::to_string(&report).unwrap_or_default(),
        Err(error) => {
            match error.fault() {
                Fault::Us => tracing::error!(%error, "the sweep failed"),
                Fault::Caller | Fault::Pve => tracing::warn!(%error, "the sweep failed"),
            }
            format!("the sweep failed: {error}")
        }
    }
}

fn misconfigured(problems: &[Problem]) -> Error {
    let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
    let text = format!("the settings are wrong: {}", problems.join("; "));
    Error::new(Code::Misconfigured, text)
}
