//! Settings: one reader for both platforms, which tells every problem at once.

mod reader;

use std::net::{IpAddr, Ipv4Addr};

use self::reader::{Reader, unknown};
use crate::{
    address::{Domain, IpPool, Reserved, is_dns_name},
    auth::{ApiKeys, Label},
    io::Platform,
    morph::Morph,
    preset::Provider,
    pve::Pve,
    secret::{Keyring, Secret},
    vmid::VmidRange,
};

/// Where Morph Cloud is.
const MORPH: &str = "https://cloud.morph.so/api";

/// Every setting, by name, and what it is for.
pub const NAMES: [(&str, &str); 36] = [
    ("PVE_API_URL", "where PVE answers: https://pve.example.com, or https://10.0.0.2:8006"),
    ("PVE_API_TOKEN", "USER@REALM!TOKENID=SECRET"),
    ("PVE_PUBLIC_DOMAIN", "domain of the service URLs; scheme and port may be part of it"),
    ("PVE_NODE", "make sandboxes on this node only"),
    ("PVE_STORAGE", "storage for what is copied; linked clones stay on their template's"),
    ("PVE_BRIDGE", "network bridge, instead of the template's"),
    ("PVE_IP_POOL_CIDR", "give sandboxes addresses of this network, instead of DHCP"),
    ("PVE_GATEWAY", "gateway of that network; default the template's"),
    ("PVE_IP_RESERVED", "addresses of it that are others'"),
    ("PVE_SEARCH_DOMAIN", "domain in which the network's DNS knows the guests"),
    ("PVE_VERIFY_TLS", "false: take any certificate of the PVE API"),
    ("PVE_VMID_RANGE", "VMIDs of sandboxes; nothing else may be in it"),
    ("PVE_TEMPLATE_RANGE", "VMIDs of templates and snapshots that pve-edge makes"),
    ("PVE_LXC_CRIU", "true: PVE's experimental suspend of containers may be used"),
    ("SANDBOX_PROVIDER", "pve-lxc, pve-vm or morph; by default by the credentials that are set"),
    ("MORPH_API_KEY", "key of Morph Cloud"),
    ("MORPH_BASE_URL", "where Morph Cloud's API is"),
    ("CF_API_TOKEN", "Cloudflare API token (Zone:DNS:Edit and Tunnel:Edit)"),
    ("CF_ZONE_ID", "Cloudflare zone"),
    ("CF_ACCOUNT_ID", "Cloudflare account"),
    ("CF_DOMAIN", "domain of the tunnel"),
    ("CF_ACCESS_CLIENT_ID", "sent to a PVE API that stands behind Cloudflare Access"),
    ("CF_ACCESS_CLIENT_SECRET", "sent with it"),
    ("NEXT_PUBLIC_SERVER_ORIGIN", "origin of the global Socket.IO server"),
    ("EDGE_API_KEYS", "TEAM:SHA256-HEX-OF-KEY, with :admin after it for admins; several by spaces or commas"),
    ("EDGE_SECRET", "32 bytes or more; several, newest first, while it is rotated"),
    ("EDGE_DEPLOYMENT", "name of this deployment among those of a cluster"),
    ("EDGE_TAG_BUDGET", "bytes of tags for each sandbox"),
    ("EDGE_MAX_SANDBOXES", "sandboxes of a team"),
    ("EDGE_CREATES_PER_MINUTE", "creations of a team in a minute"),
    ("EDGE_MAX_TTL_SECONDS", "longest ttlSeconds; forbids null"),
    ("EDGE_STOPPED_MAX_SECONDS", "how long what expiry stopped is kept"),
    ("EDGE_MAX_VCPUS", "cores of a team's sandboxes together"),
    ("EDGE_MAX_MEMORY_MIB", "memory of a team's sandboxes together"),
    ("EDGE_SWEEP_REQUESTS", "requests that one sweep may send"),
    ("EDGE_LAMBDA_STREAM", "1: answers of this Lambda stream"),
];

