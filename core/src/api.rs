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
mod prefer;
mod request;
mod routes;

use futures_util::Stream;
use http::{Method, Request, Response};
use tracing::Instrument;

use self::{
    answer::{bodiless, located, problem, request_id, with},
    routes::Route,
};
use crate::{
    error::{Code, Error, Fault},
    io::{Io, NetError, Platform, ResponseBody, headers::REQUEST_ID, invocation::Invocation},
    provider::{Client, Provider},
    settings::{Origins, Settings},
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
    ready: Result<Ready, Vec<String>>,
    /// Whose pages read its answers, also that the settings are wrong.
    origins: Origins,
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
    /// every request is answered with 503 `misconfigured` (rule P7.1); [`Service::misconfigured`] tells a
    /// program that can.
    pub fn new(settings: &[(String, String)], platform: Platform) -> Self {
        let ready = Settings::read(settings, &platform).and_then(|settings| {
            let client = Client::new(&settings).ok_or_else(|| {
                vec!["PVE_API_URL and PVE_API_TOKEN, or MORPH_API_KEY, are needed".to_owned()]
            })?;
            Ok(Ready { settings, client })
        });
        Self { ready, origins: Origins::read(settings) }
    }

    /// What is wrong with the settings, a line each, never their values.
    pub fn misconfigured(&self) -> &[String] {
        match &self.ready {
            Ok(_) => &[],
            Err(problems) => problems,
        }
    }

    /// The settings, when they are right.
    pub fn settings(&self) -> Option<&Settings> {
        self.ready.as_ref().ok().map(|it| &it.settings)
    }

    /// The path below which the API is, for those who use one.
    fn base_path(&self) -> &str {
        self.settings().map_or("", |it| &it.base_path)
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
    let (parts, body) = request.into_parts();
    let request_id = request_id(&seed);
    let start = io.now();
    let (method, headers) = (parts.method.clone(), parts.headers.clone());
    let base = service.base_path();
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
        if let Some(answer) = cors::preflight(&service.origins, &method, &headers) {
            return Ok(answer.map(ResponseBody::Whole));
        }
        let ready = service.ready.as_ref().map_err(|problems| misconfigured(problems))?;
        native::answer(ready.provider(io, platform, seed, asked_at), route, request, upload).await
    }
    .instrument(span.clone())
    .await;
    let error = outcome.as_ref().err().cloned();
    let response = outcome.unwrap_or_else(|error| problem(&error, &request_id).map(ResponseBody::Whole));
    let response = with(located(response, &mount), REQUEST_ID, &request_id);
    let response = cors::share_answer(response, &service.origins, &headers);
    let response = if method == Method::HEAD { bodiless(response) } else { response };
    let ms = (clock.now() - start).whole_milliseconds() as i64;
    let status = response.status().as_u16();
    span.in_scope(|| match error {
        Some(error) if error.fault() == Fault::Us => tracing::error!(status, ms, %error, "answer"),
        Some(error) if error.fault() == Fault::Pve => tracing::warn!(status, ms, %error, "answer"),
        _ => tracing::info!(status, ms, "answer"),
    });
    response
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

fn misconfigured(problems: &[String]) -> Error {
    let text = format!("the settings are wrong: {}", problems.join("; "));
    Error::new(Code::Misconfigured, text)
}
