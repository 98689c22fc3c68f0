//! `Net` against sockets that answer oddly, or not at all.

use std::{future::Future, time::Duration};

use futures_util::StreamExt;
use http::{Method, Request};
use pve_edge_core::io::{Failure, Io, NetError, RequestBody, Sent, Way, fetch};
use pve_edge_lambda::net::{Net, Transport};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::timeout,
};

const CAP: usize = 1 << 16;

fn net(verify_pve: bool) -> Net {
    Transport::new(verify_pve).expect("trusted roots").net().expect("a client")
}

fn request(method: Method, url: &str, body: &str) -> Request<Vec<u8>> {
    let mut request = Request::new(body.into());
    *request.method_mut() = method;
    *request.uri_mut() = url.parse().expect("a URL");
    request.extensions_mut().insert(Way::Pve);
    request
}

async fn get(url: &str) -> Result<pve_edge_core::io::Whole, NetError> {
    let net = net(true);
    fetch(&net, request(Method::GET, url, ""), net.now() + Duration::from_secs(1), CAP).await
}

/// Serves one connection after the other; the port.
async fn listen<F, H>(mut handler: H) -> u16
where
    H: FnMut(TcpStream) -> F + Send + 'static,
    F: Future<Output = ()> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            handler(stream).await;
        }
    });
    port
}

/// Reads a request's head, then writes `answer` and closes.
async fn raw(answer: &'static str) -> u16 {
    listen(move |mut stream| async move {
        let mut head = [0; 4096];
        let _ = stream.read(&mut head).await;
        let _ = stream.write_all(answer.as_bytes()).await;
    })
    .await
}

#[tokio::test]
async fn odd_answers_are_answers() {
    let port = raw("HTTP/1.1 595 Connection refused\r\nconnection: close\r\n\r\n").await;
    let answer = get(&format!("http://127.0.0.1:{port}/")).await.expect("an answer");
    assert_eq!((answer.status, answer.reason.as_str()), (595, "Connection refused"));

    let port = raw("HTTP/1.1 500 CT is locked (disk)\r\ncontent-length: 2\r\n\r\n{}").await;
    let answer = get(&format!("http://pve.localhost:{port}/")).await.expect("an answer");
    assert_eq!((answer.status, answer.reason.as_str()), (500, "CT is locked (disk)"));

    let port = raw("HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n").await;
    assert_eq!(get(&format!("http://127.0.0.1:{port}/")).await.expect("an answer").status, 302);
}

#[tokio::test]
async fn failures_are_told_apart() {
    let check = async |url: String, sent, failure| {
        let error = get(&url).await.expect_err(&url);
        assert_eq!((error.sent, error.failure), (sent, failure), "{url}: {error}");
        assert!(!error.detail.contains("secret"), "{error}");
    };
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        listener.local_addr().expect("an address").port()
    };
    check(format!("http://127.0.0.1:{closed}/?secret"), Sent::Never, Failure::Connect).await;
    check("http://no-such-name.invalid/?secret".to_owned(), Sent::Never, Failure::Dns).await;
    let plain = raw("HTTP/1.1 400 Bad Request\r\n\r\n").await;
    check(format!("https://127.0.0.1:{plain}/?secret"), Sent::Never, Failure::Tls).await;
    let silent = raw("").await;
    check(format!("http://127.0.0.1:{silent}/?secret"), Sent::Maybe, Failure::Cut).await;
    let short = raw("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc").await;
    check(format!("http://127.0.0.1:{short}/?secret"), Sent::Maybe, Failure::Cut).await;
    let late = listen(|stream| async move {
        tokio::time::sleep(Duration::from_secs(3)).await;
        drop(stream);
    })
    .await;
    check(format!("http://127.0.0.1:{late}/?secret"), Sent::Maybe, Failure::Timeout).await;
}

/// Answers with a head and a first chunk; the handle ends when the client has left.
async fn endless() -> (u16, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    let served = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a client");
        let mut bytes = [0; 4096];
        let _ = stream.read(&mut bytes).await;
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n";
        stream.write_all(head.as_bytes()).await.expect("a client");
        assert_eq!(stream.read(&mut bytes).await.unwrap_or(0), 0);
    });
    (port, served)
}

