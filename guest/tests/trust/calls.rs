//! Wrong, old, replayed, foreign, truncated and doubled calls to the real daemon. `renew` shows whether one was executed:
//! it changes the boot.

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, header::CONTENT_LENGTH};
use http_body_util::Full;
use pve_edge_guest_protocol::{
    CALL, HEALTH_PATH, SIGNATURE, Unique,
    answer::{Code, Health, Hello, Refusal},
    call::{Body, Call, Operation, Signed},
    file,
    keys::EdgeKey,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::daemon::{Daemon, json, request, send, unique};

#[tokio::test]
async fn a_signed_call_is_obeyed_and_named_in_its_answer() {
    let daemon = Daemon::start().await;
    let health = daemon.health().await;
    assert_eq!(health.keys, [daemon.key.id().to_string()]);
    let hello: Hello = daemon.ask(Operation::Hello {}, "").await.unwrap();
    assert_eq!(hello.boot, health.boot);
    assert_eq!(hello.keys, format!("{}\n", daemon.key.line("home")));
    let renewed: Health = daemon.ask(Operation::Renew {}, "").await.unwrap();
    assert_ne!((renewed.boot, renewed.session), (health.boot, health.session));
    assert_eq!(daemon.health().await, renewed);
}

#[tokio::test]
async fn a_call_that_is_not_proved_is_not_executed() {
    let daemon = Daemon::start().await;
    let before = daemon.health().await;
    let call = daemon.renew_now().await;
    let stranger = EdgeKey::new(&[66; 32]);
    let signed = call.sign(&daemon.key).unwrap();
    let by_stranger = call.sign(&stranger).unwrap();
    let (_, strange) = by_stranger.signature.split_once(':').unwrap();
    let under_our_name = format!("{}:{strange}", daemon.key.id());
    let of_another = daemon.renew_now().await.sign(&daemon.key).unwrap();
    let to_another = Call { to: "pvelxc-200001-bbbbbbbbbbbbbbbbbbbbbbbb".into(), ..call.clone() };
    let in_another = Call { session: unique(), ..call.clone() };
    let cases = [
        (Signed { signature: by_stranger.signature, ..signed.clone() }, Code::Unauthorized),
        (Signed { signature: under_our_name, ..signed.clone() }, Code::Unauthorized),
        (Signed { signature: of_another.signature, ..signed.clone() }, Code::Unauthorized),
        (Signed { signature: String::new(), ..signed.clone() }, Code::BadCall),
        (Signed { call: signed.call[4..].to_owned(), ..signed.clone() }, Code::Unauthorized),
        (Signed { call: "ü".to_owned(), ..signed.clone() }, Code::BadCall),
        (to_another.sign(&daemon.key).unwrap(), Code::NotHere),
        (in_another.sign(&daemon.key).unwrap(), Code::Session),
    ];
    for (signed, code) in cases {
        let refusal = daemon.refused("renew", &signed, "").await;
        assert_eq!(refusal.code, code, "{refusal:?}");
        let told = (code == Code::Session).then_some((before.session, before.boot));
        assert_eq!(refusal.session.zip(refusal.boot), told);
    }
    assert_eq!(daemon.refused("hello", &signed, "").await.code, Code::BadCall, "the path says hello");
    assert_eq!(daemon.health().await, before);
    let request = request("renew", &signed).body(Full::<Bytes>::default()).unwrap();
    let renewed: Health = json(send(daemon.address, request).await.unwrap()).await.unwrap();
    assert_ne!(renewed.boot, before.boot, "as it was signed it is executed");
}

#[tokio::test]
async fn headers_come_once_or_the_request_is_none() {
    let daemon = Daemon::start().await;
    let before = daemon.health().await;
    let signed = daemon.renew_now().await.sign(&daemon.key).unwrap();
    let (call, signature) = ((CALL, signed.call.as_str()), (SIGNATURE, signed.signature.as_str()));
    let large = "A".repeat(30_000);
    let cases = [
        ("POST", "/v1/renew", vec![], 401),
        ("POST", "/v1/renew", vec![call], 400),
        ("POST", "/v1/renew", vec![signature], 400),
        ("POST", "/v1/renew", vec![call, call, signature], 400),
        ("POST", "/v1/renew", vec![call, signature, signature], 400),
        ("POST", "/v1/renew", vec![(CALL, &large), signature], 400),
        ("POST", "/v2/renew", vec![call, signature], 400),
        ("POST", "/v1/renew/", vec![call, signature], 400),
        ("POST", "/v1/nonsense", vec![call, signature], 400),
        ("GET", "/v1/renew", vec![call, signature], 400),
        ("POST", HEALTH_PATH, vec![], 400),
        ("POST", "/exec", vec![("authorization", "Bearer ")], 401),
        ("POST", "/exec", vec![call, signature], 401),
        ("GET", "/exec", vec![], 405),
    ];
    for (method, path, headers, status) in cases {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in &headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::<Bytes>::default()).unwrap();
        let answer = send(daemon.address, request).await.unwrap();
        let case = (method, path, headers.len());
        assert_eq!(answer.status(), status, "{case:?}");
        // Whoever has sent one call is told that it was not executed.
        let is_named = path != "/exec" && headers.iter().filter(|it| **it == call).count() == 1;
        assert_eq!(answer.headers().contains_key(CALL), is_named, "{case:?}");
    }
    assert_eq!(daemon.health().await, before);
}

