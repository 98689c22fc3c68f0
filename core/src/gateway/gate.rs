//! The gate: the name `gate.{domain}`, by which requests reach the proxy beside PVE where no binding leads there.
//!
//! At Cloudflare the route of the guests' names catches this name too. What a Worker sends into the zone whose route it
//! answers passes the route by, and goes into the tunnel (cloudflare-docs#24). What others send comes to the Worker: the own
//! calls of an AWS Lambda beside it, and those of a Worker whose API was asked under a name of another zone. The Worker sends
//! them on, once, and nothing else: whoever has got hold of the proxy's key reaches no port but the daemon's, which obeys
//! nobody without a signature, or its token.

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use pve_edge_guest_protocol::PORT;

use super::{
    Answer,
    relay::{self, UPLOAD, below},
};
use crate::{
    access::secret::{Key, constant_time_eq},
    error::{Code, Error},
    io::{self, Io, Relay, RequestBody, ResponseBody, Way, proxy},
    provider::Provider,
    sandbox::address::gate_url,
    settings::Settings,
};

/// Says that a gateway has sent a request on.
const SENT_ON: HeaderName = HeaderName::from_static("x-edge-sent-on");
/// Status by which Cloudflare's edge says that it has no connection to send a request on.
const WAY_DOWN: u16 = 530;

/// Sends an own call on to the proxy, as it is, and its answer back. Who has not the proxy's key is told what the proxy tells
/// him; without any there is no such name.
pub async fn send_on<I: Io, E>(
    provider: &Provider<'_, I>,
    request: Request<I::Upload>,
) -> Result<Answer<E, I::Body>, Error> {
    let settings = provider.settings();
    let Some(domain) = settings.public_domain.as_ref().filter(|_| request.headers().contains_key(proxy::KEY))
    else {
        return Err(Error::new(Code::UnknownHost, "no sandbox has this name"));
    };
    if !has_key(settings, &request) {
        return Ok(told(404, proxy::REFUSED));
    }
    if request.headers().contains_key(&SENT_ON) || !is_own_call(request.headers()) {
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
    // Whoever has sent it has a time of its own.
    let sent = relay.send(&provider.io, provider.now() + UPLOAD).await;
    Ok(sent.unwrap_or_else(|failure| match failure.sent {
        io::Sent::Never => told(WAY_DOWN, ""),
        io::Sent::Maybe => told(502, proxy::LATE),
    }))
}

/// Whether a request is for the daemon, or for the port by which health tests the way, and from a deployment itself.
fn is_own_call(headers: &HeaderMap) -> bool {
    let text = |name: &HeaderName| headers.get(name).and_then(|it| it.to_str().ok()).unwrap_or_default();
    let port = text(&proxy::TO).rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    text(&proxy::CLIENT) == proxy::OURSELVES && port.is_some_and(|it| it == PORT || it == proxy::NOBODYS)
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

/// What became of a request, as whoever has sent it reads it from the proxy or from Cloudflare's edge.
fn told<E, B>(status: u16, fault: &'static str) -> Answer<E, B> {
    let mut answer = Response::new(ResponseBody::Whole(Vec::new()));
    *answer.status_mut() = http::StatusCode::from_u16(status).unwrap_or_default();
    let fault = (!fault.is_empty()).then(|| (proxy::FAULT, HeaderValue::from_static(fault)));
    answer.headers_mut().extend(fault);
    answer
}
