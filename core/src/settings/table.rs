//! The table of all settings. No other place has their names, forms, bounds and defaults.

use std::fmt;

use Takes::{Flag, Number, Secret, Text};
use Unset::{Default, Means, Needed};

/// Row of the table: a variable that sets something of a deployment.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Name of the variable.
    pub name: &'static str,
    /// Thing or behaviour that it sets.
    pub sets: &'static str,
    /// Values that it takes.
    pub takes: Takes,
    /// Value or behaviour where the variable is not set.
    pub unset: Unset,
}

/// Values that a setting takes.
#[derive(Clone, Copy, Debug)]
pub enum Takes {
    /// Text of this form.
    Text(&'static str),
    /// Text of this form that nobody else may know.
    Secret(&'static str),
    /// `true` or `false`.
    Flag,
    /// A whole number from the first to the second.
    Number(u32, u32),
}

/// Value or behaviour of a setting that is not set.
#[derive(Clone, Copy, Debug)]
pub enum Unset {
    /// The setting is needed: nothing works without it.
    Needed,
    /// This value counts.
    Default(&'static str),
    /// This behaviour holds, in words.
    Means(&'static str),
}

const fn row(name: &'static str, sets: &'static str, takes: Takes, unset: Unset) -> Setting {
    Setting { name, sets, takes, unset }
}

/// Numbers of sandboxes, cores or creations that a limit may have.
const MANY: Takes = Number(1, 1_000_000);
/// Numbers of seconds that a limit may have: up to about 30 years.
const SECONDS: Takes = Number(1, 1_000_000_000);

/// Every setting.
pub const SETTINGS: &[Setting] = &[
    row(
        "PVE_API_URL",
        "where PVE answers",
        Text("https://pve.example.com, or https://10.0.0.2:8006"),
        Means("needed, unless the provider is morph"),
    ),
    row(
        "PVE_API_TOKEN",
        "the API token that PVE is asked with",
        Secret("USER@REALM!TOKENID=SECRET"),
        Means("needed, unless the provider is morph"),
    ),
    row(
        "PVE_PUBLIC_DOMAIN",
        "domain of the service URLs",
        Text("a domain; scheme and port may be part of it"),
        Means("URLs have names or addresses of the network; needed on Workers without a binding"),
    ),
    row(
        "PVE_NODE",
        "make sandboxes on this node only",
        Text("a node's name"),
        Means("the node with the most free memory"),
    ),
    row(
        "PVE_STORAGE",
        "storage for what is copied; linked clones stay on their template's",
        Text("a storage's name"),
        Means("the sandbox's own, or the one with the most room when that is full"),
    ),
    row("PVE_BRIDGE", "network bridge of sandboxes", Text("a bridge's name"), Means("the template's")),
    row(
        "PVE_IP_POOL_CIDR",
        "give sandboxes addresses of this network",
        Text("an IPv4 network, such as 10.100.0.0/24"),
        Means("DHCP"),
    ),
    row(
        "EDGE_GUEST_NETWORK",
        "network of sandboxes that have their addresses by DHCP, for the proxy",
        Text("an IPv4 network, such as 10.100.0.0/24"),
        Means("no proxy, unless PVE_IP_POOL_CIDR is set"),
    ),
    row("PVE_GATEWAY", "gateway of that network", Text("an IPv4 address in it"), Means("the template's")),
    row(
        "PVE_IP_RESERVED",
        "addresses of it that are others'; the VMIDs that they belong to are not drawn",
        Text("addresses, FIRST-LAST ranges or networks, by spaces or commas"),
        Means("none"),
    ),
    row(
        "PVE_SEARCH_DOMAIN",
        "domain in which the network's DNS knows the guests",
        Text("a domain"),
        Means("the guest's own"),
    ),
    row(
        "PVE_VERIFY_TLS",
        "whether the certificate of the PVE API is checked; false not on Workers without a binding",
        Flag,
        Default("true"),
    ),
    row(
        "PVE_VMID_RANGE",
        "VMIDs of sandboxes; nothing else may be in it",
        Text("FIRST-LAST"),
        Default("200000-999999"),
    ),
    row(
        "PVE_TEMPLATE_RANGE",
        "VMIDs of templates and snapshots that pve-edge makes",
        Text("FIRST-LAST"),
        Means("the 100,000 below PVE_VMID_RANGE"),
    ),
    row(
        "PVE_LXC_CRIU",
        "whether PVE's experimental suspend of containers may be used",
        Flag,
        Default("false"),
    ),
    row(
        "SANDBOX_PROVIDER",
        "what sandboxes are made by",
        Text("pve-lxc, pve-vm or morph"),
        Means("by the credentials that are set, Morph's first"),
    ),
    row(
        "MORPH_API_KEY",
        "key of Morph Cloud",
        Secret("a key as Morph gives it"),
        Means("needed, if the provider is morph"),
    ),
    row("MORPH_BASE_URL", "where Morph Cloud's API is", Text("a URL"), Default("https://cloud.morph.so/api")),
    row(
        "CF_API_TOKEN",
        "token of Cloudflare's API, by which the tunnel is made",
        Secret("an API token"),
        Means("the tunnel is made by hand"),
    ),
    row("CF_ACCOUNT_ID", "account of the tunnel", Text("an account's id"), Means("needed for the tunnel")),
    row(
        "CF_ZONE_ID",
        "zone of the guests' domain, which the tunnel gets a record in",
        Text("a zone's id"),
        Means("needed for the tunnel"),
    ),
    row(
        "CF_DOMAIN",
        "guests' domain, which the tunnel leads in from: the name of that zone",
        Text("a domain, such as example.com"),
        Means("needed for the tunnel; set, it is PVE_PUBLIC_DOMAIN too"),
    ),
    row(
        "CF_ACCESS_CLIENT_ID",
        "sent to a PVE API that stands behind Cloudflare Access",
        Secret("a service token's id"),
        Means("not sent"),
    ),
    row("CF_ACCESS_CLIENT_SECRET", "sent with it", Secret("a service token's secret"), Means("not sent")),
    row(
        "NEXT_PUBLIC_SERVER_ORIGIN",
        "origin of the global Socket.IO server",
        Text("scheme, host and port"),
        Means("null in the config"),
    ),
    row(
        "EDGE_API_KEYS",
        "keys of those who may ask, as hashes",
        Secret("TEAM:SHA256-HEX-OF-KEY, with :admin after it for admins; several by spaces or commas"),
        Needed,
    ),
    row(
        "EDGE_SECRET",
        "secret from which tokens and ids are derived",
        Secret("32 bytes or more; several, newest first, while it is rotated"),
        Needed,
    ),
    row(
        "EDGE_DEPLOYMENT",
        "name of this deployment among those of a cluster",
        Text("1 to 16 of a-z, 0-9 and -"),
        Needed,
    ),
    row("EDGE_TAG_BUDGET", "bytes of tags for each sandbox", Number(180, 2048), Default("280")),
    row("EDGE_MAX_SANDBOXES", "sandboxes of a team", MANY, Means("no limit")),
    row("EDGE_CREATES_PER_MINUTE", "creations of a team in a minute", MANY, Means("no limit")),
    row(
        "EDGE_MAX_TTL_SECONDS",
        "longest ttlSeconds, and longest time from a start on; forbids null",
        SECONDS,
        Means("no limit"),
    ),
    row(
        "EDGE_STOPPED_MAX_SECONDS",
        "how long what is stopped or paused is kept; by default 7 days",
        SECONDS,
        Default("604800"),
    ),
    row("EDGE_MAX_VCPUS", "cores of a team's sandboxes together", MANY, Means("no limit")),
    row(
        "EDGE_MAX_MEMORY_MIB",
        "memory of a team's sandboxes together",
        Number(1, u32::MAX),
        Means("no limit"),
    ),
    row("EDGE_MAX_DISK_GIB", "disk of a team's sandboxes together", Number(1, u32::MAX), Means("no limit")),
    row(
        "EDGE_BASE_PATH",
        "path below which the API is, where a domain is shared",
        Text("a path, such as /sandboxes"),
        Means("none"),
    ),
    row(
        "EDGE_API_HOST",
        "the one host of this API, where that is below the domain of the service URLs, or where other names lead here too",
        Text("a host, such as edge.example.org"),
        Means("any host that is not below PVE_PUBLIC_DOMAIN"),
    ),
    row("EDGE_PUBLIC_SERVICES", "whether services may be open to everybody", Flag, Default("false")),
    row(
        "EDGE_CORS_ORIGINS",
        "origins whose pages may use the API",
        Text("origins, by spaces or commas; * for all"),
        Means("none"),
    ),
    row("EDGE_SWEEP_REQUESTS", "requests that one sweep may send", Number(5, 10_000), Default("40")),
    row("EDGE_LAMBDA_STREAM", "whether answers of this Lambda stream", Flag, Default("false")),
];

/// Finds the setting of a name.
pub(super) fn setting(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|it| it.name == name)
}

impl Setting {
    /// Value of the setting where it is not set, if it has a default.
    pub(super) fn default(&self) -> Option<&'static str> {
        match self.unset {
            Default(value) => Some(value),
            Needed | Means(_) => None,
        }
    }
}

impl fmt::Display for Takes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Text(form) | Secret(form) => f.write_str(form),
            Flag => f.write_str("true or false"),
            Number(least, most) => write!(f, "{least} to {most}"),
        }
    }
}

/// Text that asks for a missing setting.
impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.sets, self.takes)
    }
}
