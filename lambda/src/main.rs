//! pve-edge as an AWS Lambda function: a function URL, an API Gateway (REST or
//! HTTP), and a schedule, in one binary.

use std::sync::Arc;

use lambda_http::Error;
use pve_edge_lambda::function::{Function, serve, settings};

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
