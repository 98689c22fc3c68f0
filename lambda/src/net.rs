//! Core's [`Io`] over reqwest: one attempt, one connection, and an honest account of what went wrong
//! (rule P1.2).

use std::{
    env,
    error::Error,
    io,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use crate::{
    body::{Body, Upload},
    link::Link,
};
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use hyper::ext::ReasonPhrase;
use pve_edge_core::io::{
    Answer, Failure, Io, Linked, NetError, RequestBody, Sent, Way, link::refused, websocket::ask,
};
use reqwest::{
    Client,
    dns::{Addrs, Name, Resolve, Resolving},
    redirect, retry,
};
use rustls::{ClientConfig, crypto::ring};
use rustls_platform_verifier::BuilderVerifierExt;
use time::OffsetDateTime;
use tokio::time::{Instant, timeout_at};
use tokio_tungstenite::tungstenite::handshake::client::generate_key;

/// Name, TCP and TLS together; within it a request was certainly not sent.
const CONNECT: Duration = Duration::from_secs(5);

/// Shorter than the 5 s after which pveproxy closes an idle connection: a
/// write on a closing one could not be told from one that was executed.
const IDLE: Duration = Duration::from_secs(2);

/// What outlives an invocation: trusted roots and TLS sessions, no connection.
#[derive(Clone, Debug)]
pub struct Transport {
    verified: ClientConfig,
    verify_pve: bool,
    assets: PathBuf,
}

impl Transport {
    /// Reads the system's trusted roots; `verify_pve` is `PVE_VERIFY_TLS`.
    pub fn new(verify_pve: bool) -> Result<Self, rustls::Error> {
        // Fails only when some part of this process has installed one already.
        let _ = ring::default_provider().install_default();
        let verified = ClientConfig::builder().with_platform_verifier()?.with_no_client_auth();
        let assets = match env::var_os("LAMBDA_TASK_ROOT") {
            Some(root) => Path::new(&root).join("guest"),
            None => "guest/dist".into(),
        };
        Ok(Self { verified, verify_pve, assets })
    }

    /// The same, with the files of [`Way::Assets`] in this folder instead of that of the function.
    #[must_use]
    pub fn assets(self, assets: impl Into<PathBuf>) -> Self {
        Self { assets: assets.into(), ..self }
    }

    /// The net of one invocation, whose connections end with it: a frozen
    /// Lambda cannot see that the other side has closed one.
    pub fn net(&self) -> Result<Net, reqwest::Error> {
        let public = client().tls_backend_preconfigured(self.verified.clone()).build()?;
        let pve = match self.verify_pve {
            true => public.clone(),
            false => client().tls_danger_accept_invalid_certs(true).build()?,
        };
        Ok(Net { public, pve, assets: self.assets.clone() })
    }
}

/// The world, as one invocation sees it.
#[derive(Clone, Debug)]
pub struct Net {
    public: Client,
    pve: Client,
    assets: PathBuf,
}

impl Net {
    async fn asset(&self, path: &str, deadline: Instant) -> Result<Answer<Body>, NetError> {
        let file = self.assets.join(path.trim_start_matches('/'));
        let failed = |error| NetError::new(Sent::Never, Failure::Unknown, error);
        let bytes = tokio::fs::read(file).await.map_err(failed)?;
        let body = Body::new(http::Response::new(bytes.into()), deadline);
        Ok(Answer { status: 200, reason: String::new(), headers: HeaderMap::new(), body })
    }
}

impl Io for Net {
    type Body = Body;
    type Upload = Upload;
    type Link = Link;

    async fn open(
        &self,
        request: Request<RequestBody<Upload>>,
        deadline: OffsetDateTime,
    ) -> Result<Answer<Self::Body>, NetError> {
        let left = Duration::try_from(deadline - self.now()).unwrap_or_default();
        let deadline = Instant::now() + left;
        let client = match request.extensions().get() {
            Some(Way::Assets) => return self.asset(request.uri().path(), deadline).await,
            Some(Way::Pve) => &self.pve,
            _ => &self.public,
        };
        let request = request.map(|body| match body {
            RequestBody::Whole(bytes) => bytes.into(),
            RequestBody::Streamed(upload) => reqwest::Body::from(upload),
        });
        let request = reqwest::Request::try_from(request).map_err(failed)?;
        let response =
            timeout_at(deadline, client.execute(request)).await.map_err(|_| late())?.map_err(failed)?;
        let mut response = http::Response::from(response);
        Ok(Answer {
            status: response.status().as_u16(),
            reason: reason(&response),
            headers: std::mem::take(response.headers_mut()),
            body: Body::new(response, deadline),
        })
    }

    async fn link(&self, request: Request<()>, deadline: OffsetDateTime) -> Result<Linked<Link>, NetError> {
        let key = HeaderValue::try_from(generate_key()).expect("Base64");
        let mut request = request.map(|()| RequestBody::Whole(Vec::new()));
        ask(request.headers_mut(), key.clone());
        let answer = self.open(request, deadline).await?;
        if answer.status != StatusCode::SWITCHING_PROTOCOLS.as_u16() {
            return refused(answer).await;
        }
        Link::new(answer, key.as_bytes()).await.map(Linked::Open)
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }

    fn now(&self) -> OffsetDateTime {
        OffsetDateTime::now_utc()
    }
}

fn client() -> reqwest::ClientBuilder {
    Client::builder()
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        // A proxy of the environment would see tokens, and answer for PVE.
        .no_proxy()
        .connect_timeout(CONNECT)
        .pool_idle_timeout(IDLE)
        .dns_resolver(Arc::new(Resolver))
}

/// hyper leaves the phrase out when it is the usual one.
fn reason<B>(response: &http::Response<B>) -> String {
    match response.extensions().get::<ReasonPhrase>() {
        Some(phrase) => String::from_utf8_lossy(phrase.as_bytes()).into_owned(),
        None => response.status().canonical_reason().unwrap_or_default().to_owned(),
    }
}

/// `*.localhost` is this machine (RFC 6761), which many resolvers do not know (rule P8.2).
struct Resolver;

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let name = name.as_str();
            if name == "localhost" || name.ends_with(".localhost") {
                return Ok(Box::new([SocketAddr::from((Ipv4Addr::LOCALHOST, 0))].into_iter()) as Addrs);
            }
            let found = tokio::net::lookup_host((name, 0)).await.map_err(Unresolved)?;
            Ok(Box::new(found.collect::<Vec<_>>().into_iter()) as Addrs)
        })
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the name does not resolve: {0}")]
struct Unresolved(io::Error);

pub(crate) fn late() -> NetError {
    NetError::new(Sent::Maybe, Failure::Timeout, "no answer in time")
}

pub(crate) fn failed(error: reqwest::Error) -> NetError {
    // The URL may carry what must not be logged.
    let error = error.without_url();
    let (sent, failure) = if error.is_builder() {
        (Sent::Never, Failure::Unknown)
    } else if !error.is_connect() {
        (Sent::Maybe, Failure::Cut)
    } else if error.is_timeout() {
        (Sent::Never, Failure::Timeout)
    } else {
        (Sent::Never, causes(&error).find_map(kind).unwrap_or(Failure::Connect))
    };
    let detail = causes(&error).map(ToString::to_string).collect::<Vec<_>>().join(": ");
    NetError { sent, failure, detail }
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

fn kind(cause: &(dyn Error + 'static)) -> Option<Failure> {
    if cause.is::<Unresolved>() {
        return Some(Failure::Dns);
    }
    if cause.is::<rustls::Error>() {
        return Some(Failure::Tls);
    }
    // An `io::Error` passes over what it wraps when asked for its source.
    cause.downcast_ref::<io::Error>()?.get_ref().and_then(|wrapped| kind(wrapped))
}
