//! Links: websockets that core opens itself.

use std::{sync::Arc, time::Duration};

use futures_util::{SinkExt, StreamExt};
use http::{HeaderMap, Request, StatusCode};
use pve_edge_bed::serve::text;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{Notify, watch},
};
use tokio_tungstenite::{
    WebSocketStream, accept_async, accept_hdr_async,
    tungstenite::{
        Message,
        handshake::{derive_accept_key, server},
    },
};

use super::{
    client::{MIB, Pipe},
    talk::{TALK, filling},
    upstream::Upstream,
};

type Socket = WebSocketStream<TcpStream>;

pub(super) async fn messages_pass_both_ways(pipe: Pipe) {
    let upstream = Upstream::tcp(|stream| echo(stream, async |_, _| false)).await;
    let script = "say grüße\nhear\nfill 65536\nfill 0\nfill 126\nhear\nhear\nhear";
    let heard = talk(&pipe, upstream.port, script).await;
    let lengths = [0x10000, 0, 126].map(|length| message(&filling(length)));
    assert!(heard == [message("grüße".as_bytes()), lengths.concat()].concat(), "{}", shown(&heard));
}

/// A text message is bytes, too.
pub(super) async fn a_message_may_have_a_mebibyte(pipe: Pipe) {
    let upstream = Upstream::tcp(|stream| {
        echo(stream, async |socket, asked| {
            let length = asked.parse().expect("a length");
            send(socket, Message::text("grüße")).await;
            send(socket, Message::binary(filling(length))).await;
            true
        })
    })
    .await;
    let heard = talk(&pipe, upstream.port, &format!("say {MIB}\nhear\nhear")).await;
    let text = message("grüße".as_bytes());
    assert!(heard == [text.clone(), message(&filling(MIB))].concat(), "{}", shown(&heard));
    let heard = talk(&pipe, upstream.port, &format!("say {}\nhear\nhear\nhear", MIB + 1)).await;
    assert_eq!(shown(&heard), shown(&[&text[..], b"failed Maybe TooLarge\n"].concat()));
}

/// Those of the request as they are, and none that core has not asked for.
pub(super) async fn the_opening_has_the_headers_of_its_request(pipe: Pipe) {
    let (tell, told) = watch::channel(HeaderMap::new());
    let upstream = Upstream::tcp(move |stream| {
        let tell = tell.clone();
        async move {
            #[expect(clippy::result_large_err, reason = "the library's own type")]
            let greet = |request: &server::Request, mut response: server::Response| {
                assert_eq!(request.uri(), "/socket?a=b%3A&c");
                tell.send_replace(request.headers().clone());
                response.headers_mut().insert("sec-websocket-protocol", "binary".parse().expect("a header"));
                Ok(response)
            };
            let mut socket = accept_hdr_async(stream, greet).await.expect("a websocket");
            send(&mut socket, Message::binary("hello")).await;
        }
    })
    .await;
    let request = Request::post("/socket?a=b%3A&c")
        .header("authorization", "PVEAPIToken=edge@pve!api=0f1e")
        .header("cookie", "PVEAuthCookie=PVE:a%3Ab")
        .header("sec-websocket-protocol", "binary");
    let answer = pipe.send(upstream.port, request.header(TALK, "yes"), "hear".into()).await;
    assert_eq!(shown(&answer.bytes().await), "message 5\nhello\n");
    let headers = told.borrow();
    for (name, value) in [
        ("authorization", "PVEAPIToken=edge@pve!api=0f1e"),
        ("cookie", "PVEAuthCookie=PVE:a%3Ab"),
        ("sec-websocket-protocol", "binary"),
        ("sec-websocket-version", "13"),
    ] {
        let values: Vec<_> = headers.get_all(name).iter().collect();
        assert_eq!(values, [value], "{name}");
    }
    assert!(!headers.contains_key("sec-websocket-extensions") && !headers.contains_key(TALK), "{headers:?}");
}

