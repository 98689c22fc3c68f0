//! Client of the daemon in a guest: signed calls, each executed once at most.
//!
//! The daemon gives out sessions, in which a call counts; `GET /healthz` tells the present one. A call that names another
//! session is proved not to have been executed, and is sent once more under the right one. One that was never sent goes on
//! another way, where there is one.

mod failure;
mod files;
mod held;
pub(crate) mod program;
mod terminal;

use futures_util::Stream;
use http::{HeaderMap, HeaderValue, Method, Request, header};
use pve_edge_guest_protocol::{
    CALL, HEALTH_PATH, SIGNATURE, Unique,
    answer::{Code as Refused, Health, Refusal},
    call::{Body, Call, Operation},
    keys::EdgeKey,
};
use serde::de::DeserializeOwned;
use time::OffsetDateTime;

pub use self::{
    failure::CallFailure,
    files::{broke_off, ensure_whole},
};
use self::{held::Held, terminal::open_websocket};
use crate::{
    access::secret::Keyring,
    io::{Answer, Failure, Io, NetError, RequestBody, Sent, Way, collect, invocation::Invocation, proxy},
    sandbox::{defaults::Defaults, place::Place},
};

/// Bytes up to which an answer in JSON is read.
const ANSWER_CAP: usize = 8 << 20;

/// The daemon of one sandbox.
#[derive(Clone)]
pub struct Daemon<'i, I> {
    invocation: Held<'i, I>,
    /// Where it is reached, the first of them first.
    places: Vec<Place>,
    /// The place that is used.
    at: usize,
    /// Id of the sandbox without its node.
    to: String,
    /// Keys of the deployment, the newest first.
    keys: Vec<EdgeKey>,
    /// What the daemon has told of itself.
    known: Option<Known>,
    /// Boot of the guest that all further calls are for.
    pinned: Option<Unique>,
    /// As which user and where files are meant that do not say it.
    defaults: Defaults,
}

/// Session of a daemon, and the key with which calls of it are signed.
#[derive(Clone, Debug)]
struct Known {
    session: Unique,
    boot: Unique,
    key: usize,
}

/// Call that is to be made.
struct Outgoing<'a> {
    operation: &'a Operation,
    body: &'a [u8],
    /// Headers with which it opens a websocket.
    opening: Option<&'a HeaderMap>,
}

impl<'i, I: Io> Daemon<'i, I> {
    /// The daemon of the sandbox `to`, which is an id without its node.
    pub fn new(
        invocation: &'i Invocation<I>,
        places: Vec<Place>,
        to: String,
        secrets: &Keyring,
        deployment: &str,
    ) -> Self {
        let keys = secrets.all().map(|secret| secret.guest_key(deployment)).collect();
        let invocation = Held::Borrowed(invocation);
        Self { invocation, places, at: 0, to, keys, known: None, pinned: None, defaults: Defaults::default() }
    }

