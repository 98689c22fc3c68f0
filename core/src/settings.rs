//! Settings of a deployment: one reader for all platforms, which tells all problems at once.

mod cloudflare;
mod named;
mod origins;
mod problem;
mod reader;
mod table;
mod values;

use std::net::Ipv4Addr;

pub use self::cloudflare::Cloudflare;
pub(crate) use self::named::{Apart, Named};
pub use self::{
    origins::Origins,
    problem::Problem,
    table::{SETTINGS, Setting, Takes, Unset},
};
use self::{
    reader::{Reader, report_unknown},
    values::{
        Scheme, api_token, base_path, base_url, dns_name, header_value, host, node_name, origin, plain_name,
    },
};
use crate::{
    access::{
        keys::{ApiKeys, Label},
        secret::{Keyring, Secret},
    },
    io::Platform,
    sandbox::{
        address::{Domain, GuestNetwork, IpPool, Reserved},
        preset::ProviderName,
        quota::Limits,
        vmid::VmidRange,
    },
};

/// Settings of a deployment. Their `Debug` shows no secret.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Provider of the sandboxes, from `SANDBOX_PROVIDER` or by the credentials that are set.
    pub provider: ProviderName,
    /// Address of the PVE API without a slash at the end, from `PVE_API_URL`.
    pub api_url: Option<String>,
    /// Token of the PVE API, from `PVE_API_TOKEN`.
    pub api_token: Option<Secret>,
    /// Id and secret of the service token for a PVE API behind Cloudflare Access, from `CF_ACCESS_CLIENT_ID` and
    /// `CF_ACCESS_CLIENT_SECRET`.
    pub access: Option<(Secret, Secret)>,
    /// Account, zone and domain of the tunnel, from `CF_API_TOKEN`, `CF_ACCOUNT_ID`, `CF_ZONE_ID` and `CF_DOMAIN`.
    pub cloudflare: Cloudflare,
    /// Key of Morph Cloud, from `MORPH_API_KEY`.
    pub morph_api_key: Option<Secret>,
    /// Address of Morph's API without a slash at the end, from `MORPH_BASE_URL`.
    pub morph_base_url: String,
    /// Whether the certificate of the PVE API is checked, from `PVE_VERIFY_TLS`.
    pub verify_tls: bool,
    /// Domain of the service URLs, from `PVE_PUBLIC_DOMAIN` or `CF_DOMAIN`.
    pub public_domain: Option<Domain>,
    /// Domain in which the network's DNS knows the guests, from `PVE_SEARCH_DOMAIN`.
    pub search_domain: Option<String>,
    /// The only node that gets sandboxes, from `PVE_NODE`.
    pub node: Option<String>,
    /// Storage for copied disks, from `PVE_STORAGE`.
    pub storage: Option<String>,
    /// Network bridge of the sandboxes, from `PVE_BRIDGE`.
    pub bridge: Option<String>,
    /// Addresses of the sandboxes, from `PVE_IP_POOL_CIDR` and `PVE_IP_RESERVED`; `None` for DHCP.
    pub ip_pool: Option<IpPool>,
    /// Network of guests that have their addresses by DHCP, from `EDGE_GUEST_NETWORK`, `PVE_GATEWAY` and
    /// `PVE_IP_RESERVED`.
    pub guest_network: Option<GuestNetwork>,
    /// Gateway of the pool's network, from `PVE_GATEWAY`.
    pub gateway: Option<Ipv4Addr>,
    /// VMIDs of the sandboxes, from `PVE_VMID_RANGE`.
    pub vmid_range: VmidRange,
    /// VMIDs of the templates and snapshots that the API makes, from `PVE_TEMPLATE_RANGE`.
    pub template_range: VmidRange,
    /// Whether PVE's experimental suspend of containers may be used, from `PVE_LXC_CRIU`.
    pub lxc_criu: bool,
    /// Origin of the global Socket.IO server, from `NEXT_PUBLIC_SERVER_ORIGIN`.
    pub server_origin: Option<String>,
    /// The one host of the API, from `EDGE_API_HOST`.
    pub api_host: Option<String>,
    /// Whether services may be open to everybody, from `EDGE_PUBLIC_SERVICES`.
    pub public_services: bool,
    /// Path below which the API is, without a slash at the end, from `EDGE_BASE_PATH`.
    pub base_path: String,
    /// API keys and their callers, from `EDGE_API_KEYS`.
    pub api_keys: ApiKeys,
    /// Secrets from which tokens and ids are derived, from `EDGE_SECRET`.
    pub secrets: Keyring,
    /// Name of the deployment among those of a cluster, from `EDGE_DEPLOYMENT`.
    pub deployment: Label,
    /// Limits of a team and of a guest.
    pub limits: Limits,
}

