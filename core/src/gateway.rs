//! The gateway: visitors of ports of sandboxes, from the name that they ask for to the sandbox that it means, and to
//! nobody else's.
//!
//! Guests are hostile: each serves any page, under a name beside all the others, to a person who holds cookies of several
//! of them.
//!
//! 1. The host names a port, a VMID and a nonce ([`door`]).
//! 2. A pass or an API key says who asks (`credential`). What neither has one nor may be open to everybody ends here, and
//!    PVE is asked nothing.
//! 3. PVE says which sandbox has that VMID now; that is known for ten seconds (`memory`).
//! 4. What a browser sends on behalf of another sandbox's page counts for nothing (`sibling`).
//! 5. The request goes on (`relay`), and wakes the sandbox where somebody means that (`hold`).
//!
//! Beside visitors it serves the deployment's own calls that come by the gate's name (`gate`).

mod credential;
pub mod door;
mod gate;
mod hold;
mod memory;
pub mod proxy;
mod relay;
mod sibling;

use std::net::IpAddr;

use http::{
    HeaderValue, Request, Response, StatusCode, Uri,
    header::{CACHE_CONTROL, LOCATION, REFERRER_POLICY, SET_COOKIE},
};

pub(crate) use self::credential::{to_wake, with_token};
use self::{
    credential::{By, Credential},
    door::Door,
    relay::Outgoing,
    sibling::Asking,
};
pub use self::{gate::send_on, memory::Memory};
use crate::{
    access::pass::{Carrier, Pass, Realm},
    error::{Code, Error},
    io::{ClientAddress, Io, ResponseBody},
    provider::Provider,
    sandbox::{
        address::visit_url,
        service::{Terms, Visibility, ensure_visitable},
        visit::{Asked, Identity, wants_renewal},
    },
    settings::Settings,
};

/// Seconds that a browser stays in which came by a link.
const COOKIE_SECONDS: i64 = 12 * 3600;

/// Name of the cookie: with this prefix no other host can set it, and none gets it (RFC 6265bis, 4.1.3).
const COOKIE: &str = "__Host-pve_edge";

/// Answer to a visitor: of the gateway itself, or of the sandbox.
pub type Answer<E, B> = Response<ResponseBody<E, B>>;

/// Gateway, as it answers one request.
struct Gateway<'g, 'a, I> {
    provider: &'g Provider<'a, I>,
    memory: &'g Memory,
    door: &'g Door,
}

/// Answers a request whose host names a port of a sandbox.
pub async fn answer<I: Io, E>(
    provider: &Provider<'_, I>,
    memory: &Memory,
    door: &Door,
    request: Request<I::Upload>,
) -> Result<Answer<E, I::Body>, Error> {
    let asking = Asking::of(&request);
    let is_preflight = asking.is_preflight;
    match let_in(provider, memory, door, asking, request).await {
        // A browser shows no credential with it, and is told the same whether or not there is such a sandbox.
        Err(error)
            if is_preflight
                && matches!(error.code(), Code::Unauthorized | Code::Gone | Code::StillCreating) =>
        {
            Ok(sibling::no().map(ResponseBody::Whole))
        }
        answer => answer,
    }
}

