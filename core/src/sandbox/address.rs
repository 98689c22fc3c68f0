//! Addresses of sandboxes: the table of services, the names of their hosts, and the pool in which a container's VMID
//! determines its IP.

mod network;
mod pool;

use std::{net::Ipv4Addr, str::FromStr};

use serde::Serialize;

pub use self::{
    network::{GuestNetwork, Reserved},
    pool::IpPool,
};
use super::{nonce::Nonce, vmid::Vmid};

/// Services of a sandbox: name and port in the guest.
pub const SERVICES: [(&str, u16); 6] = [
    ("vscode", 39378),
    ("worker", 39377),
    ("xterm", 39383),
    ("exec", 39375),
    ("vnc", 39380),
    ("preview", 5173),
];

/// Port of loopback on which the proxy on the PVE host takes what comes out of the tunnel.
pub const PROXY_PORT: u16 = 39370;

/// Domain under which sandboxes are reached: `example.com`, or with scheme and port, `http://localhost:8787`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain {
    scheme: String,
    /// Name and port, as in a URL.
    authority: String,
}

impl FromStr for Domain {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const BAD: &str = "a domain, such as example.com or http://localhost:8787, without a path";
        let (scheme, rest) = text.split_once("://").unwrap_or(("https", text));
        let authority = rest.strip_suffix('/').unwrap_or(rest).to_ascii_lowercase();
        let (name, port) =
            authority.split_once(':').map_or((&*authority, None), |(name, port)| (name, Some(port)));
        let port_is_fine = port.is_none_or(|it| port_number(it).is_some());
        if matches!(scheme, "http" | "https") && is_dns_name(name) && port_is_fine {
            Ok(Self { scheme: scheme.to_owned(), authority })
        } else {
            Err(BAD)
        }
    }
}

impl Domain {
    /// Name and port of the domain, as in a URL.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Scheme of the URLs below the domain.
    pub fn scheme(&self) -> &str {
        &self.scheme
    }

    /// Whether a host, as a URL has it, is the domain or below it.
    pub fn covers(&self, host: &str) -> bool {
        let name =
            |it: &str| it.split(':').next().unwrap_or_default().trim_end_matches('.').to_ascii_lowercase();
        let (host, domain) = (name(host), name(&self.authority));
        host == domain || host.strip_suffix(&*domain).is_some_and(|it| it.ends_with('.'))
    }
}

/// First label of the host by which the deployment itself asks the proxy beside PVE: it names no guest, so that a proxy
/// which takes guests out of names passes nothing of it on to one.
pub const GATE: &str = "gate";

/// Origin of the proxy beside PVE, `https://gate.{domain}`.
pub fn gate_url(domain: &Domain) -> String {
    format!("{}://{GATE}.{}", domain.scheme, domain.authority)
}

/// Origin of a port of one sandbox and of none after it, for browsers:
/// `https://port-{port}-vm-{vmid}-{nonce}.{domain}`. What a guest leaves in a browser rules its origin for ever.
pub fn visit_url(domain: &Domain, port: u16, vmid: Vmid, nonce: Nonce) -> String {
    format!("{}://port-{port}-vm-{vmid}-{nonce}.{}", domain.scheme, domain.authority)
}

/// Public URL of a guest's port, `https://port-{port}-vm-{vmid}.{domain}`: one label before the domain, because usual
/// wildcard certificates cover no more.
pub fn public_url(domain: &Domain, port: u16, vmid: Vmid) -> String {
    format!("{}://port-{port}-vm-{vmid}.{}", domain.scheme, domain.authority)
}

/// First label of the host by which a browser tests DNS, certificate and route: it names no guest.
pub const PROBE: &str = "probe";

/// Origin of the name by which a browser tests DNS, certificate and route.
pub fn probe_origin(domain: &Domain) -> String {
    format!("{}://{PROBE}.{}", domain.scheme, domain.authority)
}

/// Template of public URLs, in which `{port}` and `{vmid}` stand for a guest's port and VMID.
pub fn any_port_url(domain: &Domain) -> String {
    format!("{}://port-{{port}}-vm-{{vmid}}.{}", domain.scheme, domain.authority)
}

/// URL of a guest's port by the network's DNS, `http://{hostname}.{search}:{port}`.
pub fn fqdn_url(hostname: &str, search: &str, port: u16) -> String {
    // resolv.conf allows several search domains; the first is the network's own.
    let search = search.split_whitespace().next().unwrap_or_default().trim_matches('.');
    if search.is_empty() {
        format!("http://{hostname}:{port}")
    } else {
        format!("http://{hostname}.{search}:{port}")
    }
}

