//! pve-edge as an AWS Lambda function: a function URL, an API Gateway (REST or
//! HTTP), and a schedule, in one binary.

use std::sync::Arc;

use lambda_http::{Error, Request, RequestExt, Response, request::RequestContext};
use pve_edge_core::{
    api::{self, Pairs, Service},
    io::Platform,
};
use pve_edge_lambda::{
    function::{MAX_WAIT, longest_wait, plain, platform, serve, settings, streams},
    http::{AnswerBody, answer, seed, whole},
    net::Transport,
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_span_list(false)
        .with_max_level(tracing::Level::INFO)
        .init();
    let function = Arc::new(Function::new(settings())?);
    serve(function.streams, move |request| {
        let function = function.clone();
        async move { function.invoke(request).await }
    })
    .await
}

/// What an execution environment keeps between invocations.
struct Function {
    transport: Transport,
    service: Service,
    /// Whether the deployment streams.
    streams: bool,
}

impl Function {
    fn new(settings: Pairs) -> Result<Self, Error> {
        let streams = streams(&settings);
        let service = Service::new(&settings, platform(streams, MAX_WAIT));
        let verify_pve = service.settings().is_none_or(|settings| settings.verify_tls);
        Ok(Self { transport: Transport::new(verify_pve)?, service, streams })
    }

    async fn invoke(&self, request: Request) -> Result<Response<AnswerBody>, Error> {
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
