//! Relays: a visitor's request as the sandbox gets it, and the sandbox's answer as the visitor gets it.

use std::time::Duration;

use futures_util::Stream;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Uri,
    header::{CONTENT_LENGTH, CONTENT_SECURITY_POLICY, FORWARDED, HOST, SET_COOKIE, TRANSFER_ENCODING},
    request::Parts,
};

use super::{Answer, COOKIE, Gateway, Visit, credential::Credential, door::Door, sibling};
use crate::{
    error::{Code, Error},
    io::{self, Io, NetError, Relay, RequestBody, Way, collect, proxy},
    sandbox::{
        place::{Place, Visitor},
        service::HostHeader,
        visit::Visited,
    },
};

/// Time in which a sandbox has to begin its answer; Cloudflare gives up then too.
const ANSWER: Duration = Duration::from_secs(100);

/// Time for a body that streams and the beginning of its answer: 100 MB take a slow client a while, and the proxy waits
/// for an answer from its end on.
pub(super) const UPLOAD: Duration = Duration::from_secs(3600);

/// Bytes of a body up to which it is kept, so that it can be sent when a sandbox has come up.
const KEPT: u64 = 64 << 10;

/// Headers that a client's own network may have set: a guest would believe them of us.
const OF_THE_WAY: [HeaderName; 3] =
    [FORWARDED, HeaderName::from_static("x-real-ip"), HeaderName::from_static("true-client-ip")];

/// First words of names of headers that are between us and those on the way.
const OURS: [&str; 4] = ["cf-", "x-edge-", "x-pve-edge-", "x-forwarded-"];

/// A request that goes to a sandbox.
pub(super) struct Outgoing<U> {
    head: Parts,
    body: Body<U>,
    place: Place,
    /// What the guest is told of the client, and `Host`, where the platform can tell it one.
    told: HeaderMap,
}

/// Body of a visitor's request.
pub(super) enum Body<U> {
    /// It can be sent again.
    Kept(Vec<u8>),
    /// It goes on as it comes, once.
    Streamed(U),
    /// It was sent.
    Spent,
}

/// What became of a request.
pub(super) enum Sent<U, E, B> {
    /// The sandbox has answered.
    Answered(Answer<E, B>),
    /// Nothing listens there: the request was never sent.
    NotThere(Box<Outgoing<U>>, NetError),
}

impl<U> Body<U> {
    /// Whether it can be sent once more.
    pub(super) fn is_repeatable(&self) -> bool {
        matches!(self, Self::Kept(_))
    }
}

impl<U> From<Body<U>> for RequestBody<U> {
    fn from(body: Body<U>) -> Self {
        match body {
            Body::Kept(bytes) => Self::Whole(bytes),
            Body::Streamed(upload) => Self::Streamed(upload),
            Body::Spent => Self::Whole(Vec::new()),
        }
    }
}

impl<U: Stream<Item = Result<Vec<u8>, NetError>> + Unpin> Outgoing<U> {
    /// Prepares the request of a visitor who is let in, to where the sandbox is.
    pub(super) fn new<I: Io<Upload = U>>(
        gateway: &Gateway<'_, '_, I>,
        visit: &Visit,
        at: Visited,
        request: Request<Body<U>>,
        client: &str,
    ) -> Result<Self, Error> {
        let (door, port) = (gateway.door, gateway.door.port);
        let (settings, platform) = (gateway.settings(), &gateway.provider.platform);
        let direct = platform.in_guest_network;
        let public = door.authority();
        let told = match visit.service.host_header {
            HostHeader::Public => public.clone(),
            HostHeader::Local => format!("localhost:{port}"),
        };
        let place = match (direct, &settings.public_domain) {
            (true, _) => Place::direct(at.ip, port),
            (false, Some(domain)) => {
                let visitor = Visitor::At { client, told: &told, public: &public };
                Place::proxied(domain, (at.target, port), &visitor, (&settings.secrets, &settings.deployment))
            }
            (false, None) => return Err(no_road()),
        };
        let (mut head, body) = request.into_parts();
        forget_way(&mut head.headers);
        let mut told_of = introduction(client, &public, &door.scheme);
        told_of.extend(told.parse().ok().filter(|_| direct).map(|it| (HOST, it)));
        Ok(Self { head, body, place, told: told_of })
    }

    /// Whether it can be sent once more.
    pub(super) fn is_repeatable(&self) -> bool {
        self.body.is_repeatable()
    }

