//! What AWS Lambda cannot do.

use http::Request;

use super::{
    breaks::answer_and_break,
    client::{MIB, Pipe, hash, noise},
    upstream::Upstream,
};
use pve_edge_bed::serve::whole;

/// 4.5 MB are the 6 MB of a request, in Base64.
pub(super) async fn a_request_comes_whole(pipe: Pipe) {
    let (upstream, received) = Upstream::reading().await;
    let file = noise(4 * MIB);
    let request = Request::put("/file").header("content-type", "application/octet-stream");
    let answer = pipe.send(upstream.port, request, file.clone()).await;
    assert_eq!((answer.status, answer.text().await), (200, hash(&file)));
    assert_eq!(received.borrow().headers["content-length"], file.len().to_string());
}

pub(super) async fn a_websocket_is_refused(pipe: Pipe) {
    let (upstream, received) = Upstream::reading().await;
    let request = Request::get("/")
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    let answer = pipe.send(upstream.port, request, bytes::Bytes::new()).await;
    assert_eq!((answer.status, answer.all("content-type")), (501, vec![&b"application/problem+json"[..]]));
    let problem: serde_json::Value = serde_json::from_slice(&answer.bytes().await).expect("JSON");
    assert_eq!(problem["code"], "upgrade-unsupported");
    assert!(received.borrow().headers.is_empty(), "the upstream was asked");
}

/// Of an answer that breaks off nothing is handed on, where answers do not stream.
pub(super) async fn a_cut_answer_is_none(pipe: Pipe) {
    let upstream = Upstream::tcp(|stream| answer_and_break(stream, "content-length: 100\r\n\r\nabc")).await;
    let answer = pipe.get(upstream.port, "/").await;
    assert_eq!((answer.status, answer.text().await), (502, "Cut".to_owned()));
}

pub(super) async fn an_answer_is_limited(pipe: Pipe) {
    let upstream = Upstream::http(|request| async move {
        let length = request.uri().path().trim_matches('/').parse().expect("a length");
        whole(http::StatusCode::OK, "application/octet-stream", noise(length))
    })
    .await;
    let answer = pipe.get(upstream.port, "/3000000").await;
    assert_eq!((answer.status, hash(&answer.bytes().await)), (200, hash(&noise(3_000_000))));
    let answer = pipe.get(upstream.port, "/3200000").await;
    assert_eq!((answer.status, answer.text().await), (502, "TooLarge".to_owned()));
}