#[tokio::test]
async fn a_body_ends_with_the_deadline() {
    let (port, served) = endless().await;
    let net = net(true);
    let request = request(Method::GET, &format!("http://127.0.0.1:{port}/"), "");
    let mut answer = net
        .open(request.map(RequestBody::Whole), net.now() + Duration::from_millis(300))
        .await
        .expect("an answer");
    assert_eq!(answer.body.next().await, Some(Ok(b"abc".to_vec())));
    let error = answer.body.next().await.expect("an end").expect_err("no more");
    assert_eq!((error.sent, error.failure), (Sent::Maybe, Failure::Timeout));
    timeout(Duration::from_secs(1), served).await.expect("the connection ended").expect("cleanly");
}

#[tokio::test]
async fn a_dropped_body_ends_its_connection() {
    let (port, served) = endless().await;
    let net = net(true);
    let request = request(Method::GET, &format!("http://127.0.0.1:{port}/"), "");
    let answer = net
        .open(request.map(RequestBody::Whole), net.now() + Duration::from_secs(9))
        .await
        .expect("an answer");
    drop(answer);
    timeout(Duration::from_secs(1), served).await.expect("the connection ended").expect("cleanly");
}

#[tokio::test]
async fn a_dropped_request_ends_its_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}/", listener.local_addr().expect("an address"));
    let net = net(true);
    let open = net
        .open(request(Method::POST, &url, "x").map(RequestBody::Whole), net.now() + Duration::from_secs(9));
    let (opened, accepted) = tokio::join!(timeout(Duration::from_millis(300), open), listener.accept());
    assert!(opened.is_err(), "nobody answers");
    let (mut stream, _) = accepted.expect("a client");
    let mut bytes = Vec::new();
    let read = timeout(Duration::from_secs(1), stream.read_to_end(&mut bytes)).await;
    read.expect("the connection ended").expect("cleanly");
    assert!(bytes.starts_with(b"POST / HTTP/1.1\r\n"));
}

#[tokio::test]
async fn a_write_is_sent_once_over_a_connection_that_is_kept() {
    let (count, mut counted) = tokio::sync::mpsc::unbounded_channel();
    let port = listen(move |mut stream| {
        let count = count.clone();
        async move {
            let mut bytes = [0; 4096];
            // Answers the first request of a connection, breaks off at the second.
            for answer in ["HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", ""] {
                let read = stream.read(&mut bytes).await.unwrap_or(0);
                count.send(String::from_utf8_lossy(&bytes[..read]).into_owned()).expect("counted");
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        }
    })
    .await;
    let net = net(true);
    let url = format!("http://127.0.0.1:{port}/");
    let deadline = net.now() + Duration::from_secs(2);
    fetch(&net, request(Method::POST, &url, "first"), deadline, CAP).await.expect("an answer");
    let error = fetch(&net, request(Method::POST, &url, "second"), deadline, CAP).await;
    assert_eq!(error.expect_err("no answer").sent, Sent::Maybe);
    assert!(counted.recv().await.expect("one").ends_with("first"));
    assert!(counted.recv().await.expect("two").ends_with("second"));
    assert!(timeout(Duration::from_millis(200), counted.recv()).await.is_err(), "sent twice");
}

/// Serves one empty answer over TLS, with a certificate that nobody trusts.
async fn self_signed() -> u16 {
    let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(signed.signing_key.serialize_der());
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![signed.cert.der().clone()], key.into())
        .expect("a configuration");
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
    listen(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        }
    })
    .await
}

#[tokio::test]
async fn certificates_are_checked_except_those_of_pve_when_so_set() {
    let url = format!("https://localhost:{}/", self_signed().await);
    for (verify_pve, way, taken) in [
        (true, Way::Pve, false),
        (true, Way::Public, false),
        (false, Way::Pve, true),
        (false, Way::Public, false),
        (false, Way::Guest, false),
    ] {
        let net = net(verify_pve);
        let mut request = request(Method::GET, &url, "");
        request.extensions_mut().insert(way);
        match fetch(&net, request, net.now() + Duration::from_secs(2), CAP).await {
            Ok(answer) => assert!(taken && answer.status == 200, "{verify_pve} {way:?}"),
            Err(error) => {
                assert!(!taken, "{verify_pve} {way:?}: {error}");
                assert_eq!((error.sent, error.failure), (Sent::Never, Failure::Tls), "{error}");
            }
        }
    }
}