    /// Sends it, once.
    pub(super) async fn send<I: Io<Upload = U>, E>(
        mut self,
        gateway: &Gateway<'_, '_, I>,
    ) -> Result<Sent<U, E, I::Body>, Error> {
        let provider = gateway.provider;
        if !provider.spend(1) {
            return Err(Error::new(Code::BudgetExhausted, "ask again"));
        }
        let longest = if self.is_repeatable() { ANSWER } else { UPLOAD };
        let body = match &mut self.body {
            Body::Kept(bytes) => RequestBody::Whole(bytes.clone()),
            Body::Spent => return Err(Error::new(Code::Internal, "a body was to be sent twice")),
            body => std::mem::replace(body, Body::Spent).into(),
        };
        let mut request = Request::from_parts(self.head.clone(), body);
        *request.uri_mut() = below(&self.place.base, request.uri());
        let mut relay = Relay::new(request, &provider.platform)?;
        self.place.lead(&mut relay.request);
        // Behind what the client's `Connection` takes away.
        for (name, value) in &self.told {
            relay.request.headers_mut().insert(name, value.clone());
        }
        let sent = relay.send(&provider.io, provider.now() + longest).await;
        let failure = match sent {
            Ok(answer) => match proxy::fault(self.place.way, answer.status().as_u16(), answer.headers()) {
                Some(fault) if self.place.way == Way::Proxy => {
                    (fault, answer.headers().get(proxy::FAULT).cloned())
                }
                _ => return Ok(Sent::Answered(answer)),
            },
            Err(error) => (error, None),
        };
        self.after(failure)
    }

    /// What a failure means: only where the guest itself took no connection, nothing is wrong with the way to it.
    fn after<E, B>(self, (failure, told): (NetError, Option<HeaderValue>)) -> Result<Sent<U, E, B>, Error> {
        let by_proxy = self.place.way == Way::Proxy;
        match (failure.sent, told.as_ref().map(|it| it.as_bytes())) {
            (io::Sent::Maybe, _) => {
                Err(Error::new(Code::ServiceCut, format!("{failure}; whether it was executed is not known")))
            }
            (io::Sent::Never, Some(b"refused")) => Err(Error::new(Code::ProxyRefused, failure.detail)),
            (io::Sent::Never, None) if by_proxy => {
                let text = format!(
                    "{failure}: look at cloudflared on the PVE host; GET /api/health/sandbox tells more"
                );
                Err(Error::new(Code::TunnelDown, text).retry_after(5))
            }
            (io::Sent::Never, _) => Ok(Sent::NotThere(Box::new(self), failure)),
        }
    }
}

/// Keeps the body of a request where it is small and its length is known: it is waited for.
pub(super) async fn keep<U>(request: Request<U>) -> Result<Request<Body<U>>, Error>
where
    U: Stream<Item = Result<Vec<u8>, NetError>> + Unpin,
{
    let (head, body) = request.into_parts();
    let body = kept(&head, body).await?;
    Ok(Request::from_parts(head, body))
}

async fn kept<U>(head: &Parts, body: U) -> Result<Body<U>, Error>
where
    U: Stream<Item = Result<Vec<u8>, NetError>> + Unpin,
{
    let length = head.headers.get(CONTENT_LENGTH).and_then(|it| it.to_str().ok()?.parse::<u64>().ok());
    let is_read =
        matches!(head.method, Method::GET | Method::HEAD) && !head.headers.contains_key(TRANSFER_ENCODING);
    let has_none = is_read || body.size_hint() == (0, Some(0));
    match length {
        None if has_none => Ok(Body::Kept(Vec::new())),
        Some(length) if length <= KEPT => {
            let whole = collect(body, KEPT as usize).await;
            let whole = whole.ok().filter(|it| it.len() as u64 == length);
            let text = "the body broke off, and nothing was sent to the sandbox";
            whole.map(Body::Kept).ok_or_else(|| Error::new(Code::InvalidRequest, text))
        }
        _ => Ok(Body::Streamed(body)),
    }
}

/// Takes out what others on the way have told of the client.
fn forget_way(headers: &mut HeaderMap) {
    let is_ours =
        |name: &HeaderName| OURS.iter().any(|it| name.as_str().starts_with(it)) || OF_THE_WAY.contains(name);
    let told: Vec<_> = headers.keys().filter(|it| is_ours(it)).cloned().collect();
    for name in told {
        headers.remove(name);
    }
}

/// What a guest is told of the client.
fn introduction(client: &str, public: &str, scheme: &str) -> HeaderMap {
    [("x-forwarded-for", client), ("x-forwarded-host", public), ("x-forwarded-proto", scheme)]
        .into_iter()
        .filter_map(|(name, value)| Some((HeaderName::from_static(name), value.parse().ok()?)))
        .collect()
}

/// The URI of the same path and query at another origin.
pub(super) fn below(base: &str, uri: &Uri) -> Uri {
    let path = uri.path_and_query().map_or("/", |it| it.as_str());
    format!("{base}{path}").parse().unwrap_or_default()
}