    /// The same daemon, for an answer that streams on after the request was handled.
    pub fn detached(self) -> Daemon<'static, I> {
        let Self { invocation, places, at, to, keys, known, pinned, defaults } = self;
        Daemon { invocation: invocation.detached(), places, at, to, keys, known, pinned, defaults }
    }

    /// Has files that do not say it be meant as which user, and where.
    pub fn set_defaults(&mut self, defaults: Defaults) {
        self.defaults = defaults;
    }

    /// Makes no call any more once the guest has another boot than this one: the next is [`CallFailure::Restarted`].
    pub fn pin(&mut self, boot: Option<Unique>) {
        self.pinned = boot;
    }

    /// The world and the limits of its calls.
    pub fn invocation(&self) -> &Invocation<I> {
        &self.invocation
    }

    /// The boot in which the guest is, once the daemon has told it.
    pub fn boot(&self) -> Option<Unique> {
        self.known.as_ref().map(|it| it.boot)
    }

    /// Asks the daemon for its session, which nobody signs.
    pub async fn health(&mut self, deadline: OffsetDateTime) -> Result<Health, CallFailure> {
        let answer = self.send(HEALTH_PATH, &Request::new(()), &[], deadline).await?;
        let status = answer.status;
        let bytes = collect(answer.body, ANSWER_CAP).await.map_err(CallFailure::Unanswered)?;
        let health = serde_json::from_slice(&bytes).ok().filter(|_| status == 200);
        let health: Health = health.ok_or(CallFailure::Foreign { status })?;
        self.learn(&health)?;
        Ok(health)
    }

    /// Has the daemon draw boot and session anew, because the guest's memory may be a copy.
    pub async fn renew(&mut self, deadline: OffsetDateTime) -> Result<(), CallFailure> {
        let health: Health = self.ask(&Operation::Renew {}, &[], deadline).await?;
        self.learn(&health)
    }

    /// Sends a call that nobody has signed; the status of the answer.
    pub async fn unsigned(&mut self, deadline: OffsetDateTime) -> Result<u16, CallFailure> {
        let answer = self.send("/v1/hello", &post(0), &[], deadline).await?;
        let status = answer.status;
        collect(answer.body, ANSWER_CAP).await.map_err(CallFailure::Unanswered)?;
        Ok(status)
    }

    /// Remembers what the daemon has told of itself.
    fn learn(&mut self, health: &Health) -> Result<(), CallFailure> {
        let key = self.keys.iter().position(|key| health.knows(key.id())).ok_or(CallFailure::NoKey)?;
        self.allow(health.boot)?;
        self.known = Some(Known { session: health.session, boot: health.boot, key });
        Ok(())
    }

    /// Makes a call and reads its answer, which is JSON.
    pub async fn ask<T: DeserializeOwned>(
        &mut self,
        operation: &Operation,
        body: &[u8],
        deadline: OffsetDateTime,
    ) -> Result<T, CallFailure> {
        decode(self.open(operation, body, deadline).await?).await
    }

    /// Makes a call, and returns its answer when the headers are in.
    pub async fn open(
        &mut self,
        operation: &Operation,
        body: &[u8],
        deadline: OffsetDateTime,
    ) -> Result<Answer<I::Body>, CallFailure> {
        self.make(Outgoing { operation, body, opening: None }, deadline).await
    }

    /// Makes a call, once more if its session was not valid.
    async fn make(
        &mut self,
        outgoing: Outgoing<'_>,
        deadline: OffsetDateTime,
    ) -> Result<Answer<I::Body>, CallFailure> {
        let known = self.known(deadline).await?;
        match self.signed(&known, &outgoing, deadline).await {
            Err(CallFailure::Refused(refusal)) if refusal.code == Refused::Session => {
                let known = self.renewed(known, &refusal)?;
                self.signed(&known, &outgoing, deadline).await
            }
            result => result,
        }
    }

    /// Makes a call whose body the adapter sends on as it comes. It cannot be sent twice: who makes it has just asked the
    /// daemon for its session, or it is asked now.
    pub async fn upload(
        &mut self,
        operation: &Operation,
        body: I::Upload,
        deadline: OffsetDateTime,
    ) -> Result<Answer<I::Body>, CallFailure> {
        let known = self.known(deadline.min(self.invocation.end())).await?;
        let call = self.call(&known, operation, None);
        let mut head = self.head(&known, &call)?;
        head.headers_mut().remove(header::CONTENT_LENGTH);
        let place = self.places.get(self.at).ok_or_else(nowhere)?;
        let request = place.request(&path(operation), &head).map(|()| RequestBody::Streamed(body));
        let answer = self.attempt(operation.name(), request, deadline).await?;
        answer_to(&call, answer).await
    }

    /// What the daemon has told of itself, or is asked now.
    async fn known(&mut self, deadline: OffsetDateTime) -> Result<Known, CallFailure> {
        if self.known.is_none() {
            self.health(deadline).await.map_err(CallFailure::before_a_call)?;
        }
        self.known.clone().ok_or(CallFailure::NoKey)
    }

    /// The session that a refusal names.
    fn renewed(&mut self, known: Known, refusal: &Refusal) -> Result<Known, CallFailure> {
        let (Some(session), Some(boot)) = (refusal.session, refusal.boot) else {
            return Err(CallFailure::Refused(refusal.clone()));
        };
        self.allow(boot)?;
        let known = Known { session, boot, ..known };
        self.known = Some(known.clone());
        Ok(known)
    }

    /// Refuses a boot that calls are not for.
    fn allow(&self, boot: Unique) -> Result<(), CallFailure> {
        if self.pinned.is_some_and(|it| it != boot) { Err(CallFailure::Restarted) } else { Ok(()) }
    }

    /// Signs a call and sends it, once.
    async fn signed(
        &mut self,
        known: &Known,
        &Outgoing { operation, body, opening }: &Outgoing<'_>,
        deadline: OffsetDateTime,
    ) -> Result<Answer<I::Body>, CallFailure> {
        let call = self.call(known, operation, Some(Body::of(body)));
        let mut head = self.head(known, &call)?;
        if let Some(opening) = opening {
            open_websocket(&mut head, opening);
        }
        let answer = self.send(&path(operation), &head, body, deadline).await?;
        answer_to(&call, answer).await
    }

    fn call(&self, known: &Known, operation: &Operation, body: Option<Body>) -> Call {
        let name = Unique(self.invocation.draw());
        Call { to: self.to.clone(), session: known.session, call: name, operation: operation.clone(), body }
    }

    /// A request with the headers of a call.
    fn head(&self, known: &Known, call: &Call) -> Result<Request<()>, CallFailure> {
        let signed = self.keys.get(known.key).and_then(|key| call.sign(key)).ok_or(CallFailure::TooLarge)?;
        let value = |text: &str| HeaderValue::from_str(text).map_err(|_| CallFailure::TooLarge);
        let mut head = post(call.body.map_or(0, |it| it.length));
        head.headers_mut().insert(CALL, value(&signed.call)?);
        head.headers_mut().insert(SIGNATURE, value(&signed.signature)?);
        Ok(head)
    }

    /// Sends a request to the place that is used, and to the next one where it was never sent.
    async fn send(
        &mut self,
        path: &str,
        head: &Request<()>,
        body: &[u8],
        deadline: OffsetDateTime,
    ) -> Result<Answer<I::Body>, CallFailure> {
        loop {
            let place = self.places.get(self.at).ok_or_else(nowhere)?;
            let request = place.request(path, head).map(|()| RequestBody::Whole(body.to_vec()));
            match self.attempt(path, request, deadline).await {
                Err(CallFailure::NotSent(_)) if self.at + 1 < self.places.len() => self.at += 1,
                result => return result,
            }
        }
    }

    async fn attempt(
        &self,
        path: &str,
        request: Request<RequestBody<I::Upload>>,
        deadline: OffsetDateTime,
    ) -> Result<Answer<I::Body>, CallFailure> {
        if !self.invocation.spend(1) {
            return Err(CallFailure::Budget);
        }
        let start = self.invocation.now();
        let way = request.extensions().get().copied().unwrap_or(Way::Public);
        let answer = self.invocation.io.open(request, deadline).await;
        let ms = (self.invocation.now() - start).whole_milliseconds() as i64;
        let status = answer.as_ref().map_or(0, |it| it.status);
        tracing::info!(api = "guest", path, status, ms, "call");
        let answer = answer.map_err(CallFailure::of)?;
        // What names a call is the daemon's own, whoever has brought it.
        let fault = proxy::fault(way, answer.status, &answer.headers);
        match fault.filter(|_| !answer.headers.contains_key(CALL)) {
            Some(fault) => Err(CallFailure::of(fault)),
            None => Ok(answer),
        }
    }
}