pub(super) async fn a_refusal_is_told(pipe: Pipe) {
    for (head, length, told) in [
        ("401 No ticket", 12, 12),
        ("404 Not Found", 0, 0),
        ("200 OK", 12, 12),
        ("302 Found", 12, 12),
        ("500 Too much", 100_000, 1 << 16),
    ] {
        let upstream = Upstream::tcp(move |mut stream| async move {
            read_head(&mut stream).await;
            let head = format!("HTTP/1.1 {head}\r\nlocation: /elsewhere\r\ncontent-length: {length}\r\n\r\n");
            let _ = stream.write_all(&[head.into_bytes(), filling(length)].concat()).await;
            let _ = stream.read(&mut [0]).await;
        })
        .await;
        let heard = talk(&pipe, upstream.port, "hear").await;
        let expected = [format!("refused {head}\n").into_bytes(), filling(told)].concat();
        assert!(heard == expected, "{}", shown(&heard));
    }
}

/// A server that closes, and one that agrees to another key.
pub(super) async fn what_is_no_websocket_is_an_error(pipe: Pipe) {
    let wrong = derive_accept_key(b"another");
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: {wrong}\r\n\r\n"
    );
    for answer in [String::new(), head.replace(&wrong, "").replace("sec-websocket-accept: \r\n", ""), head] {
        let told = answer.clone();
        let upstream = Upstream::tcp(move |mut stream| {
            let answer = told.clone();
            async move {
                read_head(&mut stream).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        })
        .await;
        let heard = shown(&talk(&pipe, upstream.port, "hear").await);
        // workerd makes an answer of its own where it does not like the upstream's.
        let refused = !answer.is_empty() && heard.starts_with("refused 502 ");
        assert!(refused || heard.starts_with("failed Maybe "), "{heard} of {answer}");
    }
}

/// An opcode that no websocket has, and a message that is larger than workerd takes.
pub(super) async fn babble_is_an_error(pipe: Pipe) {
    for (frame, failure) in [
        (vec![0x83, 0], "Cut"),
        ([&[0x82, 127, 0, 0, 0, 0, 4, 0, 0, 0], &filling(64 * MIB)[..]].concat(), "TooLarge"),
    ] {
        let upstream = Upstream::tcp(move |stream| {
            let frame = frame.clone();
            async move {
                let mut socket = accept_async(stream).await.expect("a websocket");
                let _ = socket.get_mut().write_all(&frame).await;
                while socket.next().await.is_some() {}
            }
        })
        .await;
        let heard = talk(&pipe, upstream.port, "hear").await;
        assert_eq!(shown(&heard), format!("failed Maybe {failure}\n"));
    }
}

/// What came before it is heard.
pub(super) async fn the_end_says_nothing(pipe: Pipe) {
    let upstream = Upstream::tcp(|stream| {
        echo(stream, async |socket, how| {
            send(socket, Message::binary("last")).await;
            match how.as_str() {
                "close" => socket.close(None).await.expect("a websocket"),
                "reset" => {
                    // The reset would overtake the message.
                    socket.next().await.expect("a word").expect("a websocket");
                    socket.get_ref().set_zero_linger().expect("a socket");
                }
                _ => {}
            }
            how != "close"
        })
    })
    .await;
    for how in ["close", "leave", "reset"] {
        let heard = talk(&pipe, upstream.port, &format!("say {how}\nhear\nsay now\nhear\nhear")).await;
        assert_eq!(shown(&heard), "message 4\nlast\nend\nend\n", "{how}");
    }
}

