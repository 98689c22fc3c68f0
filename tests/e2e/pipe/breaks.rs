//! Connections that end too early, on either side.

use std::sync::Arc;

use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{Notify, mpsc},
    time::timeout,
};

use super::{
    client::{MIB, PATIENCE, Pipe, noise},
    upstream::Upstream,
};

pub(super) async fn a_silent_upstream_is_a_bad_gateway(pipe: Pipe) {
    let gone = Upstream::tcp(|_| async {}).await.port;
    let answer = pipe.get(gone, "/").await;
    assert_eq!(answer.status, 502);
    let silent = Upstream::tcp(|mut stream| async move {
        let _ = stream.read(&mut [0; 4096]).await;
    })
    .await;
    assert_eq!(pipe.get(silent.port, "/").await.status, 502);
}

/// An answer that breaks off never ends as if it were whole. It breaks once its beginning has come: before that, a
/// platform may tell the break instead of the beginning.
pub(super) async fn an_answer_is_cut_where_the_upstreams_is(pipe: Pipe) {
    for head in ["content-length: 100\r\n\r\nabc", "transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n"] {
        let seen = Arc::new(Notify::new());
        let come = seen.clone();
        let upstream = Upstream::tcp(move |mut stream| {
            let come = come.clone();
            async move {
                answer(&mut stream, head).await;
                come.notified().await;
            }
        })
        .await;
        let mut answer = pipe.get(upstream.port, "/").await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.next().await.expect("more").expect("its beginning"), "abc");
        seen.notify_one();
        assert!(answer.ends_cut().await, "{head}");
    }
}

pub(super) async fn answer_and_break(mut stream: TcpStream, rest: &'static str) {
    answer(&mut stream, rest).await;
}

async fn answer(stream: &mut TcpStream, rest: &str) {
    let _ = stream.read(&mut [0; 4096]).await;
    let _ = stream.write_all(format!("HTTP/1.1 200 OK\r\n{rest}").as_bytes()).await;
}

/// An upload that breaks off is no whole one for the upstream, and its connection ends.
pub(super) async fn a_client_that_leaves_cuts_its_upload(pipe: Pipe) {
    for length in [Some(20 * MIB), None] {
        let (upstream, mut received) = Upstream::reading().await;
        let sending = pipe.upload(upstream.port, length);
        sending.send(&noise(MIB)).await;
        let some = timeout(PATIENCE, received.wait_for(|it| it.bytes > 0)).await;
        drop(some.expect("bytes in time").expect("an upstream"));
        sending.abort();
        let end = timeout(PATIENCE, received.wait_for(|it| it.end.is_some())).await;
        assert_eq!(end.expect("an end in time").expect("an upstream").end, Some(None), "{length:?}");
    }
}

pub(super) async fn a_client_that_leaves_ends_its_download(pipe: Pipe) {
    let (tell, mut told) = mpsc::channel(1);
    let upstream = Upstream::tcp(move |stream| endless(stream, tell.clone())).await;
    let mut answer = pipe.get(upstream.port, "/").await;
    answer.next().await.expect("more").expect("bytes");
    drop(answer);
    timeout(PATIENCE, told.recv()).await.expect("the upstream's connection ends").expect("an upstream");
}

/// Writes until nobody is there.
async fn endless(mut stream: TcpStream, tell: mpsc::Sender<()>) {
    let _ = stream.read(&mut [0; 4096]).await;
    let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let mut sent = stream.write_all(head).await;
    let piece = Bytes::from([b"10000\r\n".to_vec(), vec![0; 0x10000], b"\r\n".to_vec()].concat());
    while sent.is_ok() {
        sent = stream.write_all(&piece).await;
    }
    let _ = tell.send(()).await;
}

/// workerd on one machine goes on until the upstream answers; Cloudflare's ends the invocation.
pub(super) async fn a_client_that_leaves_ends_its_request(pipe: Pipe) {
    let (tell, mut told) = mpsc::channel(1);
    let upstream = Upstream::tcp(move |mut stream| {
        let tell = tell.clone();
        async move {
            let mut bytes = [0; 4096];
            for expected in ["a request", "its end"] {
                let count = stream.read(&mut bytes).await.unwrap_or(0);
                tell.send((expected, count)).await.expect("a test");
            }
        }
    })
    .await;
    let pipe = pipe.clone();
    let asking = tokio::spawn(async move { pipe.get(upstream.port, "/").await.status });
    let mut next = async || timeout(PATIENCE, told.recv()).await.expect("in time").expect("an upstream");
    let (_, head) = next().await;
    assert!(head > 0);
    asking.abort();
    assert_eq!(next().await, ("its end", 0));
}