fn post(length: u64) -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = Method::POST;
    let headers = request.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    request
}

fn path(operation: &Operation) -> String {
    format!("/v1/{}", operation.name())
}

fn nowhere() -> CallFailure {
    let detail = "no address of the sandbox is known".into();
    CallFailure::NotSent(NetError { sent: Sent::Never, failure: Failure::Dns, detail })
}

/// The answer, if it is to this call and no refusal.
async fn answer_to<B>(call: &Call, answer: Answer<B>) -> Result<Answer<B>, CallFailure>
where
    B: Stream<Item = Result<Vec<u8>, NetError>> + Unpin,
{
    match answer.status {
        status if !names(&answer.headers, call.call) => Err(CallFailure::Foreign { status }),
        101 if matches!(call.operation, Operation::Terminal(_)) => Ok(answer),
        200 if !matches!(call.operation, Operation::Terminal(_)) => Ok(answer),
        _ => Err(refusal(answer).await),
    }
}

/// Reads an answer, which is JSON.
async fn decode<B, T>(answer: Answer<B>) -> Result<T, CallFailure>
where
    B: Stream<Item = Result<Vec<u8>, NetError>> + Unpin,
    T: DeserializeOwned,
{
    let bytes = collect(answer.body, ANSWER_CAP).await.map_err(CallFailure::Unanswered)?;
    serde_json::from_slice(&bytes).map_err(|_| CallFailure::Foreign { status: answer.status })
}

/// Whether an answer says that it is to this call: one of a connection that is out of step is to another.
fn names(headers: &HeaderMap, call: Unique) -> bool {
    headers.get(CALL).is_some_and(|value| value.as_bytes() == call.to_string().as_bytes())
}

/// The refusal that an answer holds.
async fn refusal<B>(answer: Answer<B>) -> CallFailure
where
    B: Stream<Item = Result<Vec<u8>, NetError>> + Unpin,
{
    let status = answer.status;
    let bytes = match collect(answer.body, ANSWER_CAP).await {
        Ok(bytes) => bytes,
        Err(error) => return CallFailure::Unanswered(error),
    };
    match serde_json::from_slice::<Refusal>(&bytes) {
        Ok(refusal) if refusal.code.status() == status => CallFailure::Refused(refusal),
        _ => CallFailure::Foreign { status },
    }
}
