//! Settings: one reader for both platforms, which tells every problem at once.

mod origins;
mod reader;
mod table;
mod values;

use std::net::Ipv4Addr;

pub use self::{
    origins::Origins,
    table::{SETTINGS, Setting, Takes, Unset},
};
use self::{
    reader::{Reader, unknown},
    values::{Scheme, api_token, base_path, base_url, dns_name, header_value, node_name, origin, plain_name},
};
use crate::{
    access::{
        keys::{ApiKeys, Label},
        secret::{Keyring, Secret},
    },
    io::Platform,
    sandbox::{
        address::{Domain, IpPool, Reserved},
        preset::ProviderName,
        quota::Limits,
        vmid::VmidRange,
    },
};

/// What a deployment is set to. Its `Debug` shows no secret.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `SANDBOX_PROVIDER`, or by credentials.
    pub provider: ProviderName,
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
    /// `EDGE_BASE_PATH`, without a slash at the end.
    pub base_path: String,
    /// `EDGE_API_KEYS`.
    pub api_keys: ApiKeys,
    /// `EDGE_SECRET`.
    pub secrets: Keyring,
    /// `EDGE_DEPLOYMENT`.
    pub deployment: Label,
    /// What a team, and a guest, may take.
    pub limits: Limits,
}

impl Settings {
    /// Reads all of them, or tells all that is wrong: names and fixes, never values.
    pub fn read(pairs: &[(String, String)], platform: &Platform) -> Result<Self, Vec<String>> {
        let mut reader = Reader::new(pairs);
        let api_url = reader.parsed("PVE_API_URL", |it| origin(it, Scheme::Private));
        let api_token = reader.parsed("PVE_API_TOKEN", api_token);
        let morph_api_key = reader.parsed("MORPH_API_KEY", header_value);
        let morph_base_url = reader.parsed("MORPH_BASE_URL", |it| base_url(it, Scheme::Private));
        let provider =
            provider(&mut reader, api_url.is_some() && api_token.is_some(), morph_api_key.is_some());
        let verify_tls = reader.flag("PVE_VERIFY_TLS");
        let public_domain =
            reader.parsed("PVE_PUBLIC_DOMAIN", |it| it.parse::<Domain>().map_err(String::from));
        let search_domain = reader.parsed("PVE_SEARCH_DOMAIN", dns_name);
        if provider != Some(ProviderName::Morph) {
            ways(&mut reader, platform, verify_tls, public_domain.is_some());
        }
        let vmid_range = reader.parsed("PVE_VMID_RANGE", |it| it.parse::<VmidRange>().map_err(String::from));
        let template_range = template_range(&mut reader, vmid_range);
        let gateway = reader
            .parsed("PVE_GATEWAY", |it| it.parse::<Ipv4Addr>().map_err(|_| "an IPv4 address".to_owned()));
        let reserved = reader.parsed("PVE_IP_RESERVED", |it| it.parse::<Reserved>().map_err(String::from));
        let ip_pool = reader.parsed("PVE_IP_POOL_CIDR", |it| {
            let range = vmid_range.ok_or("needs a right PVE_VMID_RANGE")?;
            IpPool::new(it, gateway, &reserved.clone().unwrap_or_default(), range).map_err(String::from)
        });
        in_pool(&mut reader, gateway, ip_pool.as_ref());
        let api_keys = reader.required("EDGE_API_KEYS", ApiKeys::parse);
        let secrets = reader.required("EDGE_SECRET", |it| Keyring::parse(it).map_err(String::from));
        let deployment = reader.required("EDGE_DEPLOYMENT", |it| it.parse::<Label>().map_err(String::from));
        let access = access(&mut reader);
        let node = reader.parsed("PVE_NODE", node_name);
        let storage = reader.parsed("PVE_STORAGE", plain_name);
        let bridge = reader.parsed("PVE_BRIDGE", plain_name);
        let limits = limits(&mut reader);
        let lxc_criu = reader.flag("PVE_LXC_CRIU");
        let server_origin = reader.parsed("NEXT_PUBLIC_SERVER_ORIGIN", |it| origin(it, Scheme::Any));
        let base_path = reader.parsed("EDGE_BASE_PATH", base_path).unwrap_or_default();
        // Read by itself, for the answers that tell the rest.
        reader.parsed(origins::NAME, Origins::parse);
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
            base_path,
            api_keys,
            secrets,
            deployment,
            limits,
        })
    }
}

fn limits(reader: &mut Reader<'_>) -> Limits {
    Limits {
        tag_budget: reader.number("EDGE_TAG_BUDGET").unwrap_or_default() as usize,
        max_sandboxes: reader.number("EDGE_MAX_SANDBOXES"),
        creates_per_minute: reader.number("EDGE_CREATES_PER_MINUTE"),
        max_vcpus: reader.number("EDGE_MAX_VCPUS"),
        max_memory_mib: reader.number("EDGE_MAX_MEMORY_MIB"),
        max_disk_gib: reader.number("EDGE_MAX_DISK_GIB"),
        max_ttl_seconds: reader.number("EDGE_MAX_TTL_SECONDS"),
        stopped_max_seconds: reader.number("EDGE_STOPPED_MAX_SECONDS").unwrap_or_default(),
        sweep_requests: reader.number("EDGE_SWEEP_REQUESTS").unwrap_or_default(),
    }
}

/// The choice of the review: said, else Morph by its key, else PVE by its URL and token.
fn provider(reader: &mut Reader<'_>, pve: bool, morph: bool) -> Option<ProviderName> {
    let said = reader.parsed("SANDBOX_PROVIDER", |it| it.parse::<ProviderName>().map_err(String::from));
    let chosen = match said {
        Some(provider) => provider,
        None if reader.has("SANDBOX_PROVIDER") => return None,
        None if morph => ProviderName::Morph,
        None if pve => ProviderName::PveLxc,
        None => {
            if !reader.has("PVE_API_URL") || !reader.has("PVE_API_TOKEN") {
                reader.wrong("PVE_API_URL", "and PVE_API_TOKEN are needed (or MORPH_API_KEY)");
            }
            return None;
        }
    };
    match chosen {
        ProviderName::Morph if !morph => {
            reader.wrong("SANDBOX_PROVIDER", "is morph, which needs MORPH_API_KEY")
        }
        ProviderName::PveLxc | ProviderName::PveVm if !pve => {
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

/// A gateway is one of a pool's network: DHCP says its own.
fn in_pool(reader: &mut Reader<'_>, gateway: Option<Ipv4Addr>, pool: Option<&IpPool>) {
    match (gateway, pool) {
        (Some(gateway), Some(pool)) if !pool.is_in_network(gateway) => {
            reader.wrong("PVE_GATEWAY", "must be an address in the network of PVE_IP_POOL_CIDR");
        }
        (Some(_), None) if !reader.has("PVE_IP_POOL_CIDR") => {
            reader.wrong("PVE_GATEWAY", "needs PVE_IP_POOL_CIDR: without a pool the network's DHCP says it");
        }
        _ => {}
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
