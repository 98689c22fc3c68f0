//! `Net`'s links against sockets that answer oddly, or not at all.

use std::{future::Future, sync::Arc, time::Duration};

use futures_util::{FutureExt, SinkExt, StreamExt};
use http::Request;
use pve_edge_core::io::{
    Failure, Io, Link as _, Linked, NetError, Sent, Way,
    link::{LARGEST_SENT, REFUSAL_CAP},
};
use pve_edge_lambda::{link::Link, net::Transport};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
    time::timeout,
};
use tokio_tungstenite::{
    accept_async,
    tungstenite::{Message, protocol::frame::coding::CloseCode},
};

/// Longer than anything takes here.
const PATIENCE: Duration = Duration::from_secs(30);

/// Opens a link to a server of this machine.
async fn open(url: &str, verify_pve: bool, within: Duration) -> Result<Linked<Link>, NetError> {
    let net = Transport::new(verify_pve).expect("trusted roots").net().expect("a client");
    let mut request = Request::get(url).body(()).expect("a request");
    request.extensions_mut().insert(Way::Pve);
    net.link(request, net.now() + within).await
}

/// The link to what serves the one connection, which it has until its future ends.
async fn linked<F>(server: impl FnOnce(TcpStream) -> F) -> (Link, JoinHandle<()>)
where
    F: Future<Output = ()> + Send + 'static,
{
    let (url, listener) = listen("http").await;
    let opening = tokio::spawn(async move { open(&url, true, PATIENCE).await });
    let (stream, _) = listener.accept().await.expect("a client");
    let server = tokio::spawn(server(stream));
    match opening.await.expect("an end") {
        Ok(Linked::Open(link)) => (link, server),
        other => panic!("{other:?}"),
    }
}

async fn listen(scheme: &str) -> (String, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    (format!("{scheme}://localhost:{}/", listener.local_addr().expect("an address").port()), listener)
}

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("in time")
}

/// The first of it is out before anybody waits for a message.
#[tokio::test]
async fn what_the_connection_does_not_take_at_once_goes_out_later() {
    const COUNT: usize = 400;
    let (tell, told) = oneshot::channel();
    let (mut link, server) = linked(async move |stream| {
        let mut socket = accept_async(stream).await.expect("a websocket");
        let mut received = vec![socket.next().await];
        tell.send(()).expect("a test");
        while received.len() < COUNT {
            received.push(socket.next().await);
        }
        for (at, message) in received.into_iter().enumerate() {
            let expected = Message::binary(vec![at as u8; LARGEST_SENT]);
            assert!(message.expect("a message").expect("a websocket") == expected, "{at}");
        }
        drop(socket);
    })
    .await;
    for at in 0..COUNT {
        link.send(vec![at as u8; LARGEST_SENT]).expect("a link");
    }
    in_time(told).await.expect("a server");
    assert_eq!(in_time(link.next()).await, None);
    in_time(server).await.expect("all messages");
}

#[tokio::test]
async fn a_ping_is_answered_while_the_next_message_is_awaited() {
    let (mut link, server) = linked(async |stream| {
        let mut socket = accept_async(stream).await.expect("a websocket");
        socket.send(Message::Ping("here?".into())).await.expect("a client");
        let pong = socket.next().await.expect("a message").expect("a websocket");
        assert_eq!(pong, Message::Pong("here?".into()));
        socket.send(Message::text("yes")).await.expect("a client");
    })
    .await;
    assert_eq!(in_time(link.next()).await, Some(Ok(b"yes".to_vec())));
    in_time(server).await.expect("a pong");
}

/// With the code of a normal end, and after all that was sent.
#[tokio::test]
async fn a_dropped_link_says_so() {
    let (mut link, server) = linked(async |stream| {
        let mut socket = accept_async(stream).await.expect("a websocket");
        match [socket.next().await, socket.next().await] {
            [Some(Ok(last)), Some(Ok(Message::Close(Some(close))))] => {
                assert_eq!((last, close.code), (Message::binary("last"), CloseCode::Normal));
            }
            other => panic!("{other:?}"),
        }
    })
    .await;
    link.send(b"last".to_vec()).expect("a link");
    drop(link);
    in_time(server).await.expect("both");
}

