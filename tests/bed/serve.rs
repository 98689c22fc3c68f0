//! A local HTTP/1.1 server, and the API on it: core over the Lambda crate's `Net`.

pub mod websocket;

use std::{
    convert::Infallible,
    future::Future,
    io,
    net::SocketAddr,
    path::Path,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited, combinators::UnsyncBoxBody};
use hyper::{
    body::{Body, Frame, Incoming, SizeHint},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use pve_edge_core::{
    api::{Pairs, Service, handle, scheduled},
    io::{ClientAddress, Platform},
    settings::Problem,
};
use pve_edge_lambda::{body::Upload, http::seed, net::Transport};
use tokio::{
    net::TcpListener,
    sync::watch,
    task::JoinSet,
    time::{Sleep, sleep, timeout},
};

use self::websocket::answer;

/// What went wrong inside a body that was already on its way.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// A body, whole or as it comes.
pub type ReplyBody = UnsyncBoxBody<Bytes, BodyError>;

/// An answer of this server.
pub type Reply = Response<ReplyBody>;

/// How long connections may take to end once the server has been stopped.
const GRACE: Duration = Duration::from_secs(2);

/// How long a client may send nothing of a body that it has begun.
const SILENCE: Duration = Duration::from_secs(60);

/// How much of a body that nobody wants is read all the same.
const MOST_DISCARDED: usize = 16 << 20;

/// Both ends of the connection a request came on, among its extensions.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// The client's.
    pub remote: SocketAddr,
    /// Ours.
    pub local: SocketAddr,
}

impl Ends {
    /// Whether neither end is visible to another machine.
    pub fn on_loopback(&self) -> bool {
        [self.remote, self.local].iter().all(|end| end.ip().to_canonical().is_loopback())
    }
}

/// Serves `handler` until `stop` ends; what is then still open is cut after two seconds.
pub async fn serve<H, F>(listener: TcpListener, handler: H, stop: impl Future<Output = ()>)
where
    H: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Reply> + Send + 'static,
{
    let (stopping, stopped) = watch::channel(());
    let mut connections = JoinSet::new();
    let mut stop = pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = connections.join_next(), if !connections.is_empty() => continue,
            () = &mut stop => break,
        };
        let Ok((stream, remote)) = accepted else {
            // Out of descriptors, mostly: a busy loop would not free any.
            sleep(Duration::from_millis(50)).await;
            continue;
        };
        let Ok(local) = stream.local_addr() else { continue };
        let ends = Ends { remote, local };
        let handler = handler.clone();
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(ends);
            let reply = handler(request);
            async move { Ok::<_, Infallible>(reply.await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        let mut stopped = stopped.clone();
        connections.spawn(async move {
            let mut connection = pin!(connection);
            // A client that breaks off has nobody to be told to.
            tokio::select! {
                _ = connection.as_mut() => return,
                _ = stopped.changed() => connection.as_mut().graceful_shutdown(),
            }
            let _ = connection.await;
        });
    }
    drop((listener, stopping));
    let _ = timeout(GRACE, async { while connections.join_next().await.is_some() {} }).await;
}

/// A future of core's, boxed so that it is compiled here, optimised, and not by each crate that polls it.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Where `guest/build` puts the programs for guests.
const GUEST_PROGRAMS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../guest/dist");

/// The API as an ordinary server has it.
pub struct Api {
    transport: Transport,
    service: Service,
    platform: Platform,
}

impl Api {
    /// What an ordinary server allows one request.
    pub const PLATFORM: Platform = Platform {
        name: "local",
        max_wait: Duration::from_secs(25),
        requests: 200,
        answer_bytes: 4 << 20,
        request_bytes: None,
        streams: true,
        upgrades: true,
        private_network: true,
        in_guest_network: true,
        unverified_tls: true,
    };

    /// The API with these settings; fails when the system has no trusted roots.
    pub fn new(settings: &Pairs) -> io::Result<Self> {
        Self::on(Self::PLATFORM, settings)
    }

