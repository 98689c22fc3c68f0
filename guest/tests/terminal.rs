//! Terminals, over a websocket of the real daemon.

use std::os::fd::AsFd;

use futures_util::{SinkExt, StreamExt};
use http::{Request, StatusCode};
use pve_edge_guest_protocol::{
    Unique,
    answer::Code,
    call::Operation,
    process::{After, Follow, FromTerminal, Named, Process, Resize, Size, Spec, Start, Terminal, ToTerminal},
};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Error, Message, handshake::client::generate_key, protocol::frame::coding::CloseCode},
};

use crate::{
    daemon::{Daemon, request, unique},
    processes::{lives, until as holds},
};

type Websocket = WebSocketStream<TcpStream>;

/// Opens a terminal; the error is the status of the answer.
async fn open(daemon: &Daemon, terminal: Terminal) -> Result<Websocket, StatusCode> {
    let call = daemon.call(Operation::Terminal(terminal), b"");
    let signed = call.sign(&daemon.key).unwrap();
    let (parts, ()) = request(call.operation.name(), &signed).body(()).unwrap().into_parts();
    let mut asked = Request::get(format!("ws://{}{}", daemon.address, parts.uri))
        .header("host", "guest")
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", generate_key())
        .body(())
        .unwrap();
    asked.headers_mut().extend(parts.headers);
    match client_async(asked, TcpStream::connect(daemon.address).await.unwrap()).await {
        Ok((websocket, answer)) => {
            assert_eq!(answer.headers()["edge-call"], call.call.to_string().as_str());
            Ok(websocket)
        }
        Err(Error::Http(answer)) => Err(answer.status()),
        Err(error) => panic!("{error}"),
    }
}

async fn start(daemon: &Daemon, spec: Spec) -> Unique {
    let start = Operation::Start(Start { process: unique(), keyed: None });
    daemon.ask::<Process>(start, serde_json::to_vec(&spec).unwrap()).await.unwrap().process
}

fn shell() -> Spec {
    Spec {
        argv: Some(vec!["sh".into()]),
        pty: Some(Size { cols: 80, rows: 24 }),
        stdin: true,
        ..Spec::default()
    }
}

fn at(process: Unique) -> Terminal {
    Terminal { process, after: After::Start, hangup: false }
}

/// Text messages until one that has this, and all bytes that came before it.
async fn until(websocket: &mut Websocket, wanted: impl Fn(&FromTerminal, &str) -> bool) -> String {
    let mut output = String::new();
    loop {
        let told = match websocket.next().await.expect("more").expect("a message") {
            Message::Binary(bytes) => {
                output.push_str(&String::from_utf8_lossy(&bytes));
                FromTerminal::Gap { bytes: 0 }
            }
            Message::Text(text) => serde_json::from_str(&text).unwrap(),
            _ => continue,
        };
        if wanted(&told, &output) {
            return output;
        }
    }
}

async fn printed(websocket: &mut Websocket, text: &str) -> String {
    until(websocket, |_, output| output.contains(text)).await
}

async fn send(websocket: &mut Websocket, bytes: &[u8]) {
    websocket.send(Message::binary(bytes.to_vec())).await.unwrap();
}

#[tokio::test]
async fn keys_go_in_and_the_screen_comes_out() {
    let daemon = Daemon::start().await;
    let mut websocket = open(&daemon, at(start(&daemon, shell()).await)).await.unwrap();
    until(&mut websocket, |told, _| matches!(told, FromTerminal::Started(it) if it.pty)).await;
    send(&mut websocket, b"stty size; echo $((40 + 2))\n").await;
    // Both may come at once.
    assert!(printed(&mut websocket, "42").await.contains("24 80"));
    let size = serde_json::to_string(&ToTerminal::Resize(Size { cols: 100, rows: 30 })).unwrap();
    websocket.send(Message::text(size)).await.unwrap();
    // The size and the bytes are given on in the order in which they were sent.
    send(&mut websocket, b"stty size\n").await;
    printed(&mut websocket, "30 100").await;
    send(&mut websocket, b"exit 3\n").await;
    until(&mut websocket, |told, _| matches!(told, FromTerminal::Exit(it) if it.exit_code == 3)).await;
    let Some(Ok(Message::Close(Some(close)))) = websocket.next().await else { panic!("it is not closed") };
    assert_eq!(close.code, CloseCode::Normal);
}