/// Answers a visitor who is let in, and refuses all others.
async fn let_in<I: Io, E>(
    provider: &Provider<'_, I>,
    memory: &Memory,
    door: &Door,
    mut asking: Asking,
    mut request: Request<I::Upload>,
) -> Result<Answer<E, I::Body>, Error> {
    let settings = provider.settings();
    gate::refuse_loop(settings, &request)?;
    ensure_visitable(door.port)?;
    // A nonce that was made up is nobody's, and is not remembered.
    if !door.is_given_out(settings) {
        return Err(nobody());
    }
    asking.is_meant |= credential::take_wish(request.uri_mut()) && asking.is_own_page();
    let credentials = credential::take(&mut request, door, settings, provider.now().unix_timestamp());
    let gateway = Gateway { provider, memory, door };
    let is_known = door.nonce.is_some() && asking.is_preflight;
    if credentials.is_empty() && !settings.public_services && !is_known {
        return Err(nobody());
    }
    if door.nonce.is_none() && asking.is_browser {
        return gateway.lead_to_origin(&asking, &credentials, &request).await;
    }
    // What is waited for comes before what is asked of PVE: the VMID may be somebody else's by then.
    let request = relay::keep(request).await?;
    let (identity, is_fresh) = gateway.identity(&credentials, &request).await?;
    let service = identity.services.at(door.port);
    let is_public = settings.public_services && service.visibility == Visibility::Public;
    if asking.is_preflight && !is_public {
        return Ok(sibling::preflight(&asking, door, &service).map(ResponseBody::Whole));
    }
    let by_key = credentials.iter().any(|it| matches!(it, Credential::Key(_)));
    let admitted = credentials.into_iter().find(|it| gateway.admits(it, &identity, &service, &asking));
    if admitted.is_none() && !is_public {
        // To another team's key a sandbox is one that is not there.
        return Err(if by_key { gone() } else { nobody() });
    }
    if let Some(Credential::Pass(pass, By::Query)) = &admitted
        && asking.is_navigation
    {
        return Ok(gateway.exchange(pass, request.uri()));
    }
    let visit = Visit { identity, is_fresh, service, is_public, admitted, asking };
    gateway.visit(visit, request).await
}

/// A visitor who is let in.
struct Visit {
    identity: Identity,
    /// Whether PVE has just told the identity.
    is_fresh: bool,
    service: Terms,
    is_public: bool,
    admitted: Option<Credential>,
    asking: Asking,
}

impl Visit {
    /// Whether the visitor means to use the sandbox: a person who opens a page, or a program that shows a credential of its
    /// own. An open tab that fetches, loads itself again, or connects its websocket again, means nothing.
    fn has_intent(&self) -> bool {
        let by_program = matches!(&self.admitted, Some(Credential::Key(_) | Credential::Pass(_, By::Header)));
        match &self.admitted {
            _ if self.asking.is_websocket || self.asking.is_speculative => false,
            Some(_) => self.asking.is_meant || by_program && !self.asking.is_browser,
            None => false,
        }
    }

    /// Whether the visit wakes a sandbox that sleeps.
    fn wakes(&self) -> bool {
        let is_open = self.is_public && self.service.wake == Visibility::Public;
        self.has_intent() || is_open && self.asking.is_meant && !self.asking.is_speculative
    }

    /// Whether the visit carries on what somebody has begun to wake, and left: the page that says so loads itself again.
    fn carries_on(&self) -> bool {
        self.wakes() || self.admitted.is_some() && self.asking.is_page && !self.asking.is_speculative
    }
}

impl<I: Io> Gateway<'_, '_, I> {
    fn settings(&self) -> &Settings {
        self.provider.settings()
    }