impl Settings {
    /// Reads all settings, or returns everything that is wrong with them: names and fixes, never values.
    pub fn read(pairs: &[(String, String)], platform: &Platform) -> Result<Self, Vec<Problem>> {
        let mut reader = Reader::new(pairs);
        let settings = Self::read_groups(&mut reader, platform);
        // The origins are kept apart from the settings, for the answers that tell what is wrong with those.
        reader.parsed(origins::NAME, Origins::parse);
        // The adapter acts on it, and can tell nobody that it is neither.
        reader.flag("EDGE_LAMBDA_STREAM");
        report_unknown(&mut reader, pairs);
        let problems = reader.into_problems();
        settings.filter(|_| problems.is_empty()).ok_or(problems)
    }

    /// Reads every group of settings, so that all problems are found, and only then puts them together.
    fn read_groups(reader: &mut Reader<'_>, platform: &Platform) -> Option<Self> {
        let endpoints = Endpoints::read(reader, platform);
        let numbers = GuestNumbers::read(reader);
        let api_keys = reader.required("EDGE_API_KEYS", ApiKeys::parse);
        let secrets = reader.required("EDGE_SECRET", |it| Keyring::parse(it).map_err(String::from));
        let deployment = reader.required("EDGE_DEPLOYMENT", |it| it.parse::<Label>().map_err(String::from));
        let access = read_access(reader);
        let node = reader.parsed("PVE_NODE", node_name);
        let storage = reader.parsed("PVE_STORAGE", plain_name);
        let bridge = reader.parsed("PVE_BRIDGE", plain_name);
        let limits = read_limits(reader);
        let lxc_criu = reader.flag("PVE_LXC_CRIU");
        let server_origin = reader.parsed("NEXT_PUBLIC_SERVER_ORIGIN", |it| origin(it, Scheme::Any));
        let base_path = reader.parsed("EDGE_BASE_PATH", base_path).unwrap_or_default();
        let api_host = reader.parsed("EDGE_API_HOST", host);
        let public_services = reader.flag("EDGE_PUBLIC_SERVICES");
        Some(Self {
            provider: endpoints.provider?,
            api_url: endpoints.api_url,
            api_token: endpoints.api_token,
            access,
            cloudflare: endpoints.cloudflare,
            morph_api_key: endpoints.morph_api_key,
            morph_base_url: endpoints.morph_base_url?,
            verify_tls: endpoints.verify_tls,
            public_domain: endpoints.public_domain,
            search_domain: endpoints.search_domain,
            node,
            storage,
            bridge,
            ip_pool: numbers.ip_pool,
            guest_network: numbers.guest_network,
            gateway: numbers.gateway,
            vmid_range: numbers.vmid_range?,
            template_range: numbers.template_range?,
            lxc_criu,
            server_origin,
            api_host,
            public_services,
            base_path,
            api_keys: api_keys?,
            secrets: secrets?,
            deployment: deployment?,
            limits,
        })
    }
}