#[tokio::test]
async fn a_terminal_of_no_size_stays_as_it_is() {
    let daemon = Daemon::start().await;
    let process = start(&daemon, shell()).await;
    let mut websocket = open(&daemon, at(process)).await.unwrap();
    for (cols, rows) in [(0, 30), (100, 0), (0, 0)] {
        let size = Size { cols, rows };
        let resize = Operation::Resize(Resize { process, size });
        daemon.ask::<Process>(resize, "").await.unwrap();
        let resize = serde_json::to_string(&ToTerminal::Resize(size)).unwrap();
        websocket.send(Message::text(resize)).await.unwrap();
    }
    send(&mut websocket, b"stty size; echo $((40 + 2))\n").await;
    let output = printed(&mut websocket, "42").await;
    assert!(output.contains("24 80"), "{output}");
}

#[tokio::test]
async fn a_terminal_that_has_no_place_among_the_followers_is_refused_before_it_opens() {
    let daemon = Daemon::start().await;
    let process = start(&daemon, Spec { command: Some("sleep 100".into()), ..Spec::default() }).await;
    let follow = Follow { process, after: After::Start, wait_ms: None, most: None };
    let mut followers = Vec::new();
    loop {
        match daemon.open(Operation::Follow(follow.clone()), "").await {
            Ok(follower) => followers.push(follower),
            Err(refusal) => break assert_eq!(refusal.code, Code::Busy),
        }
    }
    assert_eq!(open(&daemon, at(process)).await.err(), Some(StatusCode::SERVICE_UNAVAILABLE));
    drop(followers);
    while open(&daemon, at(process)).await.is_err() {}
}

#[tokio::test]
async fn a_process_goes_on_without_its_terminal_unless_that_hangs_up() {
    let daemon = Daemon::start().await;
    let process = start(&daemon, shell()).await;
    let mut websocket = open(&daemon, at(process)).await.unwrap();
    send(&mut websocket, b"echo first-$((1 + 1))\n").await;
    printed(&mut websocket, "first-2").await;
    drop(websocket);
    let mut again = open(&daemon, Terminal { hangup: true, ..at(process) }).await.unwrap();
    send(&mut again, b"echo second-$((1 + 1))\n").await;
    let output = printed(&mut again, "second-2").await;
    assert!(output.contains("first-2"), "{output}");
    again.close(None).await.unwrap();
    for _ in 0..1_000 {
        let named = Operation::Process(Named { process });
        match daemon.ask::<Process>(named, "").await {
            Err(refusal) => return assert_eq!(refusal.code, Code::NoSuchProcess),
            Ok(_) => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
        }
    }
    panic!("it runs on");
}

/// A network of this thread and of what it starts, which ends when this is dropped.
struct Network(std::process::Child);

impl Network {
    fn enter() -> Option<Self> {
        use std::{fs::File, io::Read, process::Command};
        let hold = ["-n", "sh", "-ec", "ip link set lo up; echo up; exec sleep 1000"];
        let mut holder =
            Command::new("unshare").args(hold).stdout(std::process::Stdio::piped()).spawn().ok()?;
        let is_up = holder.stdout.take()?.read_exact(&mut [0; 3]).is_ok();
        let own = Self(holder);
        let entered = File::open(format!("/proc/{}/ns/net", own.0.id())).is_ok_and(|network| {
            let kind = Some(rustix::thread::LinkNameSpaceType::Network);
            is_up && rustix::thread::move_into_link_name_space(network.as_fd(), kind).is_ok()
        });
        entered.then_some(own)
    }

    /// From now on nothing arrives any more, the ends of connections neither.
    fn cut(&self) {
        let cut = std::process::Command::new("ip").args(["link", "set", "lo", "down"]).status();
        assert!(cut.unwrap().success());
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = (self.0.kill(), self.0.wait());
    }
}

