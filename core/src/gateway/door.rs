//! Doors: what the host of a request means to a deployment.

use http::uri::Authority;

use crate::{
    io::Platform,
    sandbox::{
        address::{GATE, PROBE, ServiceHost},
        id::Kind,
        nonce::Nonce,
        vmid::Vmid,
    },
    settings::Settings,
};

/// What the host of a request means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// The API and its page.
    Api,
    /// A port of a sandbox.
    Port(Door),
    /// The name by which a browser tests the way here.
    Probe,
    /// The name of the proxy beside PVE, for who has its key.
    Gate,
    /// Nothing.
    Unknown,
}

/// Port of a sandbox, as a host names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Door {
    /// Port in the guest.
    pub port: u16,
    /// VMID of the guest.
    pub vmid: Vmid,
    /// Nonce of the sandbox; `None` in the short name, which is any sandbox's that has the VMID.
    pub nonce: Option<Nonce>,
    /// Scheme of the names.
    pub scheme: String,
    /// Domain of the guests, with its port.
    pub domain: String,
}

impl Host {
    /// What a host means, as the URL or `Host` of a request has it; never `X-Forwarded-Host`, which anybody may send.
    /// A deployment of Morph Cloud, and one without a domain, has the API alone.
    pub fn of(authority: &str, settings: &Settings, platform: &Platform) -> Self {
        let name =
            authority.parse::<Authority>().map(|it| it.host().to_ascii_lowercase()).unwrap_or_default();
        let is_own = settings.api_host.as_deref().is_some_and(|it| it.eq_ignore_ascii_case(authority));
        if is_own || is_loopback(&name) || name.ends_with(".workers.dev") {
            return Self::Api;
        }
        let domain = settings.public_domain.as_ref();
        if let Some(domain) = domain.filter(|it| it.covers(authority)) {
            let is = |name: &str| authority.eq_ignore_ascii_case(&format!("{name}.{}", domain.authority()));
            return match authority.parse() {
                Ok(ServiceHost::Pve { port, vmid, nonce, domain: below }) if below == domain.authority() => {
                    let scheme = domain.scheme().to_owned();
                    Self::Port(Door { port, vmid, nonce, scheme, domain: below })
                }
                _ if platform.upgrades && is(PROBE) => Self::Probe,
                // From the guests' network nothing goes through the proxy.
                _ if platform.upgrades && !platform.in_guest_network && is(GATE) => Self::Gate,
                // Without a gateway no name below the domain leads here but by the owner's will.
                _ if !platform.upgrades => Self::Api,
                _ => Self::Unknown,
            };
        }
        if settings.api_host.is_some() { Self::Unknown } else { Self::Api }
    }
}

impl Door {
    /// The host by which the sandbox is visited, in the spelling that its cookies and its origin have.
    pub fn authority(&self) -> String {
        let Self { port, vmid, domain, .. } = self;
        match self.nonce {
            Some(nonce) => format!("port-{port}-vm-{vmid}-{nonce}.{domain}"),
            None => format!("port-{port}-vm-{vmid}.{domain}"),
        }
    }

    /// Whether this deployment may have given the nonce out; a name without one is any sandbox's.
    pub fn is_given_out(&self, settings: &Settings) -> bool {
        let (secrets, deployment) = (&settings.secrets, &settings.deployment);
        let proves = |nonce: Nonce, kind| nonce.proved_by(secrets, deployment, kind, self.vmid).is_some();
        self.nonce.is_none_or(|nonce| proves(nonce, Kind::Lxc) || proves(nonce, Kind::Qemu))
    }

    /// Its origin.
    pub fn origin(&self) -> String {
        format!("{}://{}", self.scheme, self.authority())
    }

    /// Whether an origin is one of the same sandbox, at any of its ports. Only by a nonce that is known.
    pub fn is_sibling(&self, origin: &str) -> bool {
        let host = origin.strip_prefix(&*self.scheme).and_then(|it| it.strip_prefix("://"));
        match host.and_then(|it| it.parse().ok()) {
            Some(ServiceHost::Pve { vmid, nonce: Some(nonce), domain, .. }) => {
                (vmid, Some(nonce), &*domain) == (self.vmid, self.nonce, &*self.domain)
            }
            _ => false,
        }
    }
}

fn is_loopback(name: &str) -> bool {
    let ip = name.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    name == "localhost" || ip.is_ok_and(|it| it.is_loopback())
}