/// Settings of the provider, and of the addresses of its API and of its sandboxes.
struct Endpoints {
    provider: Option<ProviderName>,
    api_url: Option<String>,
    api_token: Option<Secret>,
    cloudflare: Cloudflare,
    morph_api_key: Option<Secret>,
    morph_base_url: Option<String>,
    verify_tls: bool,
    public_domain: Option<Domain>,
    search_domain: Option<String>,
}

impl Endpoints {
    fn read(reader: &mut Reader<'_>, platform: &Platform) -> Self {
        let api_url = reader.parsed("PVE_API_URL", |it| origin(it, Scheme::Private));
        let api_token = reader.parsed("PVE_API_TOKEN", api_token);
        let morph_api_key = reader.parsed("MORPH_API_KEY", |it| header_value(it, "Morph Cloud"));
        let morph_base_url = reader.parsed("MORPH_BASE_URL", |it| base_url(it, Scheme::Private));
        let provider =
            choose_provider(reader, api_url.is_some() && api_token.is_some(), morph_api_key.is_some());
        let verify_tls = reader.flag("PVE_VERIFY_TLS");
        let public_domain =
            reader.parsed("PVE_PUBLIC_DOMAIN", |it| it.parse::<Domain>().map_err(String::from));
        let cloudflare = Cloudflare::read(reader);
        let public_domain = cloudflare.public_domain(reader, public_domain);
        let search_domain = reader.parsed("PVE_SEARCH_DOMAIN", dns_name);
        if provider != Some(ProviderName::Morph) {
            check_platform(reader, platform, verify_tls, public_domain.is_some());
        }
        Self {
            provider,
            api_url,
            api_token,
            cloudflare,
            morph_api_key,
            morph_base_url,
            verify_tls,
            public_domain,
            search_domain,
        }
    }
}

/// Settings of the VMIDs and the addresses of guests.
struct GuestNumbers {
    vmid_range: Option<VmidRange>,
    template_range: Option<VmidRange>,
    gateway: Option<Ipv4Addr>,
    ip_pool: Option<IpPool>,
    guest_network: Option<GuestNetwork>,
}

impl GuestNumbers {
    fn read(reader: &mut Reader<'_>) -> Self {
        let vmid_range = reader.parsed("PVE_VMID_RANGE", |it| it.parse::<VmidRange>().map_err(String::from));
        let template_range = read_template_range(reader, vmid_range);
        let gateway = reader
            .parsed("PVE_GATEWAY", |it| it.parse::<Ipv4Addr>().map_err(|_| "an IPv4 address".to_owned()));
        let reserved = reader.parsed("PVE_IP_RESERVED", |it| it.parse::<Reserved>().map_err(String::from));
        let reserved = reserved.unwrap_or_default();
        let ip_pool = reader.parsed("PVE_IP_POOL_CIDR", |it| {
            let range = vmid_range.ok_or("needs a right PVE_VMID_RANGE")?;
            IpPool::new(it, gateway, &reserved, range).map_err(String::from)
        });
        let guest_network = reader.parsed("EDGE_GUEST_NETWORK", |it| {
            GuestNetwork::new(it, gateway, &reserved).map_err(String::from)
        });
        if guest_network.is_some() && reader.has("PVE_IP_POOL_CIDR") {
            reader.add_problem(
                "EDGE_GUEST_NETWORK",
                "is for DHCP: with PVE_IP_POOL_CIDR the pool is the network",
            );
        }
        check_gateway(reader, gateway, ip_pool.as_ref(), guest_network.as_ref());
        Self { vmid_range, template_range, gateway, ip_pool, guest_network }
    }
}