#[tokio::test]
async fn a_close_is_answered_and_nothing_is_sent_after_it() {
    let (mut link, server) = linked(async |stream| {
        let mut socket = accept_async(stream).await.expect("a websocket");
        socket.close(None).await.expect("a client");
        let answer = socket.next().await;
        assert!(matches!(answer, Some(Ok(Message::Close(None)))), "{answer:?}");
    })
    .await;
    assert_eq!(in_time(link.next()).await, None);
    in_time(server).await.expect("an answer");
    assert_eq!(link.send(b"late".to_vec()).expect_err("an end").failure, Failure::Cut);
    assert_eq!(link.next().now_or_never(), Some(None));
}

/// A frame that no websocket has is no end.
#[tokio::test]
async fn a_server_that_babbles_is_an_error() {
    for wrong in [&[0xf2, 0][..], &[0x82, 0x81, 0, 0, 0, 0, 0], &[0x80, 0], &[0x83, 0]] {
        let (mut link, _) = linked(async move |stream| {
            let mut socket = accept_async(stream).await.expect("a websocket");
            socket.get_mut().write_all(wrong).await.expect("a client");
            while socket.next().await.is_some_and(|it| it.is_ok()) {}
        })
        .await;
        let error = in_time(link.next()).await.expect("an error").expect_err("no message");
        assert_eq!((error.sent, error.failure), (Sent::Maybe, Failure::Cut), "{error}");
        assert_eq!(in_time(link.next()).await, None);
    }
}

#[tokio::test]
async fn the_deadline_is_for_the_answer_alone() {
    let short = Duration::from_millis(200);
    for answer in ["", "HTTP/1.1 401 No ticket\r\ncontent-length: 9\r\n\r\nabc"] {
        let (url, listener) = listen("http").await;
        let silent = async {
            let (mut stream, _) = listener.accept().await.expect("a client");
            stream.read_exact(&mut [0; 64]).await.expect("a request");
            stream.write_all(answer.as_bytes()).await.expect("a client");
            std::future::pending::<()>().await;
        };
        let error = tokio::select! {
            opened = in_time(open(&url, true, short)) => opened.expect_err("no answer"),
            () = silent => unreachable!(),
        };
        assert_eq!((error.sent, error.failure), (Sent::Maybe, Failure::Timeout), "{error}");
    }
}

/// What Cloudflare's edge says when the tunnel is down is no server's refusal, and a long one is cut.
#[tokio::test]
async fn refusals_are_told_apart() {
    let refused = async |head: &'static str, length: usize| {
        let (url, listener) = listen("http").await;
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a client");
            let _ = stream.read(&mut [0; 4096]).await;
            let head = format!("HTTP/1.1 {head}\r\ncontent-length: {length}\r\n\r\n");
            let _ = stream.write_all(&[head.into_bytes(), vec![b'x'; length]].concat()).await;
        });
        in_time(open(&url, true, PATIENCE)).await
    };
    let error = refused("530 Down", 3).await.expect_err("no server");
    assert_eq!((error.sent, error.failure), (Sent::Never, Failure::Connect));
    match refused("403 Permission check failed", 2 * REFUSAL_CAP).await {
        Ok(Linked::Refused(answer)) => assert_eq!(
            (answer.status, answer.reason.as_str(), answer.body.len()),
            (403, "Permission check failed", REFUSAL_CAP)
        ),
        other => panic!("{other:?}"),
    }
}

/// PVE ends TLS as it ends TCP: without a word.
#[tokio::test]
async fn tls_is_checked_except_that_of_pve_when_so_set() {
    let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(signed.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![signed.cert.der().clone()], key.into())
        .expect("a configuration");
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    for verify_pve in [true, false] {
        let (url, listener) = listen("https").await;
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.expect("a client");
            let Ok(stream) = acceptor.accept(stream).await else { return };
            greet(stream).await;
        });
        match in_time(open(&url, verify_pve, PATIENCE)).await {
            Ok(Linked::Open(mut link)) => {
                assert!(!verify_pve);
                link.send(b"OK?".to_vec()).expect("a link");
                assert_eq!(in_time(link.next()).await, Some(Ok(b"OK?".to_vec())));
                assert_eq!(in_time(link.next()).await, None);
            }
            Ok(other) => panic!("{other:?}"),
            Err(error) => assert!(verify_pve && error.failure == Failure::Tls, "{error}"),
        }
    }
}

/// Sends the first message back, and leaves.
async fn greet(stream: impl AsyncRead + AsyncWrite + Unpin) {
    let mut socket = accept_async(stream).await.expect("a websocket");
    let message = socket.next().await.expect("a message").expect("a websocket");
    socket.send(message).await.expect("a client");
}
