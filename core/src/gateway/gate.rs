//! The gate: the name `gate.{domain}`, by which requests reach the proxy beside PVE where no binding leads there.
//!
//! At Cloudflare the route of the guests' names catches this name too. What a Worker sends into the zone whose route it
//! answers passes the route by, and goes into the tunnel (cloudflare-docs#24). What others send comes to the Worker: the own
//! calls of an AWS Lambda beside it, and those of a Worker whose API was asked under a name of another zone. The Worker sends
//! them on, once.

use http::{HeaderName, HeaderValue, Request, Response};

use super::{
    Answer,
    relay::{self, ANSWER, below},
};
use crate::{
    access::secret::{Key, constant_time_eq},
    error::{Code, Error},
    io::{self, Io, NetError, Relay, RequestBody, ResponseBody, Way, proxy},
    provider::Provider,
    sandbox::address::gate_url,
    settings::Settings,
};

/// Says that a gateway has sent a request on.
const SENT_ON: HeaderName = HeaderName::from_static("x-edge-sent-on");
/// Status by which Cloudflare's edge says that it has no connection to send a request on.
const WAY_DOWN: u16 = 530;

/// Sends a request that has the proxy's key on to the proxy, as it is, and its answer back. Without the key there is no
/// such name.
pub async fn send_on<I: Io, E>(
    provider: &Provider<'_, I>,
    request: Request<I::Upload>,
) -> Result<Answer<E, I::Body>, Error> {
    let settings = provider.settings();
    let Some(domain) = settings.public_domain.as_ref().filter(|_| has_key(settings, &request)) else {
        return Err(Error::new(Code::UnknownHost, "no sandbox has this name"));
    };
    if request.headers().contains_key(&SENT_ON) {
        return Err(looped());
    }
    if !provider.spend(1) {
        return Err(Error::new(Code::BudgetExhausted, "ask again"));
    }
    let (mut head, body) = relay::keep(request).await?.into_parts();
    head.headers.insert(SENT_ON, HeaderValue::from_static("1"));
    head.uri = below(&gate_url(domain), &head.uri);
    let mut relay = Relay::new(Request::from_parts(head, RequestBody::from(body)), &provider.platform)?;
    relay.request.extensions_mut().insert(Way::Proxy);
    let sent = relay.send(&provider.io, provider.now() + ANSWER).await;
    Ok(sent.unwrap_or_else(|failure| told(&failure)))
}

/// Refuses a request that the gateway itself has sent: it would be sent again for ever.
pub(super) fn refuse_loop<B>(settings: &Settings, request: &Request<B>) -> Result<(), Error> {
    if has_key(settings, request) { Err(looped()) } else { Ok(()) }
}

fn looped() -> Error {
    let text = "a request to the proxy beside PVE came back here: the tunnel's hostname leads to this Worker, not to the tunnel";
    Error::new(Code::GatewayLoop, text)
}

/// Whether a request has the key of the proxy, by any secret that is listed.
fn has_key<B>(settings: &Settings, request: &Request<B>) -> bool {
    let key = request.headers().get(proxy::KEY).map(HeaderValue::as_bytes);
    let is_right =
        |secret: &Key, key: &[u8]| constant_time_eq(secret.proxy_key(&settings.deployment).as_bytes(), key);
    key.is_some_and(|key| settings.secrets.all().any(|it| is_right(it, key)))
}

/// A failure, as whoever has asked reads it from the proxy or Cloudflare's edge.
fn told<E, B>(failure: &NetError) -> Answer<E, B> {
    let mut answer = Response::new(ResponseBody::Whole(Vec::new()));
    let (status, fault) = match failure.sent {
        io::Sent::Never => (WAY_DOWN, None),
        io::Sent::Maybe => (502, Some(HeaderValue::from_static(proxy::LATE))),
    };
    *answer.status_mut() = http::StatusCode::from_u16(status).unwrap_or_default();
    answer.headers_mut().extend(fault.map(|it| (proxy::FAULT, it)));
    answer
}