    fn realm(&self) -> Realm<'_> {
        Realm { deployment: &self.settings().deployment, domain: &self.door.domain }
    }

    /// The sandbox that has the VMID now, and whether PVE has just told that.
    async fn identity<B>(
        &self,
        credentials: &[Credential],
        request: &Request<B>,
    ) -> Result<(Identity, bool), Error> {
        let (memory, door, now) = (self.memory, self.door, self.provider.now());
        let known = memory.get(door, now);
        let is_asked = |it: &Identity| self.is_meant(it, credentials);
        match known {
            memory::Known::Here(identity) if is_asked(&identity) => return Ok((identity, false)),
            memory::Known::Absent if credentials.is_empty() => return Err(nobody()),
            _ => {}
        }
        if credentials.is_empty() {
            let client = client(request);
            if !self.provider.io.admits(format!("visitor {client}")).await {
                return Err(Error::new(Code::TooManyVisits, "ask again in a minute").retry_after(60));
            }
        }
        let id = credentials.iter().find_map(Credential::sandbox).map(str::to_owned);
        let asked = Asked { vmid: door.vmid, nonce: door.nonce, id, node: memory.node(door) };
        match self.provider.identify(&asked).await {
            Ok(identity) => {
                memory.put(door, Some(identity.clone()), self.provider.now(), self.settings());
                if is_asked(&identity) { Ok((identity, true)) } else { Err(absent(credentials)) }
            }
            Err(error) if error.code() == Code::NotFound => {
                // That an earlier tenant is gone says nothing of the present one.
                if asked.id.is_none() || door.nonce.is_some() {
                    memory.put(door, None, self.provider.now(), self.settings());
                }
                Err(absent(credentials))
            }
            // Strangers do not learn either that there is one whose node is offline, or that is being made.
            Err(error)
                if credentials.is_empty()
                    && matches!(error.code(), Code::NodeOffline | Code::StillCreating | Code::Gone) =>
            {
                memory.put(door, None, self.provider.now(), self.settings());
                Err(nobody())
            }
            Err(error) => {
                // PVE is silent: whoever was let in before goes on for a while, and nobody else comes in.
                let by_cookie = credentials.iter().any(|it| matches!(it, Credential::Pass(_, By::Cookie)));
                let before = memory.before(door, now).filter(|it| by_cookie && is_asked(it));
                before.map(|it| (it, false)).ok_or(error)
            }
        }
    }

    /// Whether a sandbox is the one whose nonce the host has; without one, any.
    fn is_meant(&self, identity: &Identity, credentials: &[Credential]) -> bool {
        let named = credentials.iter().find_map(Credential::nonce);
        [self.door.nonce, named].into_iter().flatten().all(|it| it == identity.id.nonce)
    }

    /// Whether a credential lets its bearer in.
    fn admits(&self, it: &Credential, identity: &Identity, service: &Terms, asking: &Asking) -> bool {
        match it {
            Credential::Key(caller) => {
                caller.may_see(&self.settings().deployment, (&self.settings().deployment, &identity.team))
            }
            Credential::Pass(pass, by) => {
                let counts = pass.epoch == service.epoch && pass.port == self.door.port;
                let is_sent_for_it = *by != By::Cookie || sibling::is_own(asking, self.door, service);
                let sandbox = Credential::nonce(it);
                counts && is_sent_for_it && sandbox == Some(identity.id.nonce)
            }
        }
    }

    /// The short name is no origin of a browser's: what an earlier guest of the VMID has left there would rule the next
    /// one's pages. A page that is opened is led to the origin of the sandbox alone.
    async fn lead_to_origin<E>(
        &self,
        asking: &Asking,
        credentials: &[Credential],
        request: &Request<I::Upload>,
    ) -> Result<Answer<E, I::Body>, Error> {
        let by_link = credentials.iter().find_map(|it| match it {
            Credential::Pass(pass, By::Query) => Some(pass),
            _ => None,
        });
        let Some(domain) = self.settings().public_domain.as_ref().filter(|_| asking.is_navigation) else {
            return Err(nobody());
        };
        let nonce = match by_link.and_then(credential::nonce_of) {
            Some(nonce) => nonce,
            None => {
                let (identity, _) = self.identity(credentials, request).await?;
                let is_public = identity.services.at(self.door.port).visibility == Visibility::Public;
                if !is_public || !self.settings().public_services {
                    return Err(nobody());
                }
                identity.id.nonce
            }
        };
        let origin = visit_url(domain, self.door.port, self.door.vmid, nonce);
        let path = request.uri().path_and_query().map_or("/", |it| it.as_str());
        // The token goes along: it is exchanged there.
        let token = by_link.map(|it| it.token(Carrier::Link, &self.settings().secrets, self.realm()));
        let to = token
            .map_or_else(|| format!("{origin}{path}"), |token| credential::with_token(&origin, path, &token));
        Ok(redirect(&to))
    }

    /// Gives a browser that came by a link its cookie, and leads it to the same page without the token.
    fn exchange<E>(&self, pass: &Pass, uri: &Uri) -> Answer<E, I::Body> {
        let path = uri.path_and_query().map_or("/", |it| it.as_str());
        // Two slashes at its beginning would be another host.
        let path = format!("/{}", path.trim_start_matches('/'));
        let mut answer = redirect(&path);
        answer.headers_mut().append(SET_COOKIE, self.cookie(pass));
        answer
    }

    /// The cookie of whoever has this pass.
    fn cookie(&self, pass: &Pass) -> HeaderValue {
        let pass = Pass { expires: self.provider.now().unix_timestamp() + COOKIE_SECONDS, ..pass.clone() };
        let token = pass.token(Carrier::Cookie, &self.settings().secrets, self.realm());
        let site = if pass.embed.is_empty() { "Lax" } else { "None; Partitioned" };
        let cookie =
            format!("{COOKIE}={token}; Secure; HttpOnly; Path=/; Max-Age={COOKIE_SECONDS}; SameSite={site}");
        HeaderValue::from_str(&cookie).unwrap_or(HeaderValue::from_static(""))
    }

    /// Sends the request of a visitor who is let in to the sandbox, and its answer back.
    async fn visit<E>(
        &self,
        visit: Visit,
        request: Request<relay::Body<I::Upload>>,
    ) -> Result<Answer<E, I::Body>, Error> {
        let client = client(&request);
        let Some(at) = visit.identity.at else {
            return Err(self.without_address(&visit, request.body().is_repeatable()).await);
        };
        let outgoing = Outgoing::new(self, &visit, at, request, &client)?;
        let mut answer = match outgoing.send(self).await? {
            relay::Sent::Answered(answer) => {
                let is_opened =
                    matches!(answer.body(), ResponseBody::Upgraded(_)) && visit.admitted.is_some();
                self.renew(&visit, visit.has_intent() || is_opened).await;
                answer
            }
            relay::Sent::NotThere(again, failure) => self.hold(&visit, again, failure).await?,
        };
        relay::clean(&mut answer, self.door, &visit);
        if let Some(Credential::Pass(pass, By::Cookie)) = &visit.admitted
            && visit.asking.is_navigation
            && pass.expires - self.provider.now().unix_timestamp() < COOKIE_SECONDS / 2
        {
            answer.headers_mut().append(SET_COOKIE, self.cookie(pass));
        }
        Ok(answer)
    }

    /// Gives a sandbox its time again that somebody `uses` and that has answered. It may fail: the visit does not depend on
    /// it.
    async fn renew(&self, visit: &Visit, uses: bool) {
        let Identity { expires, span, .. } = visit.identity;
        if uses && visit.is_fresh && wants_renewal(expires, span, self.provider.now()) {
            if let Err(error) = self.provider.renew_visited(&visit.identity.id).await {
                tracing::warn!(%error, "a sandbox that is visited was not renewed");
            }
            self.memory.forget(self.door.vmid);
        }
    }
}