/// What a deployment is set to. Its `Debug` shows no secret.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `SANDBOX_PROVIDER`, or by credentials.
    pub provider: Provider,
    /// `PVE_API_URL`, without a slash at the end.
    pub api_url: Option<String>,
    /// `PVE_API_TOKEN`.
    pub api_token: Option<Secret>,
    /// `CF_ACCESS_CLIENT_ID` and `CF_ACCESS_CLIENT_SECRET`.
    pub access: Option<(Secret, Secret)>,
    /// `MORPH_API_KEY`.
    pub morph_api_key: Option<Secret>,
    /// `MORPH_BASE_URL`, without a slash at the end.
    pub morph_base_url: String,
    /// `PVE_VERIFY_TLS`.
    pub verify_tls: bool,
    /// `PVE_PUBLIC_DOMAIN`.
    pub public_domain: Option<Domain>,
    /// `PVE_SEARCH_DOMAIN`.
    pub search_domain: Option<String>,
    /// `PVE_NODE`.
    pub node: Option<String>,
    /// `PVE_STORAGE`.
    pub storage: Option<String>,
    /// `PVE_BRIDGE`.
    pub bridge: Option<String>,
    /// `PVE_IP_POOL_CIDR`.
    pub ip_pool: Option<IpPool>,
    /// `PVE_GATEWAY`.
    pub gateway: Option<Ipv4Addr>,
    /// `PVE_VMID_RANGE`.
    pub vmid_range: VmidRange,
    /// `PVE_TEMPLATE_RANGE`.
    pub template_range: VmidRange,
    /// `PVE_LXC_CRIU`.
    pub lxc_criu: bool,
    /// `NEXT_PUBLIC_SERVER_ORIGIN`.
    pub server_origin: Option<String>,
    /// `EDGE_API_KEYS`.
    pub api_keys: ApiKeys,
    /// `EDGE_SECRET`.
    pub secrets: Keyring,
    /// `EDGE_DEPLOYMENT`.
    pub deployment: Label,
    /// What a team, and a guest, may take.
    pub limits: Limits,
}

/// What a team, and a guest, may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// `EDGE_TAG_BUDGET`.
    pub tag_budget: usize,
    /// `EDGE_MAX_SANDBOXES`.
    pub max_sandboxes: Option<u32>,
    /// `EDGE_CREATES_PER_MINUTE`.
    pub creates_per_minute: Option<u32>,
    /// `EDGE_MAX_VCPUS`.
    pub max_vcpus: Option<u32>,
    /// `EDGE_MAX_MEMORY_MIB`.
    pub max_memory_mib: Option<u32>,
    /// `EDGE_MAX_TTL_SECONDS`.
    pub max_ttl_seconds: Option<u32>,
    /// `EDGE_STOPPED_MAX_SECONDS`.
    pub stopped_max_seconds: u32,
    /// `EDGE_SWEEP_REQUESTS`.
    pub sweep_requests: u32,
}

impl Settings {
    /// Reads all of them, or tells all that is wrong: names and fixes, never values.
    pub fn read(pairs: &[(String, String)], platform: &Platform) -> Result<Self, Vec<String>> {
        let mut reader = Reader::new(pairs);
        let api_url = reader.parsed("PVE_API_URL", |it| origin(it, false));
        let api_token = reader.parsed("PVE_API_TOKEN", api_token);
        let morph_api_key = reader.parsed("MORPH_API_KEY", header_value);
        let morph_base_url = reader.or("MORPH_BASE_URL", MORPH, |it| origin(it, true));
        let provider =
            provider(&mut reader, api_url.is_some() && api_token.is_some(), morph_api_key.is_some());
        let verify_tls = reader.flag("PVE_VERIFY_TLS", true);
        let public_domain =
            reader.parsed("PVE_PUBLIC_DOMAIN", |it| it.parse::<Domain>().map_err(String::from));
        let search_domain = reader.parsed("PVE_SEARCH_DOMAIN", dns_name);
        if provider != Some(Provider::Morph) {
            ways(&mut reader, platform, verify_tls, public_domain.is_some());
        }
        let vmid_range =
            reader.or("PVE_VMID_RANGE", "200000-999999", |it| it.parse::<VmidRange>().map_err(String::from));
        let template_range = template_range(&mut reader, vmid_range);
        let gateway = reader
            .parsed("PVE_GATEWAY", |it| it.parse::<Ipv4Addr>().map_err(|_| "an IPv4 address".to_owned()));
        let reserved = reader.parsed("PVE_IP_RESERVED", |it| it.parse::<Reserved>().map_err(String::from));
        let ip_pool = reader.parsed("PVE_IP_POOL_CIDR", |it| {
            let range = vmid_range.ok_or("needs a right PVE_VMID_RANGE")?;
            IpPool::new(it, gateway, &reserved.clone().unwrap_or_default(), range).map_err(String::from)
        });
        let api_keys = reader.required("EDGE_API_KEYS", ApiKeys::parse);
        let secrets = reader.required("EDGE_SECRET", |it| Keyring::parse(it).map_err(String::from));
        let deployment = reader.required("EDGE_DEPLOYMENT", |it| it.parse::<Label>().map_err(String::from));
        let access = access(&mut reader);
        let node = reader.parsed("PVE_NODE", node_name);
        let storage = reader.parsed("PVE_STORAGE", plain_name);
        let bridge = reader.parsed("PVE_BRIDGE", plain_name);
        let limits = Limits::read(&mut reader);
        let lxc_criu = reader.flag("PVE_LXC_CRIU", false);
        let server_origin = reader.text("NEXT_PUBLIC_SERVER_ORIGIN");
        unknown(&mut reader, pairs);
        let problems = reader.problems();
        let required = (provider, morph_base_url, vmid_range, template_range, api_keys, secrets, deployment);
        let (
            Some(provider),
            Some(morph_base_url),
            Some(vmid_range),
            Some(template_range),
            Some(api_keys),
            Some(secrets),
            Some(deployment),
        ) = required
        else {
            return Err(problems);
        };
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Self {
            provider,
            api_url,
            api_token,
            access,
            morph_api_key,
            morph_base_url,
            verify_tls,
            public_domain,
            search_domain,
            node,
            storage,
            bridge,
            ip_pool,
            gateway,
            vmid_range,
            template_range,
            lxc_criu,
            server_origin,
            api_keys,
            secrets,
            deployment,
            limits,
        })
    }

    /// How to speak to PVE.
    pub fn pve(&self) -> Option<Pve> {
        let access = self.access.as_ref().map(|(id, secret)| (id, secret));
        Pve::new(self.api_url.as_deref()?, self.api_token.as_ref()?, access)
    }

    /// How to speak to Morph Cloud.
    pub fn morph(&self) -> Option<Morph> {
        Morph::new(&self.morph_base_url, self.morph_api_key.as_ref()?)
    }
}