pub(super) async fn a_wait_that_is_given_up_loses_nothing(pipe: Pipe) {
    let upstream = Upstream::tcp(|mut stream| async move {
        let head = read_head(&mut stream).await;
        let key = head.lines().find_map(|it| {
            let (name, value) = it.split_once(": ")?;
            name.eq_ignore_ascii_case("sec-websocket-key").then_some(value)
        });
        let accept = derive_accept_key(key.expect("a key").as_bytes());
        let head = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n";
        let head = format!("{head}sec-websocket-accept: {accept}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.expect("a client");
        stream.set_nodelay(true).expect("a socket");
        for byte in [&[0x82, 5][..], b"hello", &[0x01, 3], b"two", &[0x80, 6], b" parts"].concat() {
            stream.write_all(&[byte]).await.expect("a client");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let heard = talk(&pipe, upstream.port, "glance\nglance\nglance").await;
    assert_eq!(shown(&heard), "message 5\nhello\nmessage 9\ntwo parts\nend\n");
}

/// The script goes on when the upstream has the message, and nobody waits for one of the upstream's.
pub(super) async fn a_message_goes_out_unawaited(pipe: Pipe) {
    let seen = Arc::new(Notify::new());
    let other = answering_after(seen.clone()).await;
    let upstream = Upstream::tcp(move |stream| {
        let seen = seen.clone();
        async move {
            let mut socket = accept_async(stream).await.expect("a websocket");
            assert_eq!(socket.next().await.expect("a message").expect("a websocket"), Message::binary("now"));
            seen.notify_one();
            socket.next().await;
        }
    })
    .await;
    let heard = talk(&pipe, upstream.port, &format!("say now\nget {}", other.port)).await;
    assert_eq!(shown(&heard), "answer 200\n");
}

/// The script goes on when the upstream's connection has ended.
pub(super) async fn a_dropped_link_ends_its_connection(pipe: Pipe) {
    let ended = Arc::new(Notify::new());
    let other = answering_after(ended.clone()).await;
    let upstream = Upstream::tcp(move |stream| {
        let ended = ended.clone();
        async move {
            let mut socket = accept_async(stream).await.expect("a websocket");
            while let Some(Ok(message)) = socket.next().await {
                if message.is_binary() {
                    send(&mut socket, message).await;
                }
            }
            ended.notify_one();
        }
    })
    .await;
    let script = format!("say here\nhear\ndrop\nget {}\nhear", other.port);
    let heard = talk(&pipe, upstream.port, &script).await;
    assert_eq!(shown(&heard), "message 4\nhere\nanswer 200\ndropped\n");
}

/// What the pipe heard that took these steps.
async fn talk(pipe: &Pipe, port: u16, script: &str) -> Vec<u8> {
    let request = Request::post("/socket").header(TALK, "yes");
    let answer = pipe.send(port, request, script.to_owned().into()).await;
    assert_eq!(answer.status, 200);
    answer.bytes().await
}

/// How a message stands in the answer.
fn message(bytes: &[u8]) -> Vec<u8> {
    [format!("message {}\n", bytes.len()).as_bytes(), bytes, b"\n"].concat()
}

/// What was heard, for a person.
fn shown(heard: &[u8]) -> String {
    String::from_utf8_lossy(heard).chars().take(500).collect()
}

/// An upstream that sends binary messages back; a word that `odd` takes may end it.
async fn echo(stream: TcpStream, odd: impl AsyncFn(&mut Socket, String) -> bool) {
    let mut socket = accept_async(stream).await.expect("a websocket");
    while let Some(Ok(message)) = socket.next().await {
        let word = message.clone().into_data();
        if odd(&mut socket, String::from_utf8_lossy(&word).into_owned()).await {
            return;
        }
        if message.is_binary() {
            let _ = socket.send(message).await;
        }
    }
}

async fn send(socket: &mut Socket, message: Message) {
    let _ = socket.send(message).await;
}

/// A server that answers when something has happened.
async fn answering_after(happened: Arc<Notify>) -> Upstream {
    Upstream::http(move |_| {
        let happened = happened.clone();
        async move {
            happened.notified().await;
            text(StatusCode::OK, "it has")
        }
    })
    .await
}

async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("a request"));
    }
    String::from_utf8(head).expect("text")
}
