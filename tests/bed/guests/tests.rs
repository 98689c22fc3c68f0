//! Guests as their clients see them: over HTTP, with real processes.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use super::{GuestState, Guests, Inventory};
use crate::{
    serve::{serve, text},
    sim::disk::Disk,
};
use futures_util::StreamExt;
use http::{Method, Request, Uri};
use pve_edge_core::{
    access::secret::Keyring,
    io::{Answer, Io, RequestBody, Whole, fetch, proxy},
};
use pve_edge_lambda::net::{Net, Transport};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};

const VMID: u32 = 200_001;
const SECRET: &str = "secret-of-the-guests-own-tests-0123456789";

/// One guest, which is absent, stopped or running.
#[derive(Default)]
struct One(AtomicU8);

const ABSENT: u8 = 1;
const STOPPED: u8 = 2;

impl Inventory for One {
    fn guest(&self, vmid: u32) -> Option<GuestState> {
        let state = self.0.load(Ordering::SeqCst);
        (vmid == VMID && state != ABSENT).then(|| GuestState {
            running: state != STOPPED,
            token: Some("t0ken".to_owned()),
            ip: Ipv4Addr::new(127, 64, 7, 9).into(),
            card: None,
            is_bare: false,
        })
    }

    fn at(&self, ip: IpAddr) -> Option<u32> {
        (ip == Ipv4Addr::new(127, 64, 7, 9)).then_some(VMID)
    }
}

struct World {
    one: Arc<One>,
    guests: Guests,
    port: u16,
    net: Net,
}

impl World {
    async fn new() -> Self {
        let one = Arc::new(One::default());
        let guests = Guests::new(one.clone(), None);
        guests.admit(SECRET, "home").expect("secrets");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let proxy = guests.clone();
        let handler = move |request| {
            let proxy = proxy.clone();
            async move {
                let reply = proxy.proxy(request).await;
                reply.unwrap_or_else(|_| text(http::StatusCode::IM_A_TEAPOT, "the API"))
            }
        };
        tokio::spawn(serve(listener, handler, std::future::pending()));
        let net = Transport::new(true).expect("trusted roots").net().expect("a client");
        Self { one, guests, port, net }
    }

    fn url(&self, port: u16, path: &str) -> Uri {
        let url = format!("http://port-{port}-vm-{VMID}.localhost:{}{path}", self.port);
        url.parse().expect("a URL")
    }

    /// Asks for a port of the guest, as the deployment asks the proxy beside PVE.
    async fn visit(&self, port: u16, path: &str) -> Whole {
        let request = Request::get(format!("http://gate.localhost:{}{path}", self.port))
            .header(proxy::KEY, self.key())
            .header(proxy::TO, format!("{VMID}:{port}"))
            .header(proxy::CLIENT, "192.0.2.1")
            .body(Vec::new());
        let deadline = self.net.now() + Duration::from_secs(9);
        fetch(&self.net, request.expect("a request"), deadline, 1 << 20).await.expect("an answer")
    }

    fn key(&self) -> String {
        Keyring::parse(SECRET).expect("secrets").newest().proxy_key("home")
    }

    async fn get(&self, uri: Uri) -> Whole {
        let mut request = Request::new(Vec::new());
        *request.uri_mut() = uri;
        let deadline = self.net.now() + Duration::from_secs(9);
        fetch(&self.net, request, deadline, 1 << 26).await.expect("an answer")
    }

    async fn open(&self, body: Value) -> Answer<<Net as Io>::Body> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(self.url(39375, "/exec"))
            .header("content-type", "application/json")
            .header("authorization", "Bearer t0ken")
            .body(body.to_string().into_bytes())
            .expect("a request");
        self.net
            .open(request.map(RequestBody::Whole), self.net.now() + Duration::from_secs(20))
            .await
            .expect("an answer")
    }

    /// The lines that came; all of them when the last is `exit`.
    async fn exec(&self, body: Value) -> Vec<Value> {
        let answer = self.open(body).await;
        assert_eq!(answer.status, 200);
        let bytes: Vec<u8> = answer.body.map(|chunk| chunk.expect("a chunk")).concat().await;
        let lines = bytes.split_inclusive(|&byte| byte == b'\n');
        lines.map(|line| serde_json::from_slice(line).expect("JSON")).collect()
    }

    async fn shell(&self, command: &str) -> String {
        let lines = self.exec(json!({"command": command})).await;
        let data: Vec<_> = lines.iter().filter_map(|line| line["data"].as_str()).collect();
        data.join("\n")
    }
}

