//! Bodies both ways, and the headers around them.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Notify,
    time::{Duration, timeout},
};

use super::{
    client::{MIB, PATIENCE, Pipe, hash, noise},
    upstream::Upstream,
};
use pve_edge_bed::serve::{Reply, boxed, whole};

/// So long nothing moves when the other side does not read.
const STALL: Duration = Duration::from_secs(1);

/// More than all sockets and buffers between a client and an upstream hold.
const HELD: usize = 32 * MIB;

/// The upstream has received most of what was sent before the client sends the rest, with a length and
/// without.
pub(super) async fn an_upload_streams(pipe: Pipe) {
    let file = noise(20 * MIB);
    for length in [Some(file.len()), None] {
        let (upstream, mut received) = Upstream::reading().await;
        let sending = pipe.upload(upstream.port, length);
        sending.send(&file.slice(..10 * MIB)).await;
        let most = timeout(PATIENCE, received.wait_for(|it| it.bytes >= 8 * MIB)).await;
        let seen = most.expect("the upload arrives while it is sent").expect("an upstream").clone();
        assert_eq!(seen.end, None);
        let announced = seen.headers.get("content-length").map(|it| it.to_str().expect("a number"));
        assert_eq!(announced.map(str::to_owned), length.map(|it| it.to_string()));
        sending.send(&file.slice(10 * MIB..)).await;
        let answer = sending.end().await;
        assert_eq!((answer.status, answer.text().await), (200, hash(&file)));
        assert_eq!(received.borrow().bytes, file.len());
    }
}

pub(super) async fn a_slow_upstream_holds_the_client_back(pipe: Pipe) {
    let go = Arc::new(Notify::new());
    let told = go.clone();
    let upstream = Upstream::tcp(move |stream| {
        let told = told.clone();
        async move {
            told.notified().await;
            read_to_the_end(stream, 64 * MIB).await;
        }
    })
    .await;
    let mut stream = pipe.connect().await;
    let head = format!(
        "PUT {} HTTP/1.1\r\nhost: {}\r\ncontent-length: {}\r\n\r\n",
        pipe.path(upstream.port, "/"),
        pipe.authority,
        64 * MIB
    );
    stream.write_all(head.as_bytes()).await.expect("a connection");
    let sent = write_until_it_stalls(&mut stream, 64 * MIB).await;
    assert!(sent < HELD, "{sent} bytes went nowhere");
    go.notify_one();
    timeout(PATIENCE, stream.write_all(&vec![0; 64 * MIB - sent])).await.expect("it goes on").expect("all");
    let mut answer = [0; 15];
    timeout(PATIENCE, stream.read_exact(&mut answer)).await.expect("in time").expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
}

