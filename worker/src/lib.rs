//! The Cloudflare Worker: hands requests and the schedule to core, and is
//! core's [`Io`](pve_edge_core::io::Io) on the platform's `fetch`.

mod answer;
mod log;
mod net;
mod request;
mod settings;

use std::{cell::OnceCell, rc::Rc, time::Duration};

use crate::{net::Net, request::Refused};
use futures_channel::oneshot;
use pve_edge_core::{
    api::{self, Service},
    io::Platform,
};
use worker::{Context, Env, Response, Result, ScheduleContext, ScheduledEvent, event, js_sys};
use worker::{wasm_bindgen::JsCast, web_sys::WorkerGlobalScope};

/// Once per instance, before any request: there are no settings yet.
#[event(start)]
fn start() {
    log::install();
}

#[event(fetch)]
async fn fetch(request: worker::Request, env: Env, ctx: Context) -> Result<Response> {
    let seed = seed()?;
    let platform = platform(&env);
    let service = service(&env, platform);
    let request = match request::read(request).await {
        Ok(request) => request,
        Err(Refused::TooLarge(headers)) => return answer::whole(service.too_large(seed, &headers)),
        Err(Refused::Broken) => return Response::error("Bad Request", 400),
    };
    let safe = request.method().is_safe();
    let work = async move { api::handle(Net::new(&env), &service, platform, seed, request).await };
    if safe {
        return answer::answer(work.await);
    }
    // A client that leaves ends the invocation, and its futures are forgotten
    // without Drop; what is waited for gets 30 s more.
    let (done, finished) = oneshot::channel();
    ctx.wait_until(async move {
        let _ = done.send(work.await);
    });
    match finished.await {
        Ok(response) => answer::answer(response),
        Err(oneshot::Canceled) => Response::error("Internal Server Error", 500),
    }
}

#[event(scheduled)]
async fn scheduled(event: ScheduledEvent, env: Env, _ctx: ScheduleContext) {
    let platform = platform(&env);
    let service = service(&env, platform);
    match seed() {
        Ok(seed) => {
            let summary = api::scheduled(Net::new(&env), &service, platform, seed).await;
            tracing::info!(cron = event.cron(), summary, "scheduled");
        }
        Err(error) => tracing::error!(%error, "no random bytes"),
    }
}

/// What one invocation may use on the free plan, with room to spare: it is cut
/// off at 50 requests, and at 6 connections that wait for an answer.
fn platform(env: &Env) -> Platform {
    let binding = net::has_binding(env);
    Platform {
        name: "workers",
        max_wait: Duration::from_secs(25),
        requests: 40,
        parallel: 4,
        answer_bytes: 4 << 20,
        streams: true,
        private_network: binding,
        unverified_tls: binding,
    }
}

/// Settings cannot change while an instance lives, so they are read once.
fn service(env: &Env, platform: Platform) -> Rc<Service> {
    thread_local! {
        static SERVICE: OnceCell<Rc<Service>> = const { OnceCell::new() };
    }
    SERVICE.with(|cell| {
        let read = || Rc::new(Service::new(&settings::pairs(env), platform));
        Rc::clone(cell.get_or_init(read))
    })
}

/// Fresh random bytes; the platform has none outside of a handler.
fn seed() -> Result<[u8; 32]> {
    let mut seed = [0; 32];
    let global: WorkerGlobalScope = js_sys::global().unchecked_into();
    global.crypto()?.get_random_values_with_u8_array(&mut seed)?;
    Ok(seed)
}