    /// The same, on a server that allows this.
    pub fn on(platform: Platform, settings: &Pairs) -> io::Result<Self> {
        let service = Service::new(settings, platform);
        let verify_pve = service.settings().is_none_or(|settings| settings.verify_tls);
        let transport = Transport::new(verify_pve).map_err(io::Error::other)?.assets(GUEST_PROGRAMS);
        Ok(Self { transport, service, platform })
    }

    /// The same, which hands out the programs for guests of another folder.
    #[must_use]
    pub fn assets(self, folder: &Path) -> Self {
        Self { transport: self.transport.assets(folder), ..self }
    }

    /// What is wrong with the settings.
    pub fn misconfigured(&self) -> &[Problem] {
        self.service.misconfigured()
    }

    /// The script that prepares PVE for these settings, right or wrong.
    pub fn setup_script(&self) -> String {
        self.service.setup_script()
    }

    /// The script that sets up the proxy on the PVE host, or why there is none.
    pub fn proxy_script(&self) -> Result<String, String> {
        self.service.proxy_script().map_err(|error| error.to_string())
    }

    /// Sweeps, as a platform's schedule does; the text is for the log.
    pub fn sweep(&self) -> Pending<'_, String> {
        Box::pin(async move {
            match self.transport.net() {
                Ok(net) => scheduled(net, &self.service, self.platform, seed()).await,
                Err(error) => format!("the sweep failed: {error}"),
            }
        })
    }

    /// Answers one request.
    pub fn answer(&self, request: Request<Incoming>) -> Pending<'_, Reply> {
        Box::pin(self.respond(request))
    }

    async fn respond(&self, request: Request<Incoming>) -> Reply {
        let net = match self.transport.net() {
            Ok(net) => net,
            Err(error) => return text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        };
        let handler = async |request| handle(net, &self.service, self.platform, seed(), request).await;
        let mut request = request;
        if let Some(ends) = request.extensions().get::<Ends>().copied() {
            request.extensions_mut().insert(ClientAddress(ends.remote.ip().to_canonical()));
        }
        boxed(answer(request.map(upload), handler).await)
    }
}

/// A client's body, as core takes it.
pub fn upload(body: Incoming) -> Upload {
    Upload::new(Unread { body: Some(body), silence: None })
}

/// A client's body, which ends with an error after a silence, and whose rest is read and forgotten when it is dropped
/// before its end: a client that still sends would get a reset connection instead of the answer (RFC 9112, 9.6).
struct Unread {
    body: Option<Incoming>,
    /// Ends when the client was waited for too long; `None` while it is not.
    silence: Option<Pin<Box<Sleep>>>,
}

impl Body for Unread {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let Poll::Ready(frame) = Pin::new(body).poll_frame(context) else {
            let silence = self.silence.get_or_insert_with(|| Box::pin(sleep(SILENCE)));
            ready!(silence.as_mut().poll(context));
            self.body = None;
            return Poll::Ready(Some(Err("the client is silent".into())));
        };
        self.silence = None;
        if !matches!(frame, Some(Ok(_))) {
            self.body = None;
        }
        Poll::Ready(frame.map(|it| it.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        let Some(body) = self.body.take().filter(|it| !it.is_end_stream()) else { return };
        tokio::spawn(timeout(GRACE, async {
            let mut rest = Limited::new(body, MOST_DISCARDED);
            while let Some(Ok(_)) = rest.frame().await {}
        }));
    }
}

/// A few words of plain text.
pub fn text(status: StatusCode, words: impl Into<Bytes>) -> Reply {
    whole(status, "text/plain; charset=utf-8", words)
}

/// A whole answer.
pub fn whole(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Reply {
    let mut reply = boxed(Response::new(Full::new(body.into())));
    *reply.status_mut() = status;
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply
}

/// Any body as the one type this server sends.
pub fn boxed<B>(reply: Response<B>) -> Reply
where
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BodyError>,
{
    reply.map(|body| body.map_err(Into::into).boxed_unsync())
}
