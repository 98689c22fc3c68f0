//! The world, as core sees it: one trait that each adapter implements once.

pub mod apart;
pub mod call;
pub mod date;
pub mod deadline;
pub mod digest;
pub mod headers;
pub mod invocation;
pub mod link;
pub mod pace;
pub mod proxy;
mod relay;
pub mod websocket;

use std::{any::TypeId, fmt, future::Future, net::IpAddr, time::Duration};

use futures_util::{Stream, StreamExt};
use http::HeaderMap;
use time::OffsetDateTime;

pub use self::{
    digest::WithDigest,
    link::{Link, Linked, NoLink},
    relay::{Relay, RequestBody, ResponseBody},
};

/// The world. A cheap clone, taken by value where an answer streams on after
/// the handler has returned.
pub trait Io: Clone + 'static {
    /// Body of an upstream's answer, as the platform has it: core reads it, or the adapter hands it on
    /// unread.
    type Body: Stream<Item = Result<Vec<u8>, NetError>> + Unpin + 'static;

    /// Body of a client's request, as the platform has it: core reads it, or the adapter sends it on
    /// unread.
    type Upload: Stream<Item = Result<Vec<u8>, NetError>> + WithDigest + Unpin + 'static;

    /// Websocket that core has opened.
    type Link: Link + 'static;

    /// Sends one request and returns as soon as the answer's headers are in.
    ///
    /// The adapter never follows a redirect and never sends a write twice (rule P1.2). It ends the connection
    /// when the future or the body is dropped, and fails with [`Failure::Timeout`] when `deadline` passes,
    /// also while core reads the body. A body that is handed on unread has no deadline. The request's
    /// extensions hold a [`Way`].
    fn open(
        &self,
        request: http::Request<RequestBody<Self::Upload>>,
        deadline: OffsetDateTime,
    ) -> impl Future<Output = Result<Answer<Self::Body>, NetError>>;

    /// Opens a websocket, with the headers of `request` and those of RFC 6455, of which no extension is asked for; as
    /// [`Io::open`], once and without following a redirect. `deadline` is for the answer alone. The request's extensions
    /// hold a [`Way`].
    fn link(
        &self,
        _request: http::Request<()>,
        _deadline: OffsetDateTime,
    ) -> impl Future<Output = Result<Linked<Self::Link>, NetError>> {
        std::future::ready(Err(link::unlinked()))
    }

    /// Whether it can open any.
    fn has_links(&self) -> bool {
        TypeId::of::<Self::Link>() != TypeId::of::<NoLink>()
    }

    /// Waits.
    fn sleep(&self, duration: Duration) -> impl Future<Output = ()>;

    /// What time it is.
    fn now(&self) -> OffsetDateTime;

    /// Whether a limiter of the platform lets another one of these through; where there is none, all.
    fn admits(&self, _key: String) -> impl Future<Output = bool> {
        std::future::ready(true)
    }
}

/// Which way a request goes: an adapter may have more than one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To the PVE API: the private-network binding of a Worker when there is
    /// one, and without certificate checks when `PVE_VERIFY_TLS=false`.
    Pve,
    /// To an address inside the cluster's network: the binding, when there is one.
    Guest,
    /// By a public name.
    Public,
    /// To the proxy beside PVE, through which guests are reached: the binding that leads there when there is one, else by
    /// a public name; nothing on the way may keep an answer.
    Proxy,
    /// To the files that are deployed with the adapter, by the path of the URI: those of `guest/build`. One that is not
    /// there is 404, or [`Sent::Never`].
    Assets,
}

/// Address of the client, as the platform knows it: an extension of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddress(pub IpAddr);

/// The head of an answer, and its body as it arrives.
#[derive(Debug)]
pub struct Answer<B> {
    /// Any number: PVE answers 595-599 too.
    pub status: u16,
    /// HTTP/1.1 reason phrase, empty when it was lost on the way.
    pub reason: String,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: B,
}

/// No answer, or not all of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{failure:?}: {detail}")]
pub struct NetError {
    /// Whether the request can have been executed.
    pub sent: Sent,
    /// What went wrong, as far as the platform tells.
    pub failure: Failure,
    /// The platform's own words; never a secret.
    pub detail: String,
}

