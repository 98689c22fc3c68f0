//! Events of the platform: a new instance, a request, the schedule.

use std::{cell::OnceCell, rc::Rc};

use crate::{answer::answer, log, net::Net, platform, request, settings};
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
    let Some(request) = request::from_platform(&request) else {
        return Response::error("Bad Request", 400);
    };
    let safe = request.method().is_safe();
    let work = async move { api::handle(Net::new(&env), &service, platform, seed, request).await };
    if safe {
        return answer(work.await);
    }
    // A client that leaves ends the invocation, and its futures are forgotten
    // without Drop; what is waited for gets 30 s more.
    let (done, finished) = oneshot::channel();
    ctx.wait_until(async move {
        let _ = done.send(work.await);
    });
    match finished.await {
        Ok(response) => answer(response),
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
