//! pve-edge as an AWS Lambda function: a function URL, an API Gateway (REST or
//! HTTP), and a schedule, in one binary.

mod path;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::path::plain;
use lambda_http::{
    Error, Request, RequestExt, Response, request::RequestContext, run, run_with_streaming_response,
    service_fn,
};
use pve_edge_core::{
    api::{self, Pairs, Service},
    io::Platform,
};
use pve_edge_lambda::{
    http::{AnswerBody, answer, seed, whole},
    net::Transport,
};

/// What API Gateway allows, less one PVE call and an undo.
const MAX_WAIT: Duration = Duration::from_secs(20);

/// What must be left of an invocation when a wait ends.
const MARGIN: Duration = Duration::from_secs(8);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_span_list(false)
        .with_max_level(tracing::Level::INFO)
        .init();
    let function = Arc::new(Function::new(settings())?);
    let streams = function.streams;
    let handler = service_fn(move |request| {
        let function = function.clone();
        async move { function.invoke(request).await }
    });
    match streams {
        true => run_with_streaming_response(handler).await,
        false => run(handler).await,
    }
}

/// Everything that is set: core knows which names are its own.
fn settings() -> Pairs {
    let text = |value: std::ffi::OsString| value.to_string_lossy().into_owned();
    std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect()
}

/// What an execution environment keeps between invocations.
struct Function {
    transport: Transport,
    service: Service,
    /// Whether the deployment streams; an event does not tell.
    streams: bool,
}

impl Function {
    fn new(settings: Pairs) -> Result<Self, Error> {
        let streams = settings.iter().any(|(name, value)| {
            name == "EDGE_LAMBDA_STREAM" && ["1", "true", "yes", "on"].contains(&value.trim())
        });
        let service = Service::new(&settings, platform(streams, MAX_WAIT));
        let verify_pve = service.settings().is_none_or(|settings| settings.verify_tls);
        Ok(Self { transport: Transport::new(verify_pve)?, service, streams })
    }

    async fn invoke(&self, request: Request) -> Result<Response<AnswerBody>, Error> {
        let platform = platform(self.streams, longest_wait(&request));
        if matches!(request.request_context_ref(), Some(RequestContext::PassThrough)) {
            return self.scheduled(platform, request.body()).await;
        }
        Ok(answer(&self.transport, &self.service, platform, plain(request)?).await?)
    }

    /// An event that is no HTTP request: told by what the event says of itself,
    /// because a client may send any path.
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

fn platform(streams: bool, max_wait: Duration) -> Platform {
    Platform {
        name: "lambda",
        max_wait,
        requests: 200,
        parallel: 4,
        // Both streams of a command must fit the 6 MB of an answer.
        answer_bytes: 3_100_000,
        streams,
        private_network: true,
        unverified_tls: true,
    }
}

/// cargo-lambda's emulator gives a deadline in 1970, which no invocation can have.
fn longest_wait(request: &Request) -> Duration {
    let deadline = request.lambda_context_ref().map(|context| context.deadline());
    match deadline.and_then(|deadline| deadline.duration_since(SystemTime::now()).ok()) {
        Some(left) => left.saturating_sub(MARGIN).min(MAX_WAIT),
        None => MAX_WAIT,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn only_a_schedule_is_taken_without_a_request() {
        let function = Function::new(Vec::new()).expect("a function");
        for (event, taken) in [
            (json!({"source": "aws.scheduler"}), true),
            (json!({"source": "aws.events", "detail-type": "Scheduled Event"}), true),
            (json!({"source": "aws.s3"}), false),
            (json!({"path": "/events"}), false),
            (json!([]), false),
        ] {
            let request = lambda_http::request::from_str(&event.to_string()).expect("an event");
            assert_eq!(function.invoke(request).await.is_ok(), taken, "{event}");
        }
    }

    #[tokio::test]
    async fn the_infrastructure_file_names_settings_and_sends_a_schedule() {
        let lines: Vec<_> = include_str!("../template.yaml").lines().map(str::trim).collect();
        let names = lines.iter().filter_map(|line| line.split_once(": ")).map(|(name, _)| name);
        let settings =
            names.filter(|it| it.contains('_') && it.bytes().all(|it| it == b'_' || it.is_ascii_uppercase()));
        let mut count = 0;
        for name in settings {
            assert!(pve_edge_core::settings::SETTINGS.iter().any(|it| it.name == name), "{name}");
            count += 1;
        }
        assert!(count >= 7, "{count}");
        let input = lines.iter().find_map(|line| line.strip_prefix("Input: '")?.strip_suffix('\''));
        let request = lambda_http::request::from_str(input.expect("an input")).expect("an event");
        assert!(Function::new(Vec::new()).expect("a function").invoke(request).await.is_ok());
    }
}