#[tokio::test]
async fn a_head_without_an_end_takes_no_room() {
    let daemon = Daemon::start().await;
    let request = Request::post("/v1/renew").header(CALL, "A".repeat(1 << 20));
    let answer = send(daemon.address, request.body(Full::<Bytes>::default()).unwrap()).await;
    // It is cut off in the middle of the head, which the client may see first.
    assert!(answer.is_err() || answer.is_ok_and(|it| it.status() == 431));
}

#[tokio::test]
async fn a_body_is_the_one_that_was_signed_or_nothing_is_done() {
    let daemon = Daemon::start().await;
    let before = daemon.health().await;
    let sent: [(&[u8], &[u8]); 5] = [(b"", b"x"), (b"x", b""), (b"xy", b"xz"), (b"x", b"xx"), (b"xx", b"x")];
    for (signed, body) in sent {
        let call = Call { body: Some(Body::of(signed)), ..daemon.renew_now().await };
        let refusal = daemon.refused("renew", &call.sign(&daemon.key).unwrap(), body).await;
        assert_eq!(refusal.code, Code::WrongBody, "{body:?}");
    }
    assert_eq!(daemon.health().await, before);
}

#[tokio::test]
async fn a_call_that_breaks_off_is_not_executed_and_not_taken_again() {
    let daemon = Daemon::start().await;
    let before = daemon.health().await;
    let call = Call { body: Some(Body::of(b"xyz")), ..daemon.renew_now().await };
    let signed = call.sign(&daemon.key).unwrap();
    let head = format!(
        "POST /v1/renew HTTP/1.1\r\nhost: x\r\n{CALL}: {}\r\n{SIGNATURE}: {}\r\n{CONTENT_LENGTH}: 3\r\n\r\nxy",
        signed.call, signed.signature
    );
    for cut in [20, head.len() / 2, head.len()] {
        let mut stream = TcpStream::connect(daemon.address).await.unwrap();
        stream.write_all(&head.as_bytes()[..cut]).await.unwrap();
        stream.shutdown().await.unwrap();
        // The daemon has seen the end, too.
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }
    assert_eq!(daemon.health().await, before);
    assert_eq!(daemon.refused("renew", &signed, "xyz").await.code, Code::Seen);
    assert_eq!(daemon.health().await, before);
}

#[tokio::test]
async fn a_call_is_taken_once_however_often_it_comes_at_once() {
    let daemon = Daemon::start().await;
    let session = daemon.health().await.session;
    let call = Call { session, ..daemon.call(Operation::Hello {}, b"") };
    let signed = call.sign(&daemon.key).unwrap();
    let sent = (0..32).map(|_| {
        let request = request("hello", &signed).body(Full::<Bytes>::default()).unwrap();
        async { json::<Hello>(send(daemon.address, request).await.unwrap()).await }
    });
    let (obeyed, refused): (Vec<_>, Vec<_>) = join_all(sent).await.into_iter().partition(Result::is_ok);
    assert_eq!((obeyed.len(), refused.len()), (1, 31));
    assert!(refused.iter().all(|it| it.as_ref().is_err_and(|it| it.code == Code::Seen)));
}

#[tokio::test]
async fn calls_of_before_a_renewal_are_not_obeyed_after_it() {
    let daemon = Daemon::start().await;
    let old = daemon.renew_now().await.sign(&daemon.key).unwrap();
    let renewed: Health = daemon.ask(Operation::Renew {}, "").await.unwrap();
    let refusal = daemon.refused("renew", &old, "").await;
    assert_eq!((refusal.code, refusal.session), (Code::Session, Some(renewed.session)));
    assert_eq!(daemon.health().await, renewed);
}

#[tokio::test]
async fn a_refusal_after_the_proof_names_its_call() {
    let daemon = Daemon::start().await;
    let call = daemon.call(Operation::Stat(file::At { path: "\0".into(), user: None }), b"");
    let call = Call { session: daemon.health().await.session, ..call };
    let request = request("stat", &call.sign(&daemon.key).unwrap()).body(Full::<Bytes>::default()).unwrap();
    let answer = send(daemon.address, request).await.unwrap();
    assert!(answer.status().is_client_error());
    assert_eq!(answer.headers()[CALL], call.call.to_string());
}

impl Daemon {
    /// A call of the present session that shows whether it was executed.
    async fn renew_now(&self) -> Call {
        let session: Unique = self.health().await.session;
        Call { session, ..self.call(Operation::Renew {}, b"") }
    }

    /// Sends a call that must not be obeyed.
    async fn refused(&self, operation: &str, signed: &Signed, body: impl Into<Bytes>) -> Refusal {
        let request = request(operation, signed).body(Full::new(body.into())).unwrap();
        json::<Health>(send(self.address, request).await.unwrap()).await.unwrap_err()
    }
}