/// Takes out of a sandbox's answer what it may not say to a browser, and adds what holds for a private service.
pub(super) fn clean<E, B>(answer: &mut Answer<E, B>, door: &Door, visit: &Visit) {
    let headers = answer.headers_mut();
    // It would clear the cookies of all names below the domain.
    headers.remove("clear-site-data");
    let of_proxy: Vec<_> = headers.keys().filter(|it| it.as_str().starts_with("x-edge-")).cloned().collect();
    for name in of_proxy {
        headers.remove(name);
    }
    let cookies: Vec<_> = headers.get_all(SET_COOKIE).iter().filter_map(own_cookie).collect();
    headers.remove(SET_COOKIE);
    headers.extend(cookies.into_iter().map(|it| (SET_COOKIE, it)));
    if visit.is_public {
        return;
    }
    sibling::share(headers, &visit.asking, door, &visit.service);
    let framed_by = framers(door, visit);
    headers.extend(HeaderValue::from_str(&framed_by).ok().map(|it| (CONTENT_SECURITY_POLICY, it)));
}

/// Who may show a private service in a frame: pages of the same sandbox, and those that its link names.
fn framers(door: &Door, visit: &Visit) -> String {
    let embed = match &visit.admitted {
        Some(Credential::Pass(pass, _)) => pass.embed.join(" "),
        _ => String::new(),
    };
    let own = visit.identity.services.all().map(|(_, it)| Door { port: it.port, ..door.clone() }.origin());
    let own = if door.nonce.is_some() { own.collect::<Vec<_>>().join(" ") } else { String::new() };
    format!("frame-ancestors 'self' {own} {embed}").trim_end().to_owned()
}

/// A guest's cookie, for its own host alone; `None` of our name.
fn own_cookie(value: &HeaderValue) -> Option<HeaderValue> {
    let bytes = value.as_bytes();
    let mut parts = bytes.split(|it| *it == b';');
    let name = parts.clone().next()?.split(|it| *it == b'=').next()?.trim_ascii();
    if name.eq_ignore_ascii_case(COOKIE.as_bytes()) {
        return None;
    }
    let is_domain = |part: &&[u8]| {
        let name = part.split(|it| *it == b'=').next().unwrap_or_default().trim_ascii();
        name.eq_ignore_ascii_case(b"domain")
    };
    let first = parts.next()?;
    let kept =
        std::iter::once(first).chain(parts.filter(|it| !is_domain(it))).collect::<Vec<_>>().join(&b';');
    HeaderValue::from_bytes(&kept).ok()
}

pub(super) fn no_road() -> Error {
    let text = "the deployment knows no address of the sandbox that no guest can choose: set PVE_IP_POOL_CIDR, or \
                EDGE_GUEST_NETWORK, and PVE_PUBLIC_DOMAIN";
    Error::new(Code::NoRoad, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_says_of_its_way_no_guest_believes() {
        let mut headers = HeaderMap::new();
        for name in [
            "cf-connecting-ip",
            "cf-worker",
            "x-edge-key",
            "x-edge-to",
            "x-pve-edge-token",
            "x-forwarded-for",
            "x-forwarded-proto",
            "forwarded",
            "x-real-ip",
            "true-client-ip",
            "x-forwarded-port",
        ] {
            headers.append(name, HeaderValue::from_static("forged"));
        }
        headers.insert("x-request-id", HeaderValue::from_static("kept"));
        forget_way(&mut headers);
        headers.extend(introduction("192.0.2.1", "port-80-vm-200.example.com", "https"));
        let mut told: Vec<_> =
            headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        told.sort();
        assert_eq!(
            told,
            [
                "x-forwarded-for: 192.0.2.1",
                "x-forwarded-host: port-80-vm-200.example.com",
                "x-forwarded-proto: https",
                "x-request-id: kept",
            ]
        );
    }

    #[test]
    fn a_guests_cookie_is_for_its_own_host() {
        let of = |text: &'static str| {
            own_cookie(&HeaderValue::from_static(text)).map(|it| it.to_str().unwrap().to_owned())
        };
        assert_eq!(of("a=1; Path=/; HttpOnly").as_deref(), Some("a=1; Path=/; HttpOnly"));
        assert_eq!(of("a=1; Domain=.example.com; Path=/").as_deref(), Some("a=1; Path=/"));
        assert_eq!(of("a=1;DOMAIN =example.com").as_deref(), Some("a=1"));
        assert_eq!(of("domain=1; Path=/").as_deref(), Some("domain=1; Path=/"));
        for ours in ["__Host-pve_edge=x; Path=/", " __host-pve_edge=x", "__Host-pve_edge"] {
            assert_eq!(of(ours), None, "{ours}");
        }
    }

    #[test]
    fn path_and_query_go_on_as_they_are() {
        let uri = |text: &str| below("http://10.0.0.7:80", &text.parse().unwrap()).to_string();
        assert_eq!(uri("https://a.test/%2e%2E//x?y=%20&z"), "http://10.0.0.7:80/%2e%2E//x?y=%20&z");
        assert_eq!(uri("https://a.test"), "http://10.0.0.7:80/");
    }
}
