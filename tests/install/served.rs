//! The API of a deployment, served on loopback, as the script is fetched from it.

use std::{
    net::Ipv4Addr,
    sync::{Arc, Mutex},
};

use super::programs::Programs;
use http::{Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use pve_edge_bed::serve::{Api, BodyError, Reply, boxed, serve};
use pve_edge_lambda::net::Transport;
use tokio::{net::TcpListener, sync::oneshot, task::JoinSet};

/// Secret of every deployment here: they differ by their names.
pub(crate) const SECRET: &str = "a-secret-of-thirty-two-bytes-or-more";

/// An API that is served until this is dropped.
pub(crate) struct Served {
    url: String,
    asked: Mutex<Option<oneshot::Receiver<()>>>,
    _server: JoinSet<()>,
}

impl Served {
    /// Serves the API of a deployment that has these programs.
    pub(crate) async fn start(deployment: &str, programs: &Programs) -> Result<Self, String> {
        Self::begin(deployment, programs, None).await
    }

    /// The same, where a program never comes to its end.
    pub(crate) async fn stalling(deployment: &str, programs: &Programs) -> Result<Self, String> {
        let (asked, wait) = oneshot::channel();
        let mut served = Self::begin(deployment, programs, Some(asked)).await?;
        served.asked = Mutex::new(Some(wait));
        Ok(served)
    }

    async fn begin(
        deployment: &str,
        programs: &Programs,
        stall: Option<oneshot::Sender<()>>,
    ) -> Result<Self, String> {
        let failed = |error: std::io::Error| error.to_string();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(failed)?;
        let url = format!("http://{}", listener.local_addr().map_err(failed)?);
        let settings = [
            // Nothing is asked of it.
            ("PVE_API_URL", "http://127.0.0.1:1"),
            ("PVE_API_TOKEN", "edge@pve!api=00000000-0000-0000-0000-000000000000"),
            ("EDGE_API_KEYS", &format!("tests:{}", "0".repeat(64))),
            ("EDGE_SECRET", SECRET),
            ("EDGE_DEPLOYMENT", deployment),
        ];
        let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let api = Api::new(&settings).map_err(failed)?.assets(&programs.folder);
        if !api.misconfigured().is_empty() {
            return Err(format!("{:?}", api.misconfigured()));
        }
        let (api, stalls) = (Arc::new(api), stall.is_some());
        let stall = Arc::new(Mutex::new(stall));
        let handler = move |request: Request<Incoming>| {
            let (api, stall) = (api.clone(), stall.clone());
            async move {
                if stalls && !request.uri().path().ends_with("install.sh") {
                    let told = stall.lock().expect("a lock").take();
                    let _ = told.map(|it| it.send(()));
                    return endless();
                }
                api.answer(request).await
            }
        };
        let mut server = JoinSet::new();
        server.spawn(serve(listener, handler, std::future::pending()));
        Ok(Self { url, asked: Mutex::new(None), _server: server })
    }

    /// Ends when somebody has asked for the program that stalls.
    pub(crate) fn asked(&self) -> impl Future<Output = ()> + use<> {
        let asked = self.asked.lock().expect("a lock").take();
        async move {
            if let Some(asked) = asked {
                let _ = asked.await;
            }
        }
    }

    /// The line that installs, with what is there to fetch it.
    pub(crate) fn install(&self) -> String {
        let url = format!("{}/guest/install.sh", self.url);
        format!("if command -v curl >/dev/null; then curl -fsSL {url}; else wget -qO- {url}; fi | sh")
    }

    /// The same with a word for the script.
    pub(crate) fn script(&self, word: &str) -> String {
        format!("{} -s -- {word}", self.install())
    }

    /// The script that has the program in it.
    pub(crate) async fn with_program(&self) -> Result<Vec<u8>, String> {
        let url = format!("{}/guest/install.sh?arch={}", self.url, std::env::consts::ARCH);
        let net = Transport::new(true).map_err(|error| error.to_string())?.net();
        let net = net.map_err(|error| error.to_string())?;
        super::guest::fetched(&net, &url).await
    }
}

/// The beginning of a program, and then nothing.
fn endless() -> Reply {
    use futures_util::{StreamExt, stream};
    let first = stream::iter([Ok::<_, BodyError>(Frame::data("\x7fELF".into()))]);
    let body = StreamBody::new(first.chain(stream::pending()));
    boxed(Response::new(body.boxed_unsync()))
}