async fn eventually(what: &str, mut done: impl AsyncFnMut() -> bool) {
    for _ in 0..100 {
        if done().await {
            return;
        }
        sleep(Duration::from_millis(20)).await;
    }
    panic!("never: {what}");
}

fn alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_streams_its_output_and_ends_with_its_code() {
    let world = World::new().await;
    let lines = world.exec(json!({"command": "printf 'a\\n\\nb'; echo c >&2; exit 7"})).await;
    assert_eq!(lines.last(), Some(&json!({"type": "exit", "code": 7})));
    let of = |kind: &'static str| {
        lines.iter().filter(move |line| line["type"] == kind).map(|line| line["data"].clone())
    };
    assert_eq!(of("stdout").collect::<Vec<_>>(), ["a", "", "b"]);
    assert_eq!(of("stderr").collect::<Vec<_>>(), ["c"]);

    let long = world.shell("head -c 3000000 /dev/zero | tr '\\0' x").await;
    assert_eq!(long.len(), 3_000_000);
    let env = world.shell("env").await;
    assert!(env.contains("SANDBOX_IP=127.64.7.9") && !env.contains("CARGO"), "{env}");
    assert_eq!(world.shell("touch here; ls; test $PWD = $HOME || echo no").await, "here");
    assert_eq!(world.get(world.url(39375, "/healthz")).await.body, b"ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_takes_too_long_is_killed() {
    let world = World::new().await;
    let lines = world.exec(json!({"command": "echo $$; sleep 60 & sleep 60", "timeout_ms": 200})).await;
    assert_eq!(lines[1], json!({"type": "error", "message": "timeout after 200ms"}));
    assert_eq!(lines[2], json!({"type": "exit", "code": 124}));
    let pid = lines[0]["data"].as_str().expect("a pid");
    eventually("killed", async || !alive(pid)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_ends_its_command() {
    let world = World::new().await;
    let mut answer = world.open(json!({"command": "echo $$; sleep 60"})).await;
    let line = answer.body.next().await.expect("a line").expect("whole");
    let line: Value = serde_json::from_slice(&line).expect("JSON");
    let pid = line["data"].as_str().expect("a pid");
    assert!(alive(pid));
    drop(answer);
    eventually("killed", async || !alive(pid)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_refused() {
    let world = World::new().await;
    let check = async |method: Method, token: &str, content_type: &str, body: &str, status: u16| {
        let request = Request::builder()
            .method(method)
            .uri(world.url(39375, "/exec"))
            .header("content-type", content_type)
            .header("authorization", token)
            .body(body.into())
            .expect("a request");
        let deadline = world.net.now() + Duration::from_secs(9);
        let answer = fetch(&world.net, request, deadline, 1 << 20).await.expect("an answer");
        assert_eq!(answer.status, status, "{token} {content_type} {body}");
        answer.body
    };
    let (json, good) = ("application/json", r#"{"command":"true"}"#);
    let body = check(Method::POST, "Bearer wrong", json, good, 401).await;
    assert_eq!(body, br#"{"error":"Unauthorized"}"#);
    check(Method::POST, "Bearer t0ken", "text/plain", good, 415).await;
    check(Method::POST, "Bearer t0ken", json, "{", 400).await;
    check(Method::POST, "Bearer t0ken", json, r#"{"command":""}"#, 400).await;
    check(Method::POST, "Bearer t0ken", json, r#"{"command":"true","timeout_ms":-1}"#, 400).await;
    check(Method::GET, "Bearer t0ken", json, "", 405).await;
    check(Method::POST, "Bearer t0ken", json, good, 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_outlives_its_guest() {
    let world = World::new().await;
    let start = "sleep 60 >/dev/null 2>&1 & echo $!; setsid sleep 60 >/dev/null 2>&1 & echo $!; pwd";
    let started = world.shell(start).await;
    let [group, session, folder] = started.lines().collect::<Vec<_>>()[..] else { panic!("{started}") };
    sleep(Duration::from_millis(300)).await;
    assert!(alive(group) && alive(session), "a background process runs on");

    world.one.0.store(STOPPED, Ordering::SeqCst);
    eventually("stopped", async || !alive(group) && !alive(session)).await;
    assert!(Path::new(folder).exists(), "a stopped guest keeps its disk");
    assert_eq!(world.get(world.url(39375, "/healthz")).await.status, 502);

    world.one.0.store(0, Ordering::SeqCst);
    assert_eq!(world.shell("pwd").await, folder);
    world.one.0.store(ABSENT, Ordering::SeqCst);
    eventually("removed", async || !Path::new(folder).exists()).await;

    world.one.0.store(0, Ordering::SeqCst);
    let again = world.shell("sleep 60 >/dev/null 2>&1 & echo $!; pwd").await;
    let (pid, folder) = again.split_once('\n').expect("two lines");
    world.guests.close();
    assert!(!alive(pid) && !Path::new(folder).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn services_are_reached_through_the_proxy() {
    let world = World::new().await;
    for port in [5173, 39375] {
        let refused = world.visit(port, "/").await;
        let fault = refused.headers.get(proxy::FAULT).map(|it| it.as_bytes());
        assert_eq!(
            (refused.status, fault),
            if port == 5173 { (502, Some(&b"dial"[..])) } else { (418, None) }
        );
    }
    assert_eq!(world.get(world.url(5173, "/")).await.status, 418);
    let api = format!("http://localhost:{}/", world.port).parse().expect("a URL");
    assert_eq!(world.get(api).await.status, 418);

    world.shell("echo hello >page; nohup python3 -m http.server 5173 --bind $SANDBOX_IP >log 2>&1 &").await;
    eventually("served", async || world.visit(5173, "/page").await.body == b"hello\n").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_passes_through() {
    let world = World::new().await;
    let listener = TcpListener::bind((Ipv4Addr::new(127, 64, 7, 9), 0)).await.expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a client");
        let mut bytes = [0; 4096];
        let read = stream.read(&mut bytes).await.expect("a request");
        assert!(String::from_utf8_lossy(&bytes[..read]).contains("upgrade: websocket"));
        let head = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n";
        stream.write_all(head.as_bytes()).await.expect("a client");
        let read = stream.read(&mut bytes).await.expect("a frame");
        stream.write_all(&bytes[..read]).await.expect("a client");
    });
    let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, world.port)).await.expect("the proxy");
    let head = format!(
        "GET / HTTP/1.1\r\nhost: gate.localhost\r\nx-edge-key: {}\r\nx-edge-to: {VMID}:{port}\r\nconnection: upgrade\r\n\
         upgrade: websocket\r\n\r\n",
        world.key()
    );
    client.write_all(head.as_bytes()).await.expect("the proxy");
    let mut bytes = [0; 4096];
    let read = client.read(&mut bytes).await.expect("a head");
    assert!(bytes[..read].starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&bytes[..read]));
    client.write_all(b"echo").await.expect("the proxy");
    let mut rest = Vec::new();
    let end = timeout(Duration::from_secs(2), client.read_to_end(&mut rest)).await;
    end.expect("an end").expect("cleanly");
    assert_eq!(rest, b"echo");
}

#[tokio::test(flavor = "multi_thread")]
async fn execd_is_reached_by_address() {
    let world = World::new().await;
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await.expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    let guests = world.guests.clone();
    let handler = move |request| {
        let guests = guests.clone();
        async move { guests.execd(request).await }
    };
    tokio::spawn(serve(listener, handler, std::future::pending()));
    let at = |ip: [u8; 4]| format!("http://{}/healthz", SocketAddr::from((ip, port))).parse().expect("a URL");
    assert_eq!(world.get(at([127, 64, 7, 9])).await.status, 200);
    assert_eq!(world.get(at([127, 64, 7, 10])).await.status, 502);
}

#[tokio::test]
async fn a_rollback_brings_back_the_files_of_its_snapshot() {
    let world = World::new().await;
    let tell = world.guests.disk_host();
    let snapshot = || "kept".to_owned();
    world.shell("mkdir -p d && echo before > d/file && ln -s file d/link && chmod 700 d").await;
    tell(Disk::Kept { vmid: VMID, snapshot: snapshot() });
    world.shell("echo after > d/file; echo more > more; rm d/link").await;
    tell(Disk::RolledBack { vmid: VMID, snapshot: snapshot() });
    assert_eq!(world.shell("cat d/link; stat -c %a d; ls").await, "before\n700\nd");
    tell(Disk::Forgotten { vmid: VMID, snapshot: snapshot() });
    tell(Disk::RolledBack { vmid: VMID, snapshot: snapshot() });
    assert_eq!(world.shell("ls").await, "");
}
