//! Core's [`Io`] on the platform's `fetch`.

use std::{
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use crate::{body, headers, link::Link, request::Upload};
use futures_util::{
    FutureExt, Stream,
    future::{Either, select},
    ready,
};
use http::{Method, Request};
use pve_edge_core::io::{
    Answer, Failure, Io, Linked, NetError, RequestBody, Sent, Way, link::refused, websocket::upgrade,
};
use time::OffsetDateTime;
use worker::{
    AbortController, Date, Delay, Env, Headers,
    js_sys::{self, Object, Promise, Reflect, Uint8Array},
    wasm_bindgen::{JsCast, JsValue},
    wasm_bindgen_futures::JsFuture,
    web_sys::{self, RequestInit, RequestRedirect, WorkerGlobalScope},
    worker_sys::{Fetcher, RateLimiter, ext::ResponseExt},
};

/// The name of the binding that leads into the private network.
const BINDING: &str = "PVE";

/// The name of the binding that leads to the proxy beside PVE.
const GATE: &str = "GATE";

/// The name of the binding to the files that are deployed with the Worker.
const ASSETS: &str = "ASSETS";

/// The name of the platform's limiter of creations.
const LIMITER: &str = "CREATES";

/// Whether the private network can be reached. A var of that name counts too:
/// it is a mistake that requests then report, and not an absent binding.
pub fn has_binding(env: &Env) -> bool {
    Reflect::has(env, &BINDING.into()).unwrap_or(false)
}

/// The network: the platform's `fetch`, and a binding's when there is one.
#[derive(Clone, Debug)]
pub struct Net {
    binding: Option<JsValue>,
    gate: Option<JsValue>,
    assets: Option<JsValue>,
    limiter: Option<RateLimiter>,
}

impl Net {
    /// The network of this invocation.
    pub fn new(env: &Env) -> Self {
        let binding = has_binding(env).then(|| Reflect::get(env, &BINDING.into()).ok()).flatten();
        let bound = |name: &str| Reflect::get(env, &name.into()).ok().filter(JsValue::is_object);
        Self {
            binding,
            gate: bound(GATE),
            assets: bound(ASSETS),
            limiter: bound(LIMITER).map(JsCast::unchecked_into),
        }
    }

    /// Calls `fetch`; whatever it throws before it has a promise was not sent.
    fn fetch(&self, way: Way, url: &str, init: &RequestInit) -> Result<Promise, NetError> {
        let binding = match way {
            Way::Pve | Way::Guest => self.binding.as_ref(),
            Way::Proxy => self.gate.as_ref(),
            Way::Public => None,
            Way::Assets => Some(self.assets.as_ref().ok_or_else(|| unsent("there is no binding ASSETS"))?),
        };
        match binding {
            Some(binding) => {
                if !binding.is_object() {
                    return Err(unsent("PVE is a var, not a binding"));
                }
                let fetcher: &Fetcher = binding.unchecked_ref();
                fetcher.fetch_with_str_and_init(url, init).map_err(|error| unsent(&words(&error)))
            }
            None => {
                let global: WorkerGlobalScope = js_sys::global().unchecked_into();
                Ok(global.fetch_with_str_and_init(url, init))
            }
        }
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
        let left = left(deadline);
        if left.is_zero() {
            return Err(timeout(Sent::Never));
        }
        let way = request.extensions().get().copied().unwrap_or(Way::Public);
        let guard = Guard(Some(AbortController::default()));
        let url = request.uri().to_string();
        let init = init(request, &guard)?;
        if way == Way::Proxy {
            keep_no_copy(&init);
        }
        let promise = self.fetch(way, &url, &init)?;
        let response = match select(JsFuture::from(promise), pin!(Delay::from(left))).await {
            Either::Left((response, _)) => response.map_err(|thrown| failed(&words(&thrown)))?,
            Either::Right(_) => return Err(timeout(Sent::Maybe)),
        };
        let response: web_sys::Response =
            response.dyn_into().map_err(|_| failed("fetch gave no response"))?;
        Ok(Answer {
            status: response.status(),
            reason: response.status_text(),
            headers: headers::from_platform(&Headers(response.headers())),
            body: Body { body: body::Body::Unread(response.body()), response, deadline, timer: None, guard },
        })
    }

    /// The platform makes and checks what RFC 6455 has besides `Upgrade`, and answers 502 by itself where it does not
    /// like what the server says.
    async fn link(
        &self,
        mut request: Request<()>,
        deadline: OffsetDateTime,
    ) -> Result<Linked<Link>, NetError> {
        upgrade(request.headers_mut());
        let answer = self.open(request.map(|()| RequestBody::Whole(Vec::new())), deadline).await?;
        match answer.body.response.websocket() {
            Some(socket) => Link::new(socket, answer.body.guard).map(Linked::Open),
            None => refused(answer).await,
        }
    }

    async fn sleep(&self, duration: Duration) {
        Delay::from(duration).await;
    }

    fn now(&self) -> OffsetDateTime {
        now()
    }

    /// A limiter that fails keeps nobody out.
    async fn admits(&self, key: String) -> bool {
        let Some(limiter) = &self.limiter else { return true };
        let asked = Object::new();
        let _ = Reflect::set(&asked, &"key".into(), &key.into());
        let Ok(answer) = limiter.limit(asked) else { return true };
        let outcome = JsFuture::from(answer).await.unwrap_or_default();
        Reflect::get(&outcome, &"success".into()).ok().and_then(|it| it.as_bool()) != Some(false)
    }
}

/// Body of an upstream's answer. Dropped, it closes its connection.
#[derive(Debug)]
pub struct Body {
    response: web_sys::Response,
    body: body::Body,
    /// When reading it is over.
    deadline: OffsetDateTime,
    timer: Option<Pin<Box<Delay>>>,
    guard: Guard,
}

impl Body {
    /// The answer itself, to be handed on; it has no deadline, and the platform closes its connection.
    pub(crate) fn into_inner(mut self) -> web_sys::Response {
        self.guard.0 = None;
        self.response
    }
}

impl Stream for Body {
    type Item = Result<Vec<u8>, NetError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let left = left(self.deadline);
        let end = match self.body.poll_next(cx) {
            Poll::Ready(None) => None,
            _ if left.is_zero() => Some(Err(timeout(Sent::Maybe))),
            Poll::Ready(Some(Ok(chunk))) => return Poll::Ready(Some(Ok(chunk))),
            Poll::Ready(Some(Err(error))) => Some(Err(failed(&error.to_string()))),
            Poll::Pending => {
                // A new timer each time: it wakes only the task that polled it first.
                let timer = self.timer.insert(Box::pin(Delay::from(left)));
                ready!(timer.poll_unpin(cx));
                Some(Err(timeout(Sent::Maybe)))
            }
        };
        self.body = body::Body::Unread(None);
        self.timer = None;
        Poll::Ready(end)
    }
}