impl Limits {
    fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            tag_budget: reader.number("EDGE_TAG_BUDGET", 180, 2048).map_or(256, |it| it as usize),
            max_sandboxes: reader.number("EDGE_MAX_SANDBOXES", 1, 1_000_000),
            creates_per_minute: reader.number("EDGE_CREATES_PER_MINUTE", 1, 1_000_000),
            max_vcpus: reader.number("EDGE_MAX_VCPUS", 1, 1_000_000),
            max_memory_mib: reader.number("EDGE_MAX_MEMORY_MIB", 1, u32::MAX),
            max_ttl_seconds: reader.number("EDGE_MAX_TTL_SECONDS", 1, 1_000_000_000),
            stopped_max_seconds: reader
                .number("EDGE_STOPPED_MAX_SECONDS", 1, 1_000_000_000)
                .unwrap_or(7 * 24 * 3600),
            sweep_requests: reader.number("EDGE_SWEEP_REQUESTS", 5, 10_000).unwrap_or(40),
        }
    }
}

/// The choice of the review: said, else Morph by its key, else PVE by its URL and token.
fn provider(reader: &mut Reader<'_>, pve: bool, morph: bool) -> Option<Provider> {
    let said = reader.parsed("SANDBOX_PROVIDER", |it| it.parse::<Provider>().map_err(String::from));
    let chosen = match said {
        Some(provider) => provider,
        None if reader.has("SANDBOX_PROVIDER") => return None,
        None if morph => Provider::Morph,
        None if pve => Provider::PveLxc,
        None => {
            if !reader.has("PVE_API_URL") || !reader.has("PVE_API_TOKEN") {
                reader.wrong("PVE_API_URL", "and PVE_API_TOKEN are needed (or MORPH_API_KEY)");
            }
            return None;
        }
    };
    match chosen {
        Provider::Morph if !morph => reader.wrong("SANDBOX_PROVIDER", "is morph, which needs MORPH_API_KEY"),
        Provider::PveLxc | Provider::PveVm if !pve => {
            reader.wrong("SANDBOX_PROVIDER", "is a PVE one, which needs PVE_API_URL and PVE_API_TOKEN");
        }
        _ => {}
    }
    Some(chosen)
}

/// What the platform cannot do is told before a request fails on it.
fn ways(reader: &mut Reader<'_>, platform: &Platform, verify_tls: bool, has_domain: bool) {
    if !verify_tls && !platform.unverified_tls {
        reader.wrong(
            "PVE_VERIFY_TLS",
            "cannot be false on Workers: give PVE a public name through the tunnel, or bind PVE as a \
             vpc_service with cert_verification_mode",
        );
    }
    if !has_domain && !platform.private_network {
        reader.wrong(
            "PVE_PUBLIC_DOMAIN",
            "is needed on Workers, which reach no private address without a binding named PVE",
        );
    }
}

