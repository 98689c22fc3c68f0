//! The quick part of the end-to-end suite: the local server before the
//! simulator, in this process. `tests/e2e/run` runs all of it.

mod edge;

use std::{path::Path, sync::Arc, time::Duration};

use http::{HeaderMap, Request};
use pve_edge_bed::serve::{Api, serve};
use pve_edge_core::io::{Io, fetch};
use pve_edge_lambda::net::Transport;
use pve_edge_tests::{
    Combination, Pve, Rig, Target,
    client::{Heard, contains},
    cluster::BARE,
    pipe, run,
};
use serde_json::json;
use tokio::{net::TcpListener, sync::oneshot};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_local_server_on_the_simulator() {
    let demo = Path::new(env!("CARGO_BIN_EXE_demo"));
    let tally = run(Combination { pve: Pve::Simulator, target: Target::Local }, "", demo).await;
    assert_eq!(tally.failed, 0, "see above");
    assert!(tally.passed > 40, "{tally:?}");
}

/// A program in the foreground shows what is typed, as a shell does, and the shell would run it later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_console_in_which_somebody_works_is_left_alone() {
    let demo = Path::new(env!("CARGO_BIN_EXE_demo"));
    let rig = Rig::start(Pve::Simulator, Target::Local, demo).await.expect("a rig");
    rig.cluster().somebody_types(b"sleep 1000\r");
    let request = json!({"templateVmid": BARE});
    let created =
        rig.client().ask_with("POST", "/api/sandboxes", &request, &[("prefer", "wait=25")]).await.json(202);
    let problem = created["problem"].as_str().expect("why it is not running");
    assert!(problem.contains("console is no shell"), "{problem}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pipe_of_the_local_server() {
    let tally = pipe::run(Target::Local, "").await;
    assert_eq!(tally.failed, 0, "see above");
    assert!(tally.passed > 15, "{tally:?}");
}

/// It used to come as a reset connection now and then, on this request or the next one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_sends_too_much_is_told_so_each_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/api/sandboxes", listener.local_addr().expect("an address"));
    let api = Arc::new(Api::new(&Vec::new()).expect("an API"));
    let (stop, stopped) = oneshot::channel::<()>();
    let handler = move |request| {
        let api = api.clone();
        async move { api.answer(request).await }
    };
    let server = tokio::spawn(serve(listener, handler, async { stopped.await.unwrap_or(()) }));
    let net = Transport::new(true).expect("roots").net().expect("a client");
    for megabytes in [2, 8].repeat(20) {
        for (size, status) in [(megabytes << 20, 413), (2, 503)] {
            let request = Request::post(&url).body(vec![b' '; size]).expect("a request");
            let answer = fetch(&net, request, net.now() + Duration::from_secs(20), 1 << 20).await;
            assert_eq!(answer.map(|it| it.status), Ok(status), "{size} bytes");
        }
    }
    drop(stop);
    server.await.expect("it ends");
}

#[test]
fn a_part_is_found_wherever_it_is() {
    for part in ["aab", "ba", "b", "", "aaba"] {
        assert!(contains(b"aaba", part.as_bytes()), "{part}");
    }
    for part in ["bb", "aaa", "aabaa", "c"] {
        assert!(!contains(b"aaba", part.as_bytes()), "{part}");
    }
    let heard = Heard::default();
    heard.hear(&HeaderMap::new(), b"x-secr");
    heard.hear(&HeaderMap::new(), b"et-y");
    assert!(heard.has("secret") && !heard.has("secrets"));
}