/// Aborts its request when it is dropped; dropping the future of a promise would leave the connection open
/// until the invocation ends (rule P1.3).
#[derive(Debug)]
pub(crate) struct Guard(Option<AbortController>);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(controller) = self.0.take() {
            controller.abort();
        }
    }
}

/// The request as the platform takes it. Core's own bodies are bytes, because a stream would go out chunked,
/// which PVE refuses, and text gets a content type.
fn init(request: Request<RequestBody<Upload>>, guard: &Guard) -> Result<RequestInit, NetError> {
    let (parts, body) = request.into_parts();
    let init = RequestInit::new();
    init.set_method(parts.method.as_str());
    init.set_redirect(RequestRedirect::Manual);
    init.set_signal(guard.0.as_ref().map(AbortController::signal).as_deref());
    init.set_headers(&headers::to_platform(&parts.headers).map_err(|error| unsent(&error.to_string()))?.0);
    match body {
        RequestBody::Whole(bytes) => {
            if !bytes.is_empty() || matches!(parts.method, Method::POST | Method::PUT | Method::PATCH) {
                init.set_body(&Uint8Array::from(bytes.as_slice()));
            }
        }
        RequestBody::Streamed(upload) => init.set_body_opt_readable_stream(upload.into_inner().as_ref()),
    }
    Ok(init)
}

/// Has Cloudflare's edge keep no answer of a guest: by the endings of names it would keep some that say nothing of it, and
/// show them of the next guest.
fn keep_no_copy(init: &RequestInit) {
    let (cf, ttl) = (Object::new(), Object::new());
    let _ = Reflect::set(&ttl, &"100-599".into(), &(-1).into());
    let _ = Reflect::set(&cf, &"cacheTtlByStatus".into(), &ttl);
    let _ = Reflect::set(init, &"cf".into(), &cf);
}

fn now() -> OffsetDateTime {
    let millis = i128::from(Date::now().as_millis());
    OffsetDateTime::from_unix_timestamp_nanos(millis * 1_000_000).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

fn left(deadline: OffsetDateTime) -> Duration {
    Duration::try_from(deadline - now()).unwrap_or(Duration::ZERO)
}

/// An exception of the platform. It says `retryable` of requests that the server has read, so only a
/// binding's own code proves that none reached it (rule P3.2).
pub(crate) fn failed(detail: &str) -> NetError {
    let (sent, failure) = if detail.contains("connection_refused") {
        (Sent::Never, Failure::Connect)
    } else if detail.contains("connection_timeout") {
        (Sent::Maybe, Failure::Timeout)
    } else if detail.contains("connection_terminated") || detail.contains("connection lost") {
        (Sent::Maybe, Failure::Cut)
    } else {
        (Sent::Maybe, Failure::Unknown)
    };
    NetError { sent, failure, detail: detail.to_owned() }
}

fn timeout(sent: Sent) -> NetError {
    NetError::new(sent, Failure::Timeout, "the deadline passed")
}

fn unsent(detail: &str) -> NetError {
    NetError::new(Sent::Never, Failure::Unknown, detail)
}

/// An exception's code, which a binding's have, and its message.
pub(crate) fn words(thrown: &JsValue) -> String {
    let part = |name: &str| Reflect::get(thrown, &name.into()).ok()?.as_string();
    let words: Vec<_> = ["code", "message"].into_iter().filter_map(part).collect();
    if words.is_empty() { format!("{thrown:?}") } else { words.join(": ") }
}