impl NetError {
    /// An error in these words of the platform's.
    pub fn new(sent: Sent, failure: Failure, detail: impl fmt::Display) -> Self {
        Self { sent, failure, detail: detail.to_string() }
    }
}

/// Whether a request that was not answered can have been executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// Proved not to have reached the server: safe to repeat.
    Never,
    /// It may have been executed, may be executing, may be executed later.
    Maybe,
}

/// What went wrong on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The name does not resolve.
    Dns,
    /// Nobody listens there, or no route.
    Connect,
    /// The certificate is not trusted, or TLS failed otherwise.
    Tls,
    /// The deadline passed.
    Timeout,
    /// The connection broke.
    Cut,
    /// More bytes than the cap allows.
    TooLarge,
    /// The platform does not say.
    Unknown,
}

/// An answer, whole.
#[derive(Clone, Debug)]
pub struct Whole {
    /// As in [`Answer`].
    pub status: u16,
    /// As in [`Answer`].
    pub reason: String,
    /// As in [`Answer`].
    pub headers: HeaderMap,
    /// All of the body.
    pub body: Vec<u8>,
}

/// [`Io::open`], read to its end; more than `cap` bytes are an error, and so
/// is what Cloudflare's edge says when it gets no answer.
pub async fn fetch<I: Io>(
    io: &I,
    request: http::Request<Vec<u8>>,
    deadline: OffsetDateTime,
    cap: usize,
) -> Result<Whole, NetError> {
    let answer = io.open(request.map(RequestBody::Whole), deadline).await?;
    let body = collect(answer.body, cap).await?;
    from_the_way(answer.status)?;
    Ok(Whole { status: answer.status, reason: answer.reason, headers: answer.headers, body })
}

/// All bytes of a body; more than `cap` are [`Failure::TooLarge`].
pub async fn collect<B>(mut body: B, cap: usize) -> Result<Vec<u8>, NetError>
where
    B: Stream<Item = Result<Vec<u8>, NetError>> + Unpin,
{
    let mut bytes = Vec::new();
    while let Some(chunk) = body.next().await {
        bytes.extend_from_slice(&chunk?);
        if bytes.len() > cap {
            let detail = format!("the body is larger than {cap} bytes");
            return Err(NetError { sent: Sent::Maybe, failure: Failure::TooLarge, detail });
        }
    }
    Ok(bytes)
}

/// Answers that Cloudflare's edge makes when it gets none (rule P3.2).
fn from_the_way(status: u16) -> Result<(), NetError> {
    let (sent, failure, what) = match status {
        521 | 523 => (Sent::Never, Failure::Connect, "the edge cannot connect to the origin"),
        525 | 526 => (Sent::Never, Failure::Tls, "the edge does not trust the origin's certificate"),
        530 => (Sent::Never, Failure::Connect, "the tunnel is down"),
        522 | 524 => (Sent::Maybe, Failure::Timeout, "the edge waited too long for the origin"),
        520 | 527 => (Sent::Maybe, Failure::Cut, "the edge got no proper answer from the origin"),
        _ => return Ok(()),
    };
    Err(NetError { sent, failure, detail: format!("status {status}: {what}") })
}

/// What the platform allows one invocation.
#[derive(Clone, Copy, Debug)]
pub struct Platform {
    /// Name in logs and messages: `workers`, `lambda`, `local`.
    pub name: &'static str,
    /// The longest a request may wait for PVE.
    pub max_wait: Duration,
    /// Outgoing requests per invocation.
    pub requests: u32,
    /// Bytes kept of each output stream of a command in a JSON answer; where answers do not stream, also
    /// the largest answer of an upstream that is handed on.
    pub answer_bytes: usize,
    /// Largest body of a request that reaches the deployment; `None` where bodies stream.
    pub request_bytes: Option<u64>,
    /// Whether an answer may stream.
    pub streams: bool,
    /// Whether a client's connection can become a websocket.
    pub upgrades: bool,
    /// Whether private addresses can be reached (a Worker needs a binding).
    pub private_network: bool,
    /// Whether the deployment runs in the guests' network: it reaches them there, without the proxy beside PVE, and gives
    /// a request any `Host`.
    pub in_guest_network: bool,
    /// Whether certificate checks of the PVE API can be switched off.
    pub unverified_tls: bool,
}