/// URL of a guest's port by its address, `http://{ip}:{port}`.
pub fn ip_url(ip: Ipv4Addr, port: u16) -> String {
    format!("http://{ip}:{port}")
}

/// What people and programs open of a service, made from its URL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Viewers {
    /// noVNC, connected and scaled at once.
    pub vnc: String,
    /// Its websocket.
    pub vnc_websocket: String,
    /// The terminal's page.
    pub xterm: String,
    /// Its websocket.
    pub xterm_websocket: String,
    /// The Socket.IO server of this sandbox's task.
    pub socket_io: String,
}

/// Port of the Socket.IO server in a sandbox.
pub const SOCKET_IO_PORT: u16 = 9776;

impl Viewers {
    /// The viewers of a sandbox whose ports have the URLs that `base` gives; `None` where one has no URL.
    pub fn new(base: impl Fn(u16) -> Option<String>) -> Option<Self> {
        let (vnc, xterm) = (base(39380)?, base(39383)?);
        Some(Self {
            vnc: vnc_viewer(&vnc),
            vnc_websocket: websocket(&vnc, "/websockify"),
            xterm_websocket: websocket(&xterm, "/ws"),
            xterm: with_path(&xterm, "/"),
            socket_io: websocket(&base(SOCKET_IO_PORT)?, "/socket.io/"),
        })
    }
}

/// URL of noVNC's page at a VNC service; a query of the service's URL, such as a token, is kept.
pub fn vnc_viewer(url: &str) -> String {
    let (base, query) = url.split_once('?').unwrap_or((url, ""));
    let base = base.trim_end_matches('/');
    let page = if base.ends_with(".html") { base.to_owned() } else { format!("{base}/vnc.html") };
    let mut query: Vec<&str> = query.split('&').filter(|it| !it.is_empty()).collect();
    for (name, option) in [("autoconnect=", "autoconnect=1"), ("resize=", "resize=scale")] {
        if !query.iter().any(|it| it.starts_with(name)) {
            query.push(option);
        }
    }
    format!("{page}?{}", query.join("&"))
}

/// URL of a websocket at a path of a service: `https` becomes `wss`, `http` becomes `ws`, and a query is kept.
pub fn websocket(url: &str, path: &str) -> String {
    let url = with_path(url, path);
    url.strip_prefix("http").map_or_else(|| url.clone(), |rest| format!("ws{rest}"))
}

/// URL of a path of a service; a query of the service's URL, such as a token, is kept.
fn with_path(url: &str, path: &str) -> String {
    let (base, query) = url.split_once('?').unwrap_or((url, ""));
    let mark = if query.is_empty() { "" } else { "?" };
    format!("{}{path}{mark}{query}", base.trim_end_matches('/'))
}

/// Guest and port that the host of a service URL names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServiceHost {
    /// `port-{port}-vm-{vmid}.{domain}`, or `port-{port}-vm-{vmid}-{nonce}.{domain}`.
    Pve {
        /// Port in the guest.
        port: u16,
        /// VMID of the guest.
        vmid: Vmid,
        /// Nonce of the sandbox, which no other guest of that VMID has.
        nonce: Option<Nonce>,
        /// Domain after the first label, with its port.
        domain: String,
    },
    /// `port-{port}-morphvm-{id}.http.cloud.morph.so`.
    Morph {
        /// Port in the machine.
        port: u16,
        /// Id of the instance without `morphvm_`.
        id: String,
    },
}

impl FromStr for ServiceHost {
    type Err = &'static str;

