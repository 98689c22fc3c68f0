//! A served PVE with containers, and clients of their consoles.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{SinkExt, StreamExt};
use http::Response;
use serde_json::Value;
use time::OffsetDateTime;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Error, Message, client::IntoClientRequest},
};

use crate::{
    guests::{GuestState, Guests, Inventory},
    sim::{
        Setup, Sim, Spec, TOKEN,
        server::{Server, Shared, lock, serve},
    },
};

/// A container with `cmode=shell`.
pub(super) const VMID: u32 = 300;
/// Another one, with PVE's own `cmode`.
pub(super) const GETTY: u32 = 301;

/// Longest wait for anything that comes.
const PATIENCE: Duration = Duration::from_secs(30);

struct Own(Shared);

impl Inventory for Own {
    fn guest(&self, vmid: u32) -> Option<GuestState> {
        let sim = lock(&self.0);
        let guest = sim.guest(vmid)?;
        let ip = Ipv4Addr::LOCALHOST.into();
        let is_bare = guest.is_bare;
        Some(GuestState {
            running: guest.run.is_some(),
            token: guest.identity(),
            ip,
            card: guest.card(),
            is_bare,
        })
    }

    fn at(&self, _: IpAddr) -> Option<u32> {
        None
    }
}

/// A PVE that is being served.
pub(super) struct Stage {
    pub(super) sim: Shared,
    pub(super) guests: Guests,
    server: Server,
}

/// What is needed to open a console.
#[derive(Clone, Debug)]
pub(super) struct Pass {
    pub(super) vmid: u32,
    pub(super) user: String,
    pub(super) ticket: String,
    pub(super) port: String,
    pub(super) upid: String,
}

/// A client of a console.
pub(super) struct Terminal {
    pub(super) socket: WebSocketStream<TcpStream>,
    /// All that came.
    pub(super) seen: String,
    /// What was not waited for yet.
    pub(super) new: String,
}

impl Stage {
    pub(super) async fn new() -> Self {
        let mut sim = Sim::new(Setup { start: OffsetDateTime::now_utc(), ..Setup::default() });
        sim.add(Spec::guest(VMID).set("cmode", "shell").running());
        sim.add(Spec::guest(GETTY).running());
        let (id, _) = TOKEN.rsplit_once('=').expect("a token");
        for who in [id, "edge@pve"] {
            sim.grant(who, "/vms", &["VM.Audit", "VM.Config.Options", "VM.Console", "VM.PowerMgmt"]);
        }
        let sim = Arc::new(Mutex::new(sim));
        let guests = Guests::new(Arc::new(Own(sim.clone())), None);
        lock(&sim).set_console_host(guests.console_host());
        let server = serve(sim.clone(), 0).await.expect("a port");
        Self { sim, guests, server }
    }

