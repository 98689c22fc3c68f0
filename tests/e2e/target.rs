//! What serves the API: each platform as near to the real one as a machine can have it.

use std::{net::Ipv4Addr, path::Path, sync::Arc, time::Duration};

use super::{distance::Distance, log::Log, pipe, process::Process};
use http::Request;
use hyper::body::Incoming;
use pve_edge_bed::{
    guests::Guests,
    serve::{Api, boxed, serve, upload, websocket::answer},
};
use pve_edge_core::api::Pairs;
use pve_edge_lambda::net::Transport;
use tokio::{net::TcpListener, process::Command, task::JoinSet};

/// What serves the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The local server, in this process.
    Local,
    /// The Worker, on workerd, with real Caddy as the proxy beside PVE.
    Workerd,
    /// The Lambda function, in cargo-lambda's emulator.
    Lambda,
    /// As `Lambda`, with answers that stream.
    LambdaStreaming,
}

/// An API that is being served until this is dropped.
pub(super) struct Running {
    pub(super) url: String,
    /// The platform, and the proxy beside PVE.
    _processes: Vec<Process>,
    _distance: Option<Distance>,
    _server: JoinSet<()>,
}

impl Target {
    /// Its name in the output.
    pub fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Workerd => "workerd",
            Self::Lambda => "lambda",
            Self::LambdaStreaming => "lambda-streaming",
        }
    }

    /// Root's shell in the containers before it, and the program that `sh` is in them, where it is not this machine's: so
    /// that each shell meets the hub. `None` where that one is not installed.
    pub(super) fn shell(self) -> Option<(&'static [&'static str], &'static Path)> {
        let (shell, program): (&[_], _) = match self {
            Self::Local => (&["bash"], "/bin/bash"),
            Self::Workerd => (&["busybox", "sh"], "/bin/busybox"),
            Self::Lambda | Self::LambdaStreaming => return None,
        };
        Some((shell, Path::new(program))).filter(|(_, program)| program.exists())
    }

    /// Whether it can answer a command with events.
    pub fn streams(self) -> bool {
        self != Self::Lambda
    }

    /// Serves the pipe's handler.
    pub(super) async fn start_pipe(self, log: &Log) -> Result<Running, String> {
        let log = log.file(&format!("{}-{}", self.name(), pipe::NAME));
        let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
        let command = match self {
            Self::Local => return local_pipe().await.map_err(|error| error.to_string()),
            Self::Workerd => {
                let mut command = Command::new(tests.join("tools/workerd/bare.py"));
                command.arg("--worker").arg(tests.join("e2e/pipe/worker")).arg("--log").arg(&log);
                command
            }
            Self::Lambda | Self::LambdaStreaming => {
                let mut command = Command::new(tests.join("e2e/lambda"));
                command.args(["--function", "pipe-lambda"]);
                if self == Self::LambdaStreaming {
                    command.env("EDGE_LAMBDA_STREAM", "1");
                }
                command
            }
        };
        let process = Process::start(command, &log.with_extension("stderr")).await?;
        let url = process.url.clone();
        Ok(Running { url, _processes: vec![process], _distance: None, _server: JoinSet::new() })
    }

    /// Whether it is a gateway to what sandboxes serve.
    pub(super) fn is_gateway(self) -> bool {
        matches!(self, Self::Local | Self::Workerd)
    }

    /// Serves the API of `settings`, before a PVE of that certificate, so far from the proxy beside it; `name` tells its log
    /// from others'.
    pub(super) async fn start(
        self,
        settings: &Pairs,
        certificate: Option<&Path>,
        guests: &Guests,
        (log, name): (&Log, &str),
        round_trip: Duration,
    ) -> Result<Running, String> {
        let log = log.file(&format!("{}-{name}", self.name()));
        let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
        let (mut processes, mut far) = (Vec::new(), None);
        let mut command = match self {
            Self::Local => return local(settings, guests).await,
            Self::Workerd => {
                let port = free_port().map_err(|error| error.to_string())?;
                let mut command = Command::new(tests.join("tools/workerd/bare.py"));
                command.arg("--binding").arg("--port").arg(port.to_string()).arg("--log").arg(&log);
                let pairs = settings.iter().map(|(name, value)| format!("{name}={value}"));
                // Morph's sandboxes are not behind one.
                if settings.iter().any(|(name, _)| name == "PVE_IP_POOL_CIDR") {
                    let mut proxy = Command::new(tests.join("tools/proxy/serve"));
                    proxy.args(pairs.clone());
                    let proxy = Process::start(proxy, &log.with_extension("proxy")).await?;
                    let mut gate = proxy.url.trim_start_matches("http://").to_owned();
                    if !round_trip.is_zero() {
                        let way = Distance::to(&gate, round_trip).await.map_err(|error| error.to_string())?;
                        gate.clone_from(&way.authority);
                        far = Some(way);
                    }
                    command.arg("--gate").arg(gate);
                    processes.push(proxy);
                }
                command.arg(format!("PVE_PUBLIC_DOMAIN=http://sandbox.localhost:{port}")).args(pairs);
                command
            }
            Self::Lambda | Self::LambdaStreaming => {
                let mut command = Command::new(tests.join("e2e/lambda"));
                command.envs(settings.iter().map(|(name, value)| (name, value)));
                if self == Self::LambdaStreaming {
                    command.env("EDGE_LAMBDA_STREAM", "1");
                }
                command
            }
        };
        if let Some(certificate) = certificate {
            command.env("SSL_CERT_FILE", certificate);
        }
        let process = Process::start(command, &log.with_extension("stderr")).await?;
        let url = process.url.clone();
        processes.push(process);
        Ok(Running { url, _processes: processes, _distance: far, _server: JoinSet::new() })
    }
}

async fn local_pipe() -> std::io::Result<Running> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let url = format!("http://{}", listener.local_addr()?);
    let transport = Arc::new(Transport::new(true).map_err(std::io::Error::other)?);
    let handler = move |request: Request<Incoming>| {
        let transport = transport.clone();
        async move {
            let net = transport.net().expect("a client");
            let handler = async |request| pipe::relay(net, Api::PLATFORM, request).await;
            boxed(answer(request.map(upload), handler).await)
        }
    };
    let mut server = JoinSet::new();
    server.spawn(serve(listener, handler, std::future::pending()));
    Ok(Running { url, _processes: Vec::new(), _distance: None, _server: server })
}

fn free_port() -> std::io::Result<u16> {
    Ok(std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// As `cargo demo`: services by name, through this server, and any certificate of PVE.
async fn local(settings: &Pairs, guests: &Guests) -> Result<Running, String> {
    let failed = |error: std::io::Error| error.to_string();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(failed)?;
    let port = listener.local_addr().map_err(failed)?.port();
    let mut settings = settings.clone();
    settings.push(("PVE_PUBLIC_DOMAIN".to_owned(), format!("http://localhost:{port}")));
    settings.push(("PVE_VERIFY_TLS".to_owned(), "false".to_owned()));
    let api = Arc::new(Api::new(&settings).map_err(failed)?);
    let guests = guests.clone();
    let handler = move |request| {
        let (api, guests) = (api.clone(), guests.clone());
        async move {
            match guests.proxy(request).await {
                Ok(reply) => reply,
                Err(request) => api.answer(*request).await,
            }
        }
    };
    let mut server = JoinSet::new();
    server.spawn(serve(listener, handler, std::future::pending()));
    let url = format!("http://127.0.0.1:{port}");
    Ok(Running { url, _processes: Vec::new(), _distance: None, _server: server })
}
