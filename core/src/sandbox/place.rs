//! Places: where a port of one guest, and of no other, is reached.

use std::{fmt, net::Ipv4Addr};

use http::{HeaderMap, HeaderName, HeaderValue, Request};

use super::{
    address::{Domain, GATE, gate_url, ip_url, public_url},
    vmid::Vmid,
};
use crate::{
    access::secret::Keyring,
    io::{Way, proxy},
};

/// Where a port of a guest is reached.
#[derive(Clone, Debug)]
pub struct Place {
    /// Origin of its URLs, such as `http://10.0.0.7:39375`.
    pub base: String,
    /// The way on which the adapter sends to it.
    pub way: Way,
    /// Headers that lead to it.
    headers: HeaderMap,
}

/// Who comes to a guest through the proxy beside PVE.
#[derive(Clone, Copy, Debug)]
pub enum Visitor<'a> {
    /// The deployment itself, for a call to its daemon.
    Ourselves,
    /// A visitor.
    At {
        /// Its address.
        client: &'a str,
        /// The `Host` that the guest is told.
        told: &'a str,
        /// The name by which the visitor has come.
        public: &'a str,
    },
}

/// What the proxy beside PVE takes for a guest: its VMID, which it looks up in its table, or its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The guest of this VMID.
    Vmid(Vmid),
    /// The guest at this address.
    Address(Ipv4Addr),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vmid(vmid) => vmid.fmt(f),
            Self::Address(ip) => ip.fmt(f),
        }
    }
}

impl Place {
    /// A port at an address that is proved to be the guest's.
    pub fn direct(ip: Ipv4Addr, port: u16) -> Self {
        Self::at(ip_url(ip, port))
    }

    /// A port at an origin that is proved to be the guest's.
    pub fn at(base: String) -> Self {
        Self { base, way: Way::Guest, headers: HeaderMap::new() }
    }

    /// A port by its name below the public domain, for whose proxy the admin vouches.
    pub fn by_name(domain: &Domain, port: u16, vmid: Vmid) -> Self {
        Self { base: public_url(domain, port, vmid), way: Way::Public, headers: HeaderMap::new() }
    }

    /// A port through the proxy beside PVE, of `client` as it says. The proxy knows the deployment by the oldest secret.
    pub fn proxied(
        domain: &Domain,
        (target, port): (Target, u16),
        client: &Visitor<'_>,
        (secrets, deployment): (&Keyring, &str),
    ) -> Self {
        let mut headers = HeaderMap::new();
        let mut key = secrets.oldest().proxy_key(deployment).parse().unwrap_or(HeaderValue::from_static(""));
        key.set_sensitive(true);
        headers.insert(proxy::KEY, key);
        let mut add = |name: HeaderName, value: &str| {
            headers.extend(value.parse().ok().map(|value: HeaderValue| (name, value)));
        };
        add(proxy::TO, &format!("{target}:{port}"));
        let gate = format!("{GATE}.{}", domain.authority());
        let (client, told, public) = match client {
            Visitor::Ourselves => (proxy::OURSELVES, &*gate, &*gate),
            Visitor::At { client, told, public } => (*client, *told, *public),
        };
        add(proxy::CLIENT, client);
        add(proxy::GUEST_HOST, told);
        add(proxy::PUBLIC_HOST, public);
        Self { base: gate_url(domain), way: Way::Proxy, headers }
    }

    /// A request with this head to a path of the place.
    pub fn request(&self, path: &str, head: &Request<()>) -> Request<()> {
        let mut request = head.clone();
        *request.uri_mut() = format!("{}{path}", self.base).parse().unwrap_or_default();
        self.lead(&mut request);
        request
    }

    /// Has a request lead here, whose URI does.
    pub fn lead<B>(&self, request: &mut Request<B>) {
        for (name, value) in &self.headers {
            request.headers_mut().insert(name, value.clone());
        }
        request.extensions_mut().insert(self.way);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn through_the_proxy_the_guest_is_named_in_headers_alone() {
        let secrets = Keyring::parse(&["n", "o"].map(|it| it.repeat(32)).join(" ")).unwrap();
        let domain = "example.com".parse().unwrap();
        let vmid = "200042".parse().unwrap();
        let whose = (&secrets, "home");
        let visitor = Visitor::At { client: "192.0.2.1", told: "localhost:5173", public: "x.example.com" };
        let place = Place::proxied(&domain, (Target::Vmid(vmid), 5173), &visitor, whose);
        let sent = place.request("/a?b", &Request::new(()));
        assert_eq!(sent.uri(), "https://gate.example.com/a?b");
        let header = |name: HeaderName| sent.headers()[name].to_str().unwrap().to_owned();
        assert_eq!((&*header(proxy::TO), &*header(proxy::CLIENT)), ("200042:5173", "192.0.2.1"));
        // Whichever secrets are listed, the proxy knows the oldest one.
        assert_eq!(header(proxy::KEY), secrets.all().last().unwrap().proxy_key("home"));
        assert!(!format!("{place:?}").contains(&header(proxy::KEY)));
        assert_eq!(
            (&*header(proxy::GUEST_HOST), &*header(proxy::PUBLIC_HOST)),
            ("localhost:5173", "x.example.com")
        );
        let target = Target::Address([10, 0, 0, 7].into());
        let own = Place::proxied(&domain, (target, 39375), &Visitor::Ourselves, whose)
            .request("/", &Request::new(()));
        let header = |name: HeaderName| own.headers()[name].to_str().unwrap().to_owned();
        assert_eq!((&*header(proxy::TO), &*header(proxy::CLIENT)), ("10.0.0.7:39375", "edge"));
        assert_eq!(
            (&*header(proxy::GUEST_HOST), &*header(proxy::PUBLIC_HOST)),
            ("gate.example.com", "gate.example.com")
        );
    }
}
