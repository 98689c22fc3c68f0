//! What AWS Lambda gives a function: settings, requests, limits, and how answers leave.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::http::AnswerBody;
use lambda_http::{Error, Request, RequestExt, Response, run, run_with_streaming_response, service_fn};
use pve_edge_core::{api::Pairs, io::Platform};

pub use crate::path::plain;

/// What API Gateway allows, less one PVE call and an undo.
pub const MAX_WAIT: Duration = Duration::from_secs(20);

/// What must be left of an invocation when a wait ends.
const MARGIN: Duration = Duration::from_secs(8);

/// Answers invocations until the environment ends.
pub async fn serve<F>(
    streams: bool,
    handler: impl Fn(Request) -> F + Send + Sync + 'static,
) -> Result<(), Error>
where
    F: Future<Output = Result<Response<AnswerBody>, Error>> + Send + 'static,
{
    let handler = Arc::new(handler);
    let service = service_fn(move |request| handler(request));
    match streams {
        true => run_with_streaming_response(service).await,
        false => run(service).await,
    }
}

/// Everything that is set: core knows which names are its own.
pub fn settings() -> Pairs {
    let text = |value: std::ffi::OsString| value.to_string_lossy().into_owned();
    std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect()
}

/// Whether answers stream: a deployment says so, since an event does not tell.
pub fn streams(settings: &Pairs) -> bool {
    settings.iter().any(|(name, value)| {
        name == "EDGE_LAMBDA_STREAM" && ["1", "true", "yes", "on"].contains(&value.trim())
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
        streams,
        upgrades: false,
        private_network: true,
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
