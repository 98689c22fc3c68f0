//! What AWS Lambda gives a function: settings, requests, limits, and how answers leave.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::{
    http::{AnswerBody, answer, seed, whole},
    net::Transport,
};
use futures_util::TryFutureExt;
use http_body_util::BodyExt;
use lambda_http::{
    Error, Request, RequestExt, Response, request::RequestContext, run, run_with_streaming_response,
    service_fn,
};
use pve_edge_core::{
    api::{self, Pairs, Service},
    io::{NetError, Platform, headers::joined},
};

pub use crate::path::plain;

/// What API Gateway allows, less one PVE call and an undo.
pub const MAX_WAIT: Duration = Duration::from_secs(20);

/// What must be left of an invocation when a wait ends.
const MARGIN: Duration = Duration::from_secs(8);

/// What an execution environment keeps between invocations.
pub struct Function {
    /// Whether the deployment streams.
    pub streams: bool,
    transport: Transport,
    service: Service,
}

impl Function {
    /// The function with these settings; fails when the system has no trusted roots.
    pub fn new(settings: Pairs) -> Result<Self, Error> {
        let streams = streams(&settings);
        let service = Service::new(&settings, platform(streams, MAX_WAIT));
        let verify_pve = service.settings().is_none_or(|settings| settings.verify_tls);
        Ok(Self { transport: Transport::new(verify_pve)?, service, streams })
    }

    /// Answers one invocation.
    pub async fn invoke(&self, request: Request) -> Result<Response<AnswerBody>, Error> {
        let platform = platform(self.streams, longest_wait(&request));
        if matches!(request.request_context_ref(), Some(RequestContext::PassThrough)) {
            return self.scheduled(platform, request.body()).await;
        }
        let net = self.transport.net()?;
        let handler = async |request| api::handle(net, &self.service, platform, seed(), request).await;
        Ok(answer(plain(request)?, handler).await)
    }

    /// An event that is no HTTP request: told by what the event says of itself, because a client may send any
    /// path (rule P6.1).
    async fn scheduled(&self, platform: Platform, event: &[u8]) -> Result<Response<AnswerBody>, Error> {
        let event: serde_json::Value = serde_json::from_slice(event)?;
        if !matches!(event["source"].as_str(), Some("aws.scheduler" | "aws.events")) {
            return Err("neither an HTTP request nor a schedule (aws.scheduler, aws.events)".into());
        }
        let done = api::scheduled(self.transport.net()?, &self.service, platform, seed()).await;
        tracing::info!(result = done, "schedule");
        Ok(Response::new(whole(serde_json::to_vec(&done)?)))
    }
}

/// Answers invocations until the environment ends.
pub async fn serve<F>(
    streams: bool,
    handler: impl Fn(Request) -> F + Send + Sync + 'static,
) -> Result<(), Error>
where
    F: Future<Output = Result<Response<AnswerBody>, Error>> + Send + 'static,
{
    let handler = Arc::new(handler);
    if !streams {
        return run(service_fn(move |request| handler(request).map_ok(single))).await;
    }
    run_with_streaming_response(service_fn(move |request| Box::pin(handler(request).map_ok(streamed)))).await
}

/// The answer as lambda_runtime can stream it (rule P9.6). It writes an error into the body, as text, and ends
/// that as if it were whole (lambda_runtime `requests.rs`): so a cut answer ends the process, and the platform
/// sees the connection break off. A header that is not ASCII it writes as a list of numbers: that is left out.
fn streamed(response: Response<AnswerBody>) -> Response<AnswerBody> {
    let (mut parts, body) = single(response).into_parts();
    let all = std::mem::take(&mut parts.headers);
    for (name, value) in all.iter().filter(|(_, value)| value.to_str().is_ok()) {
        parts.headers.append(name, value.clone());
    }
    let body = body.map_err(|error| -> NetError {
        tracing::error!(%error, "an answer was cut");
        std::process::exit(1)
    });
    Response::from_parts(parts, body.boxed_unsync())
}

/// The answer with each header once: of several values a list comes to the client, or the first alone.
fn single(mut response: Response<AnswerBody>) -> Response<AnswerBody> {
    *response.headers_mut() = joined(response.headers());
    response
}

/// Everything that is set: core knows which names are its own.
pub fn settings() -> Pairs {
    let text = |value: std::ffi::OsString| value.to_string_lossy().into_owned();
    std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect()
}

/// Whether answers stream: a deployment says so, since an event does not tell.
pub fn streams(settings: &Pairs) -> bool {
    settings.iter().any(|(name, value)| {
        name == "EDGE_LAMBDA_STREAM"
            && ["1", "true", "yes", "on"].contains(&&*value.trim().to_ascii_lowercase())
    })
}

/// What an invocation may use that may wait for PVE so long.
pub fn platform(streams: bool, max_wait: Duration) -> Platform {
    Platform {
        name: "lambda",
        max_wait,
        requests: 200,
        // Both streams of a command must fit the 6 MB of an answer, and so must an upstream's answer in Base64.
        answer_bytes: 3_100_000,
        // The 6 MB of an event hold a body in Base64, its headers, and what API Gateway says of it.
        request_bytes: Some(4 << 20),
        streams,
        upgrades: false,
        private_network: true,
        in_guest_network: false,
        unverified_tls: true,
    }
}

/// How long an invocation may wait for PVE. cargo-lambda's emulator gives a deadline in 1970, which no
/// invocation can have.
pub fn longest_wait(request: &Request) -> Duration {
    let deadline = request.lambda_context_ref().map(|context| context.deadline());
    match deadline.and_then(|deadline| deadline.duration_since(SystemTime::now()).ok()) {
        Some(left) => left.saturating_sub(MARGIN).min(MAX_WAIT),
        None => MAX_WAIT,
    }
}