fn read_limits(reader: &mut Reader<'_>) -> Limits {
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

/// Chooses the provider: the one that `SANDBOX_PROVIDER` names, else Morph by its key, else PVE by its URL and token.
fn choose_provider(reader: &mut Reader<'_>, pve: bool, morph: bool) -> Option<ProviderName> {
    let named = reader.parsed("SANDBOX_PROVIDER", |it| it.parse::<ProviderName>().map_err(String::from));
    let chosen = match named {
        Some(provider) => provider,
        None if reader.has("SANDBOX_PROVIDER") => return None,
        None if morph => ProviderName::Morph,
        None if pve => ProviderName::PveLxc,
        None => {
            reader.require("PVE_API_URL", " (or MORPH_API_KEY)");
            reader.require("PVE_API_TOKEN", " (or MORPH_API_KEY)");
            return None;
        }
    };
    match chosen {
        ProviderName::Morph => reader.require("MORPH_API_KEY", ""),
        ProviderName::PveLxc | ProviderName::PveVm => {
            reader.require("PVE_API_URL", "");
            reader.require("PVE_API_TOKEN", "");
        }
    }
    Some(chosen)
}

/// Reports settings that the platform cannot serve, before a request fails on them.
fn check_platform(reader: &mut Reader<'_>, platform: &Platform, verify_tls: bool, has_domain: bool) {
    if !verify_tls && !platform.unverified_tls {
        reader.add_problem(
            "PVE_VERIFY_TLS",
            "cannot be false on Workers: give PVE a public name through the tunnel, or bind PVE as a \
             vpc_service with cert_verification_mode",
        );
    }
    if !has_domain && !platform.private_network {
        reader.add_problem(
            "PVE_PUBLIC_DOMAIN",
            "is needed on Workers, which reach no private address without a binding named PVE",
        );
    }
}

/// Reads the service token of Cloudflare Access, which has two parts.
fn read_access(reader: &mut Reader<'_>) -> Option<(Secret, Secret)> {
    let id = reader.text("CF_ACCESS_CLIENT_ID");
    let secret = reader.text("CF_ACCESS_CLIENT_SECRET");
    match (id, secret) {
        (Some(id), Some(secret)) => Some((Secret::new(id), Secret::new(secret))),
        (None, None) => None,
        (Some(_), None) => {
            reader.add_problem("CF_ACCESS_CLIENT_SECRET", "is needed with CF_ACCESS_CLIENT_ID");
            None
        }
        (None, Some(_)) => {
            reader.add_problem("CF_ACCESS_CLIENT_ID", "is needed with CF_ACCESS_CLIENT_SECRET");
            None
        }
    }
}

/// Reports a gateway outside the network of guests, or without one: DHCP tells its own gateway.
fn check_gateway(
    reader: &mut Reader<'_>,
    gateway: Option<Ipv4Addr>,
    pool: Option<&IpPool>,
    network: Option<&GuestNetwork>,
) {
    let Some(gateway) = gateway else { return };
    if pool.is_some_and(|it| !it.is_in_network(gateway)) {
        reader.add_problem("PVE_GATEWAY", "must be an address in the network of PVE_IP_POOL_CIDR");
    } else if network.is_some_and(|it| !it.is_in_network(gateway)) {
        reader.add_problem("PVE_GATEWAY", "must be an address in EDGE_GUEST_NETWORK");
    } else if !reader.has("PVE_IP_POOL_CIDR") && !reader.has("EDGE_GUEST_NETWORK") {
        reader
            .add_problem("PVE_GATEWAY", "needs PVE_IP_POOL_CIDR: without a pool the network's DHCP says it");
    }
}

/// Reads the VMIDs of templates; by default they are the 100,000 below those of the sandboxes.
fn read_template_range(reader: &mut Reader<'_>, sandboxes: Option<VmidRange>) -> Option<VmidRange> {
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
                reader.add_problem("PVE_TEMPLATE_RANGE", "is needed: there is no room below PVE_VMID_RANGE");
                return None;
            }
        },
    };
    if range.overlaps(&sandboxes) {
        reader.add_problem("PVE_TEMPLATE_RANGE", "must not overlap PVE_VMID_RANGE");
    }
    Some(range)
}
