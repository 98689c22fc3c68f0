//! What else runs a command in a machine: the stand-in of cmux-execd, and `ssh` on loopback.

use std::{net::TcpListener, path::Path, process::Stdio, sync::Arc, time::Duration};

use http::{Request, header};
use pve_edge_bed::{
    guests::{GuestState, Guests, Inventory},
    serve::serve,
};
use pve_edge_core::io::{Io, fetch};
use pve_edge_lambda::net::{Net, Transport};
use serde_json::json;
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    task::JoinHandle,
};

const TOKEN: &str = "a token of the bench";
const VMID: u32 = 200_000;

/// One of them.
pub(super) enum Beside {
    /// The stand-in of cmux-execd.
    Execd { url: String, net: Net, guests: Guests, server: JoinHandle<()> },
    /// `ssh`, with a connection for each command.
    Ssh { port: u16, folder: TempDir, _server: Child },
}

impl Beside {
    /// All that this machine has; or why it has one not.
    pub(super) async fn all() -> [Result<Self, String>; 2] {
        [Self::execd().await, Self::ssh().await]
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Execd { .. } => "the stand-in of cmux-execd",
            Self::Ssh { .. } => "ssh, a connection each",
        }
    }

    pub(super) fn times(&self) -> u32 {
        match self {
            Self::Execd { .. } => 200,
            Self::Ssh { .. } => 20,
        }
    }

    /// Runs a line of the shell to its end.
    pub(super) async fn run(&self, line: &str) -> Result<(), String> {
        match self {
            Self::Execd { url, net, .. } => {
                let body = json!({"command": line}).to_string().into_bytes();
                let request = Request::post(url)
                    .header(header::AUTHORIZATION, format!("Bearer {TOKEN}"))
                    .header(header::CONTENT_TYPE, "application/json")
                    .body(body)
                    .map_err(|error| error.to_string())?;
                let answer = fetch(net, request, net.now() + time::Duration::seconds(10), 1 << 20).await;
                let answer = answer.map_err(|error| error.to_string())?;
                let text = String::from_utf8_lossy(&answer.body);
                if text.contains(r#""code":0"#) { Ok(()) } else { Err(format!("{}: {text}", answer.status)) }
            }
            Self::Ssh { port, folder, .. } => {
                let key = folder.path().join("client");
                let mut command = Command::new("ssh");
                command.arg("-i").arg(key).args(["-p", &port.to_string(), "-o", "StrictHostKeyChecking=no"]);
                command.args([
                    "-o",
                    "UserKnownHostsFile=/dev/null",
                    "-o",
                    "LogLevel=ERROR",
                    "127.0.0.1",
                    line,
                ]);
                let output = command.output().await.map_err(|error| error.to_string())?;
                match output.status.success() {
                    true => Ok(()),
                    false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
                }
            }
        }
    }

    async fn execd() -> Result<Self, String> {
        let failed = |error: std::io::Error| error.to_string();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.map_err(failed)?;
        let url = format!("http://{}/exec", listener.local_addr().map_err(failed)?);
        let guests = Guests::new(Arc::new(One), None);
        let answering = guests.clone();
        let handler = move |request| {
            let guests = answering.clone();
            async move { guests.execd(request).await }
        };
        let server = tokio::spawn(serve(listener, handler, std::future::pending()));
        let net = Transport::new(true).map_err(|error| error.to_string())?;
        Ok(Self::Execd { url, net: net.net().map_err(|error| error.to_string())?, guests, server })
    }

    async fn ssh() -> Result<Self, String> {
        let sshd = Path::new("/usr/sbin/sshd");
        if !sshd.exists() {
            return Err("ssh: skipped, there is no /usr/sbin/sshd (openssh-server)".to_owned());
        }
        let failed = |error: std::io::Error| format!("ssh: skipped, {error}");
        let folder = tempfile::tempdir().map_err(failed)?;
        for name in ["host", "client"] {
            let mut keygen = Command::new("ssh-keygen");
            keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(folder.path().join(name));
            keygen.status().await.map_err(failed)?;
        }
        let port = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).map_err(failed)?.port();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let server = Command::new(sshd)
            .args(["-D", "-e", "-f", "/dev/null", "-h", &path("host"), "-p", &port.to_string()])
            .args(["-o", "ListenAddress=127.0.0.1", "-o", "StrictModes=no", "-o", "PidFile=none"])
            .args(["-o", &format!("AuthorizedKeysFile={}", path("client.pub"))])
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let beside = Self::Ssh { port, folder, _server: server };
        let mut last = String::new();
        for _ in 0..50 {
            match beside.run("true").await {
                Ok(()) => return Ok(beside),
                Err(why) => last = why,
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Err(format!("ssh: skipped, {}", last.trim()))
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        if let Self::Execd { guests, server, .. } = self {
            guests.close();
            server.abort();
        }
    }
}

/// One guest, at whatever address it is asked.
struct One;

impl Inventory for One {
    fn guest(&self, vmid: u32) -> Option<GuestState> {
        let ip = std::net::Ipv4Addr::LOCALHOST.into();
        (vmid == VMID).then(|| GuestState {
            running: true,
            token: Some(TOKEN.to_owned()),
            ip,
            card: None,
            is_bare: false,
        })
    }

    fn at(&self, _ip: std::net::IpAddr) -> Option<u32> {
        Some(VMID)
    }
}
