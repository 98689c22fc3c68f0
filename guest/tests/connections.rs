//! Connections: those that only take room keep nobody out who can sign.

use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use pve_edge_guest_protocol::{
    HEALTH_PATH,
    answer::Hello,
    call::{Call, Operation},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::daemon::{Daemon, json, request, resume, stop};

#[tokio::test]
async fn connections_that_only_take_room_keep_nobody_out() {
    let daemon = Daemon::start().await;
    let mut idle = Vec::new();
    for number in 0..200 {
        let mut stream = TcpStream::connect(daemon.address).await.unwrap();
        if number % 2 == 0 {
            stream.write_all(b"POST /v1/hello HTTP/1.1\r\nedge-call: ").await.unwrap();
        }
        idle.push(stream);
        if number % 50 == 49 {
            assert!(daemon.ask::<Hello>(Operation::Hello {}, "").await.is_ok());
        }
    }
    // The oldest were ended for the new ones.
    let oldest = &mut idle[0];
    let mut rest = Vec::new();
    let _ = oldest.read_to_end(&mut rest).await;
    assert!(rest.is_empty());
}

#[tokio::test]
async fn a_connection_on_which_a_call_was_obeyed_is_not_ended_for_others() {
    let daemon = Daemon::start().await;
    let stream = TcpStream::connect(daemon.address).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let session = daemon.health().await.session;
    for _ in 0..2 {
        let call = Call { session, ..daemon.call(Operation::Hello {}, b"") };
        let signed = call.sign(&daemon.key).unwrap();
        let request = request("hello", &signed).body(Full::new(bytes::Bytes::new())).unwrap();
        sender.ready().await.unwrap();
        assert!(json::<Hello>(sender.send_request(request).await.unwrap()).await.is_ok());
        let mut others = Vec::new();
        for _ in 0..100 {
            others.push(TcpStream::connect(daemon.address).await.unwrap());
        }
        // All of them were accepted before this is answered.
        daemon.health().await;
    }
}

#[tokio::test]
async fn calls_that_come_all_at_once_are_all_obeyed() {
    let daemon = Daemon::start().await;
    daemon.ask::<Hello>(Operation::Hello {}, "").await.unwrap();
    // All of them are there before the first is looked at: as many as the socket holds.
    let serve = daemon.serve().unwrap();
    stop(serve);
    let mut streams = Vec::new();
    for _ in 0..120 {
        let signed = daemon.call(Operation::Hello {}, b"").sign(&daemon.key).unwrap();
        let head = format!(
            "POST /v1/hello HTTP/1.1\r\nhost: x\r\nedge-call: {}\r\nedge-signature: {}\r\ncontent-length: 0\r\n\r\n",
            signed.call, signed.signature
        );
        let mut stream = TcpStream::connect(daemon.address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        streams.push(stream);
    }
    resume(serve);
    for (number, stream) in streams.iter_mut().enumerate() {
        let mut status = [0; 12];
        let read = stream.read_exact(&mut status).await;
        assert!(read.is_ok() && status == *b"HTTP/1.1 200", "{number}: {}", status.escape_ascii());
    }
}

#[tokio::test]
async fn requests_on_one_connection_are_answered_in_their_order() {
    let daemon = Daemon::start().await;
    let mut stream = TcpStream::connect(daemon.address).await.unwrap();
    let health = format!("GET {HEALTH_PATH} HTTP/1.1\r\nhost: x\r\n\r\n");
    let last = format!("POST {HEALTH_PATH} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(format!("{health}{health}{last}").as_bytes()).await.unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).await.unwrap();
    let states: Vec<_> = answers.split("HTTP/1.1 ").skip(1).filter_map(|it| it.get(..3)).collect();
    assert_eq!(states, ["200", "200", "400"]);
}