fn access(reader: &mut Reader<'_>) -> Option<(Secret, Secret)> {
    let id = reader.text("CF_ACCESS_CLIENT_ID");
    let secret = reader.text("CF_ACCESS_CLIENT_SECRET");
    match (id, secret) {
        (Some(id), Some(secret)) => Some((Secret::new(id), Secret::new(secret))),
        (None, None) => None,
        (Some(_), None) => {
            reader.wrong("CF_ACCESS_CLIENT_SECRET", "is needed with CF_ACCESS_CLIENT_ID");
            None
        }
        (None, Some(_)) => {
            reader.wrong("CF_ACCESS_CLIENT_ID", "is needed with CF_ACCESS_CLIENT_SECRET");
            None
        }
    }
}

/// By default the 100,000 below the sandboxes'.
fn template_range(reader: &mut Reader<'_>, sandboxes: Option<VmidRange>) -> Option<VmidRange> {
    let sandboxes = sandboxes?;
    let below = || {
        let first = u32::from(sandboxes.first());
        let last = first.checked_sub(1)?.try_into().ok()?;
        VmidRange::new(first.saturating_sub(100_000).max(100).try_into().ok()?, last)
    };
    let range = match reader.parsed("PVE_TEMPLATE_RANGE", |it| it.parse::<VmidRange>().map_err(String::from))
    {
        Some(range) => range,
        None if reader.has("PVE_TEMPLATE_RANGE") => return None,
        None => match below() {
            Some(range) => range,
            None => {
                reader.wrong("PVE_TEMPLATE_RANGE", "is needed: there is no room below PVE_VMID_RANGE");
                return None;
            }
        },
    };
    if range.overlaps(&sandboxes) {
        reader.wrong("PVE_TEMPLATE_RANGE", "must not overlap PVE_VMID_RANGE");
    }
    Some(range)
}

/// Where an API is: its own root, or below a path.
fn origin(text: &str, with_path: bool) -> Result<String, String> {
    const BAD: &str = "scheme, host and port, such as https://pve.example.com:8006";
    let text = text.strip_suffix('/').unwrap_or(text);
    let uri: http::Uri = text.parse().map_err(|_| BAD)?;
    let scheme = uri.scheme_str().filter(|it| matches!(*it, "http" | "https")).ok_or(BAD)?;
    let authority = uri.authority().ok_or(BAD)?;
    let path = uri.path().trim_end_matches('/');
    if authority.as_str().contains('@') || (!with_path && !path.is_empty()) || uri.query().is_some() {
        return Err(format!("{BAD}, and nothing else: no user, no path"));
    }
    let is_local = authority.host() == "localhost" || authority.host().ends_with(".localhost");
    let is_loopback =
        authority.host().trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|it| it.is_loopback());
    if scheme == "http" && !is_local && !is_loopback {
        return Err("https: over http the API token would travel in clear".into());
    }
    Ok(format!("{scheme}://{authority}{path}"))
}

fn header_value(text: &str) -> Result<Secret, String> {
    let plain = text.bytes().all(|it| it.is_ascii_graphic());
    if plain { Ok(Secret::new(text)) } else { Err("a key as Morph Cloud gives it".into()) }
}

/// Split at the last `=`, as PVE does (pve-access-control `AccessControl.pm`).
fn api_token(text: &str) -> Result<Secret, String> {
    let text = text.strip_prefix("PVEAPIToken=").unwrap_or(text);
    let well_formed = text.rsplit_once('=').is_some_and(|(id, secret)| {
        let user = id.split_once('!').map(|(user, token)| !token.is_empty() && user.contains('@'));
        user == Some(true) && !secret.is_empty()
    });
    let plain = text.bytes().all(|it| it.is_ascii_graphic() && it != b';');
    if well_formed && plain { Ok(Secret::new(text)) } else { Err("USER@REALM!TOKENID=SECRET".into()) }
}

fn dns_name(text: &str) -> Result<String, String> {
    if is_dns_name(text) {
        Ok(text.to_owned())
    } else {
        Err("a domain name, such as lan or home.arpa".into())
    }
}

fn node_name(text: &str) -> Result<String, String> {
    if is_dns_name(text) && !text.contains('.') {
        Ok(text.to_owned())
    } else {
        Err("a node's name, such as pve1".into())
    }
}

fn plain_name(text: &str) -> Result<String, String> {
    let fine = text.bytes().all(|it| it.is_ascii_alphanumeric() || b"-_.".contains(&it));
    if fine && text.len() <= 64 { Ok(text.to_owned()) } else { Err("a name as PVE shows it".into()) }
}