/// The visitor's address, for the guest and the platform's limiter; none where the platform tells none.
fn client<B>(request: &Request<B>) -> String {
    request.extensions().get().map_or(IpAddr::from([0; 4]), |ClientAddress(ip)| *ip).to_string()
}

/// The refusal of whoever shows nothing that lets them in: the same whether or not there is such a sandbox.
fn nobody() -> Error {
    let text = "open it by a link: POST /api/sandboxes/{id}/services/{name}/link makes one; programs send the link's token, or \
                an API key, as X-Pve-Edge-Token";
    Error::new(Code::Unauthorized, text)
}

/// What a visitor is told of a sandbox that is not there: strangers learn nothing.
fn absent(credentials: &[Credential]) -> Error {
    if credentials.is_empty() { nobody() } else { gone() }
}

fn gone() -> Error {
    Error::new(Code::Gone, "it was deleted, or its time is over; this name never leads to another one")
}

fn redirect<E, B>(to: &str) -> Answer<E, B> {
    let mut answer = Response::new(ResponseBody::Whole(Vec::new()));
    *answer.status_mut() = StatusCode::SEE_OTHER;
    let headers = answer.headers_mut();
    headers.insert(LOCATION, HeaderValue::from_str(to).unwrap_or(HeaderValue::from_static("/")));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    answer
}
