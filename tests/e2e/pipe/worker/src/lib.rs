//! The Worker of the pipe's tests.

#[path = "../../relay.rs"]
pub mod relay;
#[path = "../../talk.rs"]
mod talk;

use pve_edge_worker::{answer::answer, net::Net, platform, request};
use worker::{Context, Env, Request, Response, Result, event};

#[event(fetch)]
async fn fetch(request: Request, env: Env, _: Context) -> Result<Response> {
    let Some(request) = request::from_platform(&request) else {
        return Response::error("Bad Request", 400);
    };
    answer(relay::relay(Net::new(&env), platform(&env), request).await)
}
