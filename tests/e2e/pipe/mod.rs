//! The pipe: requests that are sent on to an upstream, and its answers and websockets that are handed back,
//! on each platform. No route of the product does so: a handler of these tests stands in its place.

mod bodies;
mod breaks;
mod client;
mod lambda;
mod links;
mod relay;
mod talk;
mod upstream;
mod websockets;

use std::{future::Future, pin::Pin};

use self::client::Pipe;
pub use self::relay::{NoEvents, relay};
use super::{
    log::Log,
    run::{Tally, attempt},
    target::Target,
};

/// Its name in the output.
pub const NAME: &str = "pipe";

type Scenario = fn(Pipe) -> Pin<Box<dyn Future<Output = ()> + Send>>;

macro_rules! scenarios {
    ($($applies:ident: $($module:ident::$name:ident),*;)*) => {
        /// Every scenario: its name, the targets that it applies to, and itself.
        const SCENARIOS: &[(&str, fn(Target) -> bool, Scenario)] = &[$($(
            (concat!(stringify!($module), "::", stringify!($name)), $applies, |pipe| Box::pin($module::$name(pipe))),
        )*)*];
    };
}

scenarios! {
    any: bodies::requests_are_sent_on, bodies::answers_are_handed_back, breaks::a_silent_upstream_is_a_bad_gateway;
    any:
        links::messages_pass_both_ways,
        links::a_message_may_have_a_mebibyte,
        links::the_opening_has_the_headers_of_its_request,
        links::a_refusal_is_told,
        links::what_is_no_websocket_is_an_error,
        links::babble_is_an_error,
        links::the_end_says_nothing,
        links::a_wait_that_is_given_up_loses_nothing,
        links::a_message_goes_out_unawaited,
        links::a_dropped_link_ends_its_connection;
    streams: bodies::a_download_streams, breaks::an_answer_is_cut_where_the_upstreams_is;
    // Lambda's stream of an answer begins with its head as JSON.
    whole_head: bodies::an_answers_length_is_handed_on, bodies::headers_that_are_not_ascii_are_handed_on;
    both_ways:
        bodies::an_upload_streams,
        bodies::a_slow_upstream_holds_the_client_back,
        bodies::a_slow_client_holds_the_upstream_back,
        breaks::a_client_that_leaves_cuts_its_upload,
        breaks::a_client_that_leaves_ends_its_download,
        websockets::messages_pass_both_ways,
        websockets::the_clients_close_code_passes,
        websockets::the_upstreams_close_code_passes,
        websockets::a_refusal_is_an_answer,
        websockets::a_client_that_leaves_is_missed,
        websockets::an_upstream_that_dies_is_missed;
    local: breaks::a_client_that_leaves_ends_its_request;
    on_lambda: lambda::a_request_comes_whole, lambda::a_websocket_is_refused;
    whole: lambda::a_cut_answer_is_none, lambda::an_answer_is_limited;
}

fn any(_: Target) -> bool {
    true
}

fn streams(target: Target) -> bool {
    target != Target::Lambda
}

fn whole_head(target: Target) -> bool {
    target != Target::LambdaStreaming
}

fn both_ways(target: Target) -> bool {
    matches!(target, Target::Local | Target::Workerd)
}

fn local(target: Target) -> bool {
    target == Target::Local
}

fn on_lambda(target: Target) -> bool {
    !both_ways(target)
}

fn whole(target: Target) -> bool {
    target == Target::Lambda
}

/// Runs all scenarios whose name has `filter` in it, one after the other, and prints a line for each.
pub async fn run(target: Target, filter: &str) -> Tally {
    let place = format!("{} on {NAME}", target.name());
    let mut tally = Tally::default();
    let folder = match tempfile::Builder::new().prefix("pve-edge-pipe-").tempdir() {
        Ok(folder) => folder,
        Err(error) => {
            tally.tell(&place, "starts", Err(error.to_string()));
            return tally;
        }
    };
    let log = Log::new(folder.path());
    let served = match target.start_pipe(&log).await {
        Ok(served) => served,
        Err(why) => {
            tally.tell(&place, "starts", Err(why));
            return tally;
        }
    };
    let pipe = Pipe::new(&served.url);
    for (name, _, scenario) in
        SCENARIOS.iter().filter(|(name, applies, _)| name.contains(filter) && applies(target))
    {
        let (outcome, seconds) = attempt(scenario(pipe.clone())).await;
        tally.tell(&place, &format!("{name}  ({seconds:.1} s)"), outcome);
    }
    if tally.failed > 0
        && let Ok(folder) = log.keep(&format!("{}-{NAME}", target.name()))
    {
        println!("-- {place}: logs are in {}", folder.display());
    }
    tally
}