    /// With this as root's shell.
    pub(super) async fn with_shell(shell: &[&str]) -> Self {
        let stage = Self::new().await;
        lock(&stage.sim).console().shell = shell.iter().map(|it| (*it).to_owned()).collect();
        stage
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// Status and data of a call.
    pub(super) async fn call(&self, method: &str, path: &str, form: &str) -> (u16, Value) {
        let mut stream = TcpStream::connect(self.address()).await.expect("a connection");
        let request = format!(
            "{method} /api2/json{path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: PVEAPIToken={TOKEN}\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{form}",
            form.len()
        );
        stream.write_all(request.as_bytes()).await.expect("written");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        let status = answer.split(' ').nth(1).and_then(|it| it.parse().ok()).expect("a status");
        let lines = answer.split("\r\n").filter_map(|it| serde_json::from_str::<Value>(it).ok());
        (status, lines.filter(Value::is_object).last().map_or(Value::Null, |it| it["data"].clone()))
    }

    pub(super) async fn pass(&self, vmid: u32) -> Pass {
        let (status, data) = self.call("POST", &format!("/nodes/pve1/lxc/{vmid}/termproxy"), "").await;
        assert_eq!(status, 200, "{data}");
        let text = |name: &str| data[name].as_str().unwrap_or_else(|| panic!("{data}")).to_owned();
        Pass { vmid, user: text("user"), ticket: text("ticket"), port: text("port"), upid: text("upid") }
    }

    /// The websocket, as far as PVE opens one.
    pub(super) async fn open(&self, pass: &Pass) -> Result<WebSocketStream<TcpStream>, Error> {
        Ok(self.opened(pass).await?.0)
    }

    pub(super) async fn opened(
        &self,
        pass: &Pass,
    ) -> Result<(WebSocketStream<TcpStream>, Response<Option<Vec<u8>>>), Error> {
        let Pass { vmid, port, .. } = pass;
        let ticket = percent_encoding::utf8_percent_encode(&pass.ticket, percent_encoding::NON_ALPHANUMERIC);
        let path = format!("/api2/json/nodes/pve1/lxc/{vmid}/vncwebsocket?port={port}&vncticket={ticket}");
        let mut request = format!("ws://{}{path}", self.address()).into_client_request()?;
        let headers = request.headers_mut();
        headers.insert("authorization", format!("PVEAPIToken={TOKEN}").parse()?);
        headers.insert("sec-websocket-protocol", "binary".parse()?);
        let stream = TcpStream::connect(self.address()).await?;
        client_async(request, stream).await
    }

    /// A client of a console, which was let in.
    pub(super) async fn enter(&self, vmid: u32) -> Terminal {
        let mut terminal = self.ask(&self.pass(vmid).await).await;
        assert_eq!(terminal.until("\x1b[H\x1b[J").await, "OK");
        terminal
    }

    /// A client that has said who it is.
    pub(super) async fn ask(&self, pass: &Pass) -> Terminal {
        let mut terminal = self.silent(pass).await;
        terminal.send(format!("{}:{}\n", pass.user, pass.ticket)).await;
        terminal
    }

    /// A client that has said nothing.
    pub(super) async fn silent(&self, pass: &Pass) -> Terminal {
        let socket = self.open(pass).await.expect("a websocket");
        Terminal { socket, seen: String::new(), new: String::new() }
    }

    /// How a worker stands: `None` while it runs.
    pub(super) fn exit(&self, upid: &str) -> Option<String> {
        let sim = lock(&self.sim);
        let task = sim.tasks().into_iter().find(|it| it.upid == upid).expect("a task");
        task.exit.clone()
    }
}

impl Terminal {
    /// Bytes of the protocol, in one message.
    pub(super) async fn send(&mut self, bytes: impl Into<Vec<u8>>) {
        self.socket.send(Message::binary(bytes.into())).await.expect("it is taken");
    }

    /// Types a text.
    pub(super) async fn types(&mut self, text: &str) {
        self.send(format!("0:{}:{text}", text.len())).await;
    }

    /// What came before this text, which is waited for.
    pub(super) async fn until(&mut self, text: &str) -> String {
        loop {
            if let Some((before, after)) = self.new.split_once(text) {
                let (before, after) = (before.to_owned(), after.to_owned());
                self.new = after;
                return before;
            }
            assert!(self.more().await, "the end, and no {text:?}: {:?}", self.seen);
        }
    }

    /// What came until the end of the connection.
    pub(super) async fn rest(mut self) -> String {
        while self.more().await {}
        self.new
    }

    /// Whether more has come; not at the end of the connection, of which no frame tells.
    async fn more(&mut self) -> bool {
        let message = timeout(PATIENCE, self.socket.next()).await;
        match message.unwrap_or_else(|_| panic!("nothing more comes: {:?}", self.seen)) {
            Some(Ok(Message::Binary(bytes))) => {
                assert!((1..=4096).contains(&bytes.len()));
                let text = String::from_utf8_lossy(&bytes);
                self.seen.push_str(&text);
                self.new.push_str(&text);
                true
            }
            Some(Ok(Message::Pong(_))) => true,
            Some(Ok(message)) => panic!("{message:?}"),
            Some(Err(_)) | None => false,
        }
    }

    /// Runs a command whose output has no line ends but its last one.
    pub(super) async fn run(&mut self, command: &str) -> String {
        // What is echoed has the quotes.
        self.types(&format!(" echo 'be''gin'; {command}; echo 'e''nd'\n")).await;
        self.until("begin\r\r\n").await;
        self.until("end\r\r\n").await.replace("\r\r\n", "\n")
    }
}

/// Waits until it is so.
pub(super) async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("never: {what}");
}

/// Whether a process runs.
pub(super) fn is_alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}