#[tokio::test]
async fn a_shell_ends_with_a_terminal_whose_client_goes_away_without_a_word() {
    let Some(network) = Network::enter() else {
        println!("skipped: no network can be made");
        return;
    };
    let daemon = Daemon::start_with(&["--limits", r#"{"client_ms":1000}"#]).await;
    for is_cut in [false, true] {
        let process = start(&daemon, shell()).await;
        let named = Operation::Process(Named { process });
        let pid = daemon.ask::<Process>(named, "").await.unwrap().pid.unwrap();
        let mut websocket = open(&daemon, Terminal { hangup: true, ..at(process) }).await.unwrap();
        send(&mut websocket, b"while :; do echo $((40 + 2)); sleep 0.1; done\n").await;
        printed(&mut websocket, "42").await;
        if is_cut {
            network.cut();
        }
        let client = is_cut.then_some(websocket);
        holds("the shell has ended", || !lives(pid)).await;
        drop(client);
    }
}

#[tokio::test]
async fn more_bytes_than_a_process_takes_at_once_arrive_in_order() {
    let daemon = Daemon::start().await;
    let spec = Spec {
        command: Some("sleep 0.2; head -c 3000000 | sha256sum".into()),
        stdin: true,
        ..Spec::default()
    };
    let mut websocket = open(&daemon, at(start(&daemon, spec).await)).await.unwrap();
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|it| (it % 251) as u8).collect();
    for part in bytes.chunks(700_000) {
        send(&mut websocket, part).await;
    }
    let digest = hex::encode(pve_edge_guest_protocol::call::Digest256::of(&bytes).0);
    printed(&mut websocket, &digest).await;
    until(&mut websocket, |told, _| matches!(told, FromTerminal::Exit(it) if it.exit_code == 0)).await;
}

#[tokio::test]
async fn two_terminals_of_a_process_lose_nothing_of_what_each_types() {
    let daemon = Daemon::start().await;
    let process = start(&daemon, shell()).await;
    let mut one = open(&daemon, at(process)).await.unwrap();
    let mut other = open(&daemon, at(process)).await.unwrap();
    for round in 0..3 {
        for websocket in [&mut one, &mut other] {
            send(websocket, format!("echo typed-$(({round} + 40))\n").as_bytes()).await;
            let typed = format!("typed-{}", round + 40);
            printed(websocket, &typed).await;
        }
    }
    let mut last = open(&daemon, at(process)).await.unwrap();
    send(&mut last, b"echo $((100 + 1))\n").await;
    let all = printed(&mut last, "101").await;
    assert_eq!(all.matches("typed-4").count(), 6, "{all}");
}

#[tokio::test]
async fn what_is_no_terminal_is_refused() {
    let daemon = Daemon::start().await;
    daemon.ask::<pve_edge_guest_protocol::answer::Hello>(Operation::Hello {}, "").await.unwrap();
    assert_eq!(open(&daemon, at(unique())).await.err(), Some(StatusCode::NOT_FOUND));
    let process = start(&daemon, shell()).await;
    // A call that is taken, and no websocket.
    let call = daemon.call(Operation::Terminal(at(process)), b"");
    let signed = call.sign(&daemon.key).unwrap();
    let mut asked = request("terminal", &signed).body(http_body_util::Empty::<bytes::Bytes>::new()).unwrap();
    *asked.method_mut() = http::Method::GET;
    let answer = crate::daemon::send(daemon.address, asked).await.unwrap();
    assert_eq!(crate::daemon::refusal(answer).await.code, Code::BadCall);
    // The same call once more, and one that nobody has signed.
    let mut again = request("terminal", &signed).body(http_body_util::Empty::<bytes::Bytes>::new()).unwrap();
    *again.method_mut() = http::Method::GET;
    let answer = crate::daemon::send(daemon.address, again).await.unwrap();
    assert_eq!(crate::daemon::refusal(answer).await.code, Code::Seen);
    let unsigned = Request::get("/v1/terminal").body(http_body_util::Empty::<bytes::Bytes>::new()).unwrap();
    let answer = crate::daemon::send(daemon.address, unsigned).await.unwrap();
    assert_eq!(crate::daemon::refusal(answer).await.code, Code::Unauthorized);
}