    /// Parses a host strictly: it has one spelling, but for the case of letters.
    fn from_str(host: &str) -> Result<Self, Self::Err> {
        const BAD: &str = "not port-PORT-vm-VMID.DOMAIN";
        let (label, domain) = host.split_once('.').ok_or(BAD)?;
        let mut parts = label.splitn(4, '-');
        let is = |part: Option<&str>, word: &str| part.is_some_and(|it| it.eq_ignore_ascii_case(word));
        if !is(parts.next(), "port") {
            return Err(BAD);
        }
        let port = parts.next().and_then(port_number).ok_or(BAD)?;
        let kind = parts.next();
        let id = parts.next().ok_or(BAD)?;
        let (name, domain_port) =
            domain.split_once(':').map_or((domain, None), |(name, port)| (name, Some(port)));
        if !is_dns_name(name) || domain_port.is_some_and(|it| port_number(it).is_none()) {
            return Err(BAD);
        }
        if is(kind, "vm") {
            let (vmid, nonce) = id.split_once('-').map_or((id, None), |(vmid, nonce)| (vmid, Some(nonce)));
            let vmid = vmid.parse().map_err(|_| BAD)?;
            // One character more than a nonce has would decode to the same bytes.
            let is_spelled = |nonce: &Nonce, it: &str| nonce.to_string().eq_ignore_ascii_case(it);
            let spelled = |it: &str| it.parse().ok().filter(|nonce| is_spelled(nonce, it)).ok_or(BAD);
            let nonce = nonce.map(spelled).transpose()?;
            return Ok(Self::Pve { port, vmid, nonce, domain: domain.to_ascii_lowercase() });
        }
        let is_morph_id = !id.is_empty() && id.bytes().all(|it| it.is_ascii_alphanumeric());
        if is(kind, "morphvm") && is_morph_id && domain.eq_ignore_ascii_case("http.cloud.morph.so") {
            return Ok(Self::Morph { port, id: id.to_owned() });
        }
        Err(BAD)
    }
}

/// Parses a port: 1 to 65535, no sign, no leading zeros.
fn port_number(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|it| it.is_ascii_digit()) && !text.starts_with('0');
    text.parse().ok().filter(|_| plain)
}

