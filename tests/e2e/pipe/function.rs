//! The Lambda function of the pipe's tests.

use std::{error::Error, sync::Arc};

use pve_edge_lambda::{
    function::{MAX_WAIT, plain, platform, serve, settings, streams},
    http::answer,
    net::Transport,
};
use pve_edge_tests::pipe::relay;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let streams = streams(&settings());
    let transport = Arc::new(Transport::new(true)?);
    serve(streams, move |request| {
        let transport = transport.clone();
        async move {
            let net = transport.net()?;
            let handler = async |request| relay(net, platform(streams, MAX_WAIT), request).await;
            Ok(answer(plain(request)?, handler).await)
        }
    })
    .await
}
