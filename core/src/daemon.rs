//! Client of the daemon in a guest: signed calls, each executed once at most.
//!
//! The daemon gives out sessions, in which a call counts; `GET /healthz` tells the present one. A call that names another
//! session is proved not to have been executed, and is sent once more under the right one.

mod failure;
mod files;

use futures_util::Stream;
use http::{HeaderMap, HeaderValue, Method, Request, Uri, header};
use pve_edge_guest_protocol::{
    CALL, HEALTH_PATH, SIGNATURE, Unique,
    answer::{Code as Refused, Health, Refusal},
    call::{Body, Call, Operation},
    keys::EdgeKey,
};
use serde::de::DeserializeOwned;
use time::OffsetDateTime;

pub use self::failure::CallFailure;
use crate::{
    access::secret::Keyring,
    io::{Answer, Io, NetError, RequestBody, Way, collect, fetch, invocation::Invocation},
};

/// Bytes up to which an answer in JSON is read.
const ANSWER_CAP: usize = 8 << 20;

/// Where the daemon of a sandbox, and of no other, is reached.
#[derive(Clone, Debug)]
pub struct Place {
    /// Origin of its URLs, such as `http://10.0.0.7:39375`.
    pub base: String,
    /// The way on which the adapter sends to it.
    pub way: Way,
}

/// The daemon of one sandbox.
pub struct Daemon<'i, I> {
    invocation: &'i Invocation<I>,
    place: Place,
    /// Id of the sandbox without its node.
    to: String,
    /// Keys of the deployment, the newest first.
    keys: Vec<EdgeKey>,
    /// What the daemon has told of itself.
    known: Option<Known>,
}

/// Session of a daemon, and the key with which calls of it are signed.
#[derive(Clone, Debug)]
struct Known {
    session: Unique,
    boot: Unique,
    key: usize,
}

impl<'i, I: Io> Daemon<'i, I> {
    /// The daemon of the sandbox `to`, which is an id without its node.
    pub fn new(
        invocation: &'i Invocation<I>,
        place: Place,
        to: String,
        secrets: &Keyring,
        deployment: &str,
    ) -> Self {
        let keys = secrets.all().map(|secret| secret.guest_key(deployment)).collect();
        Self { invocation, place, to, keys, known: None }
    }

    /// The boot in which the guest is, once the daemon has told it.
    pub fn boot(&self) -> Option<Unique> {
        self.known.as_ref().map(|it| it.boot)
    }

    /// Asks the daemon for its session, which nobody signs.
    pub async fn health(&mut self, deadline: OffsetDateTime) -> Result<Health, CallFailure> {
        let mut request = Request::new(Vec::new());
        *request.uri_mut() = self.uri(HEALTH_PATH);
        request.extensions_mut().insert(self.place.way);
        if !self.invocation.spend(1) {
            return Err(CallFailure::Budget);
        }
        let whole =
            fetch(&self.invocation.io, request, deadline, ANSWER_CAP).await.map_err(CallFailure::of)?;
        let foreign = CallFailure::Foreign { status: whole.status };
        if whole.status != 200 {
            return Err(foreign);
        }
        let health: Health = serde_json::from_slice(&whole.body).map_err(|_| foreign)?;
        let key = self.keys.iter().position(|key| health.knows(key.id())).ok_or(CallFailure::NoKey)?;
        self.known = Some(Known { session: health.session, boot: health.boot, key });
        Ok(health)
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
        let known = self.known(deadline).await?;
        let signed = Some(Body::of(body));
        match self.attempt(&known, operation, signed, RequestBody::Whole(body.to_vec()), deadline).await {
            Err(CallFailure::Refused(refusal)) if refusal.code == Refused::Session => {
                let known = self.renewed(known, &refusal)?;
                self.attempt(&known, operation, signed, RequestBody::Whole(body.to_vec()), deadline).await
            }
            result => result,
        }
    }

    /// Makes a call whose body the adapter sends on as it comes. It cannot be sent twice: the daemon is asked for its
    /// session right before.
    pub async fn upload(
        &mut self,
        operation: &Operation,
        body: I::Upload,
        deadline: OffsetDateTime,
    ) -> Result<Answer<I::Body>, CallFailure> {
        self.health(deadline.min(self.invocation.end())).await?;
        let known = self.known(deadline).await?;
        self.attempt(&known, operation, None, RequestBody::Streamed(body), deadline).await
    }

    /// What the daemon has told of itself, or is asked now.
    async fn known(&mut self, deadline: OffsetDateTime) -> Result<Known, CallFailure> {
        if self.known.is_none() {
            self.health(deadline).await?;
        }
        self.known.clone().ok_or(CallFailure::NoKey)
    }

    /// The session that a refusal names.
    fn renewed(&mut self, known: Known, refusal: &Refusal) -> Result<Known, CallFailure> {
        let (Some(session), Some(boot)) = (refusal.session, refusal.boot) else {
            return Err(CallFailure::Refused(refusal.clone()));
        };
        let known = Known { session, boot, ..known };
        self.known = Some(known.clone());
        Ok(known)
    }

    /// Signs a call and sends it, once.
    async fn attempt(
        &self,
        known: &Known,
        operation: &Operation,
        signed: Option<Body>,
        body: RequestBody<I::Upload>,
        deadline: OffsetDateTime,
    ) -> Result<Answer<I::Body>, CallFailure> {
        let name = Unique(self.invocation.draw());
        let call = Call {
            to: self.to.clone(),
            session: known.session,
            call: name,
            operation: operation.clone(),
            body: signed,
        };
        let request = self.request(&call, known, body)?;
        if !self.invocation.spend(1) {
            return Err(CallFailure::Budget);
        }
        let start = self.invocation.now();
        let answer = self.invocation.io.open(request, deadline).await;
        let ms = (self.invocation.now() - start).whole_milliseconds() as i64;
        let status = answer.as_ref().map_or(0, |it| it.status);
        tracing::info!(api = "guest", path = operation.name(), status, ms, "call");
        let answer = answer.map_err(CallFailure::of)?;
        if names(&answer.headers, name) {
            return match answer.status {
                200 => Ok(answer),
                _ => Err(refusal(answer).await),
            };
        }
        Err(CallFailure::stranger(answer.status))
    }

    fn request(
        &self,
        call: &Call,
        known: &Known,
        body: RequestBody<I::Upload>,
    ) -> Result<Request<RequestBody<I::Upload>>, CallFailure> {
        let signed = self.keys.get(known.key).and_then(|key| call.sign(key)).ok_or(CallFailure::TooLarge)?;
        let value = |text: &str| HeaderValue::from_str(text).map_err(|_| CallFailure::TooLarge);
        let length = match &body {
            RequestBody::Whole(bytes) => Some(bytes.len()),
            RequestBody::Streamed(_) => None,
        };
        let mut request = Request::new(body);
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri(&format!("/v1/{}", call.operation.name()));
        let headers = request.headers_mut();
        headers.insert(CALL, value(&signed.call)?);
        headers.insert(SIGNATURE, value(&signed.signature)?);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        headers.extend(length.map(|it| (header::CONTENT_LENGTH, HeaderValue::from(it))));
        request.extensions_mut().insert(self.place.way);
        Ok(request)
    }

    fn uri(&self, path: &str) -> Uri {
        format!("{}{path}", self.place.base).parse().unwrap_or_default()
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