/// Whether a text is a DNS name: labels of letters, digits and inner hyphens.
pub(crate) fn is_dns_name(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_seeds_addresses() {
        let vmid = "200".parse().unwrap();
        let url = |domain: &str, port| public_url(&domain.parse().unwrap(), port, vmid);
        assert_eq!(url("example.com", 39378), "https://port-39378-vm-200.example.com");
        assert_eq!(url("http://localhost:8787", 5173), "http://port-5173-vm-200.localhost:8787");
        let any = any_port_url(&"example.com".parse().unwrap()).replace("{vmid}", "200");
        assert_eq!(any.replace("{port}", "39378"), url("example.com", 39378));
        assert_eq!(fqdn_url("vm-200", "lan home.arpa", 80), "http://vm-200.lan:80");
        let morph = "port-39378-morphvm-mmcz8L6eoJHtLqFz3.http.cloud.morph.so".parse();
        assert_eq!(morph, Ok(ServiceHost::Morph { port: 39378, id: "mmcz8L6eoJHtLqFz3".into() }));
    }

    #[test]
    fn viewers_keep_tokens_and_connect_at_once() {
        let viewers = Viewers::new(|port| Some(format!("https://port-{port}-vm-200.example.com"))).unwrap();
        assert_eq!(viewers.vnc, "https://port-39380-vm-200.example.com/vnc.html?autoconnect=1&resize=scale");
        assert_eq!(viewers.vnc_websocket, "wss://port-39380-vm-200.example.com/websockify");
        assert_eq!(viewers.xterm, "https://port-39383-vm-200.example.com/");
        assert_eq!(viewers.socket_io, "wss://port-9776-vm-200.example.com/socket.io/");
        let token = "http://10.0.0.5:39380/?tkn=a&resize=off";
        assert_eq!(vnc_viewer(token), "http://10.0.0.5:39380/vnc.html?tkn=a&resize=off&autoconnect=1");
        assert_eq!(vnc_viewer("https://x/vnc.html"), "https://x/vnc.html?autoconnect=1&resize=scale");
        assert_eq!(websocket(token, "/websockify"), "ws://10.0.0.5:39380/websockify?tkn=a&resize=off");
    }

    /// Whichever provider made them, and whatever a service's URL carries.
    #[test]
    fn one_builder_for_every_provider() {
        let of = |host: &'static str, query: &'static str| {
            Viewers::new(|port| Some(format!("https://port-{port}-{host}{query}"))).unwrap()
        };
        let morph = of("morphvm-mmcz8L6eoJHtLqFz3.http.cloud.morph.so", "/?tkn=s&x=1");
        let host = "morphvm-mmcz8L6eoJHtLqFz3.http.cloud.morph.so";
        let expected = Viewers {
            vnc: format!("https://port-39380-{host}/vnc.html?tkn=s&x=1&autoconnect=1&resize=scale"),
            vnc_websocket: format!("wss://port-39380-{host}/websockify?tkn=s&x=1"),
            xterm: format!("https://port-39383-{host}/?tkn=s&x=1"),
            xterm_websocket: format!("wss://port-39383-{host}/ws?tkn=s&x=1"),
            socket_io: format!("wss://port-9776-{host}/socket.io/?tkn=s&x=1"),
        };
        assert_eq!(morph, expected);
        let by_ip = Viewers::new(|port| Some(ip_url([10, 0, 0, 5].into(), port))).unwrap();
        assert_eq!(by_ip.vnc, "http://10.0.0.5:39380/vnc.html?autoconnect=1&resize=scale");
        assert_eq!(by_ip.xterm_websocket, "ws://10.0.0.5:39383/ws");
        assert_eq!(Viewers::new(|port| (port != 39380).then(String::new)), None);
    }

    #[test]
    fn hostile_hosts_are_nobodys() {
        for host in [
            "port-0-vm-200.example.com",
            "port-65536-vm-200.example.com",
            "port-080-vm-200.example.com",
            "port-80-vm-0200.example.com",
            "port-80-vm-99.example.com",
            "port-80-vm-200",
            "port-80-vm-200.",
            "port-80-vm-200..com",
            "xport-80-vm-200.example.com",
            "port-80-vm-200-1.example.com",
            "port-80-vm-200-.example.com",
            "port-80-vm-200-aaaaaaaaaaaaaaaaaaaaaaa.example.com",
            "port-80-vm-200-aaaaaaaaaaaaaaaaaaaaaaaaa.example.com",
            "port-80-vm-200-aaaaaaaaaaaaaaaaaaaaaaa1.example.com",
            "port-80-vm-200-aaaaaaaaaaaaaaaaaaaaaaaa-x.example.com",
            "port_80_vm_200.example.com",
            "port-80-vm-200.example.com.",
            "port-+80-vm-200.example.com",
            "port-80-vm-200.exa mple.com",
            "port-80-vm-200.example.com:0",
            "port-80-morphvm-x.example.com",
            "port-80-router.example.com",
            "port-80-vm-200.example.com/x",
        ] {
            assert!(host.parse::<ServiceHost>().is_err(), "{host}");
        }
        for domain in ["", "https://", "ftp://x", "example.com/x", "a b", "x:0", "x:99999", "-x.com"] {
            assert!(domain.parse::<Domain>().is_err(), "{domain}");
        }
    }

    #[test]
    fn a_domain_covers_what_is_below_it() {
        let domain: Domain = "http://sandbox.example.com:8787".parse().unwrap();
        for (host, is_below) in [
            ("sandbox.example.com", true),
            ("PORT-80-vm-200.Sandbox.example.com:8787", true),
            ("a.b.sandbox.example.com.", true),
            ("example.com", false),
            ("xsandbox.example.com", false),
            ("sandbox.example.com.evil.test", false),
        ] {
            assert_eq!(domain.covers(host), is_below, "{host}");
        }
        assert_eq!(gate_url(&domain), "http://gate.sandbox.example.com:8787");
    }

    proptest! {
        #[test]
        fn what_is_printed_is_parsed(port in 1_u16.., vmid in 100_u32..=999_999_999) {
            let vmid: Vmid = vmid.try_into().unwrap();
            let url = public_url(&"example.com".parse().unwrap(), port, vmid);
            let host = url.strip_prefix("https://").unwrap().parse();
            prop_assert_eq!(host, Ok(ServiceHost::Pve { port, vmid, nonce: None, domain: "example.com".into() }));
        }

        #[test]
        fn a_nonce_in_it_is_parsed(port in 1_u16.., text in "[a-z2-7]{24}") {
            let domain = "example.com".parse().unwrap();
            let (vmid, nonce): (Vmid, Nonce) = ("200".parse().unwrap(), text.parse().unwrap());
            let url = visit_url(&domain, port, vmid, nonce);
            let host = url.strip_prefix("https://").unwrap();
            prop_assert_eq!(host.parse(), Ok(ServiceHost::Pve { port, vmid, nonce: Some(nonce), domain: "example.com".into() }));
            prop_assert!(domain.covers(host) && host.split('.').next().unwrap().len() < 64);
        }

        #[test]
        fn no_host_is_parsed_that_would_be_printed_differently(host in "port-[0-9]{1,6}-vm-[0-9]{1,10}\\.a\\.b") {
            if let Ok(ServiceHost::Pve { port, vmid, .. }) = host.parse() {
                prop_assert_eq!(public_url(&"http://a.b".parse().unwrap(), port, vmid), format!("http://{host}"));
            }
        }
    }
}