/// Reads a request whose body has so many bytes, and answers it.
async fn read_to_the_end(mut stream: TcpStream, length: usize) {
    let (mut left, mut bytes) = (None, vec![0; MIB]);
    let mut head = Vec::new();
    while left != Some(0) {
        let count = stream.read(&mut bytes).await.expect("a request");
        assert_ne!(count, 0, "the request was cut");
        left = match left {
            Some(left) => Some(left - count),
            None => {
                head.extend_from_slice(&bytes[..count]);
                let end = head.windows(4).position(|it| it == b"\r\n\r\n");
                end.map(|at| length - (head.len() - at - 4))
            }
        };
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.expect("a client");
}

/// Writes zeros until nobody takes them, at most so many; how many went.
async fn write_until_it_stalls(stream: &mut TcpStream, most: usize) -> usize {
    let (zeros, mut sent) = (vec![0; MIB / 16], 0);
    while sent < most {
        match timeout(STALL, stream.write(&zeros[..zeros.len().min(most - sent)])).await {
            Ok(count) => sent += count.expect("a connection"),
            Err(_) => break,
        }
    }
    sent
}

/// The client has the first bytes before the upstream makes the next.
pub(super) async fn a_download_streams(pipe: Pipe) {
    let go = Arc::new(Notify::new());
    let (told, file) = (go.clone(), noise(20 * MIB));
    let sent = file.clone();
    let upstream = Upstream::http(move |_| {
        let (told, file) = (told.clone(), sent.clone());
        async move {
            let pieces = stream::unfold(0, move |at| {
                let (told, file) = (told.clone(), file.clone());
                async move {
                    if at == 3 {
                        told.notified().await;
                    }
                    let end = if at < 3 { at + 1 } else { file.len().min(at + MIB) };
                    (at < file.len()).then(|| (Ok::<_, hyper::Error>(Frame::data(file.slice(at..end))), end))
                }
            });
            boxed(Response::new(StreamBody::new(pieces)))
        }
    })
    .await;
    let mut answer = pipe.get(upstream.port, "/").await;
    let mut all = Vec::new();
    while all.len() < 3 {
        all.extend_from_slice(&answer.next().await.expect("more").expect("bytes"));
    }
    go.notify_one();
    all.extend(answer.bytes().await);
    assert_eq!((all.len(), hash(&all)), (file.len(), hash(&file)));
}

pub(super) async fn a_slow_client_holds_the_upstream_back(pipe: Pipe) {
    let (written, stalled) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let (count, tell) = (written.clone(), stalled.clone());
    let upstream = Upstream::tcp(move |mut stream| {
        let (count, tell) = (count.clone(), tell.clone());
        async move {
            let _ = stream.read(&mut [0; 4096]).await;
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", 64 * MIB);
            stream.write_all(head.as_bytes()).await.expect("a client");
            let sent = write_until_it_stalls(&mut stream, 64 * MIB).await;
            count.store(sent, Ordering::SeqCst);
            tell.notify_one();
            stream.write_all(&vec![0; 64 * MIB - sent]).await.expect("a client");
        }
    })
    .await;
    let answer = pipe.get(upstream.port, "/").await;
    timeout(PATIENCE, stalled.notified()).await.expect("a stall");
    let sent = written.load(Ordering::SeqCst);
    assert!(sent < HELD, "{sent} bytes went nowhere");
    assert_eq!(answer.bytes().await.len(), 64 * MIB);
}

/// What an upstream sees of a request: all but what concerns the client's own connection.
pub(super) async fn requests_are_sent_on(pipe: Pipe) {
    let upstream = Upstream::http(echo).await;
    let request = Request::post("/a%20b/%41?q=%27%C3%A4&empty=")
        .header("cookie", "a=1; b=2")
        .header("authorization", "Bearer of-the-upstream")
        .header("x-note", "grüße".as_bytes())
        .header("x-gone", "1")
        .header("connection", "keep-alive, X-Gone")
        .header("te", "trailers")
        .header("content-type", "text/plain");
    let answer = pipe.send(upstream.port, request, Bytes::from_static(b"hello")).await;
    assert_eq!(answer.status, 200);
    let seen: serde_json::Value = serde_json::from_slice(&answer.bytes().await).expect("JSON");
    assert_eq!((&seen["method"], &seen["body"]), (&json!("POST"), &json!("hello")), "{seen}");
    assert_eq!(seen["path"], "/a%20b/%41?q=%27%C3%A4&empty=");
    let headers = &seen["headers"];
    assert_eq!(headers["host"], format!("127.0.0.1:{}", upstream.port));
    assert_eq!(headers["content-length"], "5");
    for (name, value) in [
        ("cookie", "a=1; b=2"),
        ("authorization", "Bearer of-the-upstream"),
        ("x-note", "grüße"),
        ("content-type", "text/plain"),
    ] {
        assert_eq!(headers[name], value, "{headers}");
    }
    for gone in ["x-gone", "te", "transfer-encoding"] {
        assert!(headers[gone].is_null(), "{headers}");
    }
}

async fn echo(request: Request<Incoming>) -> Reply {
    let (parts, body) = request.into_parts();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers: serde_json::Map<_, _> =
        parts.headers.iter().map(|(name, value)| (name.to_string(), json!(text(value.as_bytes())))).collect();
    let body = body.collect().await.expect("a body").to_bytes();
    let seen = json!({
        "method": parts.method.as_str(), "path": parts.uri.to_string(), "headers": headers,
        "body": text(&body),
    });
    whole(StatusCode::OK, "application/json", seen.to_string())
}

/// What a client sees of an answer: status, headers and body as the upstream sent them.
pub(super) async fn answers_are_handed_back(pipe: Pipe) {
    let packed = noise(71);
    let body = packed.clone();
    let upstream = Upstream::http(move |request| {
        let body = body.clone();
        async move { odd(request.uri().path(), body) }
    })
    .await;
    let answer = pipe.get(upstream.port, "/packed").await;
    assert_eq!((answer.status, answer.all("content-encoding")), (200, vec![&b"gzip"[..]]));
    assert_eq!(answer.bytes().await, packed);

    let answer = pipe.get(upstream.port, "/headers").await;
    assert_eq!(answer.status, 418);
    assert_eq!(answer.all("set-cookie").len(), 2, "{:?}", answer.headers);
    assert!(answer.all("x-gone").is_empty() && answer.all("keep-alive").is_empty(), "{:?}", answer.headers);
    assert_eq!(answer.text().await, "short and stout");

    let answer = pipe.get(upstream.port, "/elsewhere").await;
    assert_eq!((answer.status, answer.all("location")), (302, vec![&b"https://elsewhere.example/"[..]]));
    for (path, status) in [("/none", 204), ("/unchanged", 304)] {
        let answer = pipe.get(upstream.port, path).await;
        assert_eq!((answer.status, answer.text().await), (status, String::new()));
    }
    let answer = pipe.send(upstream.port, Request::head("/packed"), Bytes::new()).await;
    assert_eq!((answer.status, answer.bytes().await), (200, Vec::new()));
}

pub(super) async fn headers_that_are_not_ascii_are_handed_on(pipe: Pipe) {
    let upstream = Upstream::http(|request| async move { odd(request.uri().path(), Bytes::new()) }).await;
    let answer = pipe.get(upstream.port, "/headers").await;
    assert_eq!(answer.all("x-note"), ["grüße".as_bytes()]);
}

pub(super) async fn an_answers_length_is_handed_on(pipe: Pipe) {
    let upstream = Upstream::http(|request| async move { odd(request.uri().path(), noise(71)) }).await;
    let answer = pipe.get(upstream.port, "/packed").await;
    assert_eq!(answer.all("content-length"), [b"71"]);
}

fn odd(path: &str, packed: Bytes) -> Reply {
    let response = Response::builder();
    match path {
        "/packed" => boxed(response.header("content-encoding", "gzip").body(Full::new(packed)).expect("one")),
        "/headers" => {
            let response = response
                .status(418)
                .header("x-note", "grüße".as_bytes())
                .header("set-cookie", "a=1; Path=/")
                .header("set-cookie", "b=2")
                .header("connection", "x-gone")
                .header("x-gone", "1")
                .header("keep-alive", "timeout=5")
                .header("content-type", "text/plain");
            boxed(response.body(Full::new(Bytes::from_static(b"short and stout"))).expect("one"))
        }
        "/elsewhere" => {
            let response = response.status(302).header("location", "https://elsewhere.example/");
            boxed(response.body(Empty::<Bytes>::new()).expect("one"))
        }
        "/none" => boxed(response.status(204).body(Empty::<Bytes>::new()).expect("one")),
        _ => boxed(response.status(304).header("etag", "\"a\"").body(Empty::<Bytes>::new()).expect("one")),
    }
}
