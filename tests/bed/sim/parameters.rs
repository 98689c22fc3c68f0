//! Parameters and what PVE's schema says of them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    reply::Fail,
    setup::Version,
    table::{self, Endpoint},
    wire::Call,
};

/// A parameter of an endpoint.
pub(crate) struct Param {
    /// `net[n]` stands for `net0` and so on.
    pub(crate) name: &'static str,
    pub(crate) check: Check,
    pub(crate) required: bool,
    pub(crate) since: Version,
}

/// What a value must look like.
#[derive(Clone, Copy)]
pub(crate) enum Check {
    /// Anything.
    Text,
    /// At most so many characters.
    Chars(usize),
    /// 0 or 1, in PVE's spellings.
    Bool,
    /// A whole number.
    Int(i64, i64),
    /// A number.
    Number,
    /// 100 to 999999999.
    Vmid,
    /// `NAME=value`, separated by NUL.
    Env,
    /// One of these.
    Enum(&'static [&'static str]),
    /// `pve-configid`.
    Name,
    /// `dns-name`.
    DnsName,
    /// `pve-tag-list`.
    Tags,
    /// `rootfs` or a mount point.
    Disk,
    /// `+4G`, `32G`.
    Size,
    /// `netN` of a container.
    Net,
    /// `netN` of a VM.
    Nic,
    /// `https?://.*`.
    Url,
    /// An OCI image with its tag.
    Reference,
}

use Check::*;

const UNKNOWN: &str = "property is not defined in schema and the schema does not allow additional properties";

/// What only a change takes.
pub(crate) const CHANGE: &[Param] = &[q("delete", Text), q("digest", Chars(40)), q("revert", Text)];

/// What only the creation of a container takes.
pub(crate) const CREATE: &[Param] = &[
    q("bwlimit", Number),
    q("force", Bool),
    Param { since: Version::V9, ..q("ha-managed", Bool) },
    q("ignore-unpack-errors", Bool),
    p("ostemplate", Chars(255)),
    q("password", Text),
    q("pool", Text),
    q("restore", Bool),
    q("ssh-public-keys", Text),
    q("start", Bool),
    q("storage", Text),
    q("unique", Bool),
    p("vmid", Vmid),
];

/// A container's options.
pub(crate) const CONFIG: &[Param] = &[
    q("arch", Enum(&["amd64", "i386", "arm64", "armhf", "riscv32", "riscv64"])),
    q("cmode", Enum(&["shell", "console", "tty"])),
    q("console", Bool),
    q("cores", Int(1, 8192)),
    q("cpulimit", Number),
    q("cpuunits", Int(0, 500_000)),
    q("debug", Bool),
    q("description", Chars(8192)),
    Param { since: Version::V8, ..q("dev[n]", Text) },
    Param { since: Version::V9, ..q("entrypoint", Text) },
    Param { since: Version::V9, ..q("env", Env) },
    q("features", Text),
    q("hookscript", Text),
    q("hostname", DnsName),
    q("lock", Enum(LOCKS)),
    q("memory", Int(16, i64::MAX)),
    q("mp[n]", Text),
    q("nameserver", Text),
    q("net[n]", Net),
    q("onboot", Bool),
    q("ostype", Text),
    q("protection", Bool),
    q("rootfs", Text),
    q("searchdomain", Text),
    q("startup", Text),
    q("swap", Int(0, i64::MAX)),
    q("tags", Tags),
    q("template", Bool),
    q("timezone", Text),
    q("tty", Int(0, 6)),
    q("unprivileged", Bool),
    q("unused[n]", Text),
];

const LOCKS: &[&str] = &[
    "backup",
    "create",
    "destroyed",
    "disk",
    "fstrim",
    "migrate",
    "mounted",
    "rollback",
    "snapshot",
    "snapshot-delete",
];

/// A parameter that must be there.
pub(crate) const fn p(name: &'static str, check: Check) -> Param {
    Param { name, check, required: true, since: Version::V7_4 }
}

/// A parameter that may be there.
pub(crate) const fn q(name: &'static str, check: Check) -> Param {
    Param { required: false, ..p(name, check) }
}

/// What a call is refused for with 400.
pub(crate) fn verify(endpoint: &Endpoint, call: &Call, version: Version) -> Result<(), Fail> {
    let mut errors = BTreeMap::new();
    for (name, value) in &call.uri {
        let check = match name.as_str() {
            "vmid" => Vmid,
            "snapname" => Name,
            _ => Text,
        };
        check.of(value).err().map(|text| errors.insert(name.clone(), text));
    }
    for (name, value) in call.form.iter().filter(|(name, _)| !call.uri.contains_key(*name)) {
        let base = name.trim_end_matches(|c: char| c.is_ascii_digit());
        let indexed = format!("{base}[n]");
        let known = |p: &&Param| p.since <= version && (p.name == name || p.name == indexed && base != name);
        let checked = endpoint.takes().find(known).ok_or(UNKNOWN.to_owned());
        checked.and_then(|p| p.check.of(value)).err().map(|text| errors.insert(name.clone(), text));
    }
    for required in endpoint.takes().filter(|p| p.required && call.get(p.name).is_none()) {
        errors.insert(required.name.into(), "property is missing and it is not optional".into());
    }
    if errors.is_empty() { Ok(()) } else { Err(Fail::parameters(errors)) }
}

/// Whether a guest's config has such an option, in this version.
pub(crate) fn is_option(endpoint: &Endpoint, name: &str, version: Version) -> bool {
    let base = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let indexed = format!("{base}[n]");
    let known = |it: &Param| it.since <= version && (it.name == name || it.name == indexed && base != name);
    endpoint.parameters.iter().any(known)
}

/// All endpoints with the names and optionality of their parameters, for
/// comparison with PVE's published schema.
pub fn schema() -> Value {
    let endpoint = |e: &Endpoint| {
        let mut names = serde_json::Map::new();
        for parameter in e.takes() {
            names.insert(parameter.name.into(), json!({ "required": parameter.required }));
        }
        json!({ "method": e.method, "path": e.path, "parameters": names })
    };
    table::all().map(endpoint).collect()
}

impl Check {
    fn of(self, value: &str) -> Result<(), String> {
        let (good, text) = match self {
            Text => (true, String::new()),
            Chars(max) => (value.chars().count() <= max, format!("value may only be {max} characters long")),
            Bool => {
                let spellings = ["0", "1", "on", "off", "yes", "no", "true", "false"];
                (spellings.contains(&value), format!("type check ('boolean') failed - got '{value}'"))
            }
            Int(low, high) => return integer(value, low, high),
            Vmid => return vmid(value),
            Env => (value.split('\0').all(is_env), "value does not match the regex pattern".into()),
            Number => (value.parse::<f64>().is_ok(), format!("type check ('number') failed - got '{value}'")),
            Enum(all) => {
                let list = all.join(", ");
                (
                    all.contains(&value),
                    format!("value '{value}' does not have a value in the enumeration '{list}'"),
                )
            }
            Name if value.len() > 40 && is_name(value) => return Chars(40).of(value),
            Name => (is_name(value), format!("invalid format - invalid configuration ID '{value}'\n")),
            DnsName => {
                (is_dns_name(value), "invalid format - value does not look like a valid DNS name\n".into())
            }
            Tags => (
                value.split(super::tags::SEPARATORS).all(is_tag),
                "invalid format - invalid characters in tag\n".into(),
            ),
            Disk => (is_disk(value), format!("value '{value}' does not have a value in the enumeration")),
            Size => (is_size(value), "value does not match the regex pattern".into()),
            Net => return net(value),
            Nic => return nic(value),
            Url => (
                value.starts_with("http://") || value.starts_with("https://"),
                "value does not match the regex pattern".into(),
            ),
            Reference => (is_reference(value), "value does not match the regex pattern".into()),
        };
        if good { Ok(()) } else { Err(text) }
    }
}

fn integer(value: &str, low: i64, high: i64) -> Result<(), String> {
    match value.parse::<i64>() {
        Err(_) => Err(format!("type check ('integer') failed - got '{value}'")),
        Ok(n) if n < low => Err(format!("value must have a minimum value of {low}")),
        Ok(n) if n > high => Err(format!("value must have a maximum value of {high}")),
        Ok(_) => Ok(()),
    }
}

fn vmid(value: &str) -> Result<(), String> {
    integer(value, i64::MIN, i64::MAX)?;
    let digits = (3..=9).contains(&value.len()) && value.bytes().all(|it| it.is_ascii_digit());
    if digits && !value.starts_with('0') {
        return Ok(());
    }
    Err("invalid format - value does not look like a valid VM ID\n".into())
}

/// A word, `=`, and anything without control characters but tab.
fn is_env(entry: &str) -> bool {
    let control = |c: char| c.is_control() && c != '\t';
    let word = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_');
    entry.split_once('=').is_some_and(|(name, value)| word(name) && !value.contains(control))
}

/// `[A-Za-z][A-Za-z0-9_-]+`
fn is_name(value: &str) -> bool {
    let mut chars = value.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic())
        && value.len() >= 2
        && chars.all(|c| c.is_ascii_alphanumeric() || "_-".contains(c))
}

fn is_dns_name(value: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    };
    value.len() <= 255 && value.split('.').all(label)
}

fn is_tag(tag: &str) -> bool {
    let first = |c: char| c.is_ascii_alphanumeric() || c == '_';
    tag.is_empty() || tag.starts_with(first) && tag.chars().all(|c| first(c) || "-+.".contains(c))
}

fn is_disk(value: &str) -> bool {
    value == "rootfs" || value.strip_prefix("mp").is_some_and(|n| n.parse::<u8>().is_ok())
}

/// `\+?\d+(\.\d+)?[KMGT]?`
fn is_size(value: &str) -> bool {
    super::resize::bytes(value.strip_prefix('+').unwrap_or(value)).is_some()
}

/// Registry and port, lower-case names, and a tag; no digest.
fn is_reference(value: &str) -> bool {
    let Some((name, tag)) = value.rsplit_once(':') else { return false };
    let word = |it: &str, more: &str| {
        it.starts_with(|c: char| c.is_ascii_alphanumeric())
            && it.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
    };
    let mut parts = name.split('/').peekable();
    let registry = name.contains('/') && parts.peek().is_some_and(|it| word(it, ".-:"));
    let names = parts.skip(usize::from(registry));
    tag.len() <= 128
        && word(&tag.replace('_', "0"), ".-")
        && names.into_iter().all(|it| word(it, "._-") && it.to_lowercase() == it)
}

fn net(value: &str) -> Result<(), String> {
    const KEYS: &[&str] = &[
        "name",
        "bridge",
        "hwaddr",
        "ip",
        "gw",
        "ip6",
        "gw6",
        "firewall",
        "tag",
        "trunks",
        "rate",
        "mtu",
        "link_down",
        "type",
        "host-managed",
    ];
    let mut named = false;
    for part in value.split(',') {
        let bare = "invalid format - value without key, but schema does not define a default key\n";
        let (key, value) = part.split_once('=').ok_or(bare)?;
        if !KEYS.contains(&key) {
            return Err(format!("invalid format - format error\n{key}: {UNKNOWN}\n"));
        }
        let cidr = || {
            let (ip, prefix) = value.split_once('/')?;
            ip.parse::<std::net::Ipv4Addr>().ok()?;
            prefix.parse::<u8>().ok().filter(|p| (8..=32).contains(p))
        };
        if key == "ip" && value != "dhcp" && value != "manual" && cidr().is_none() {
            return Err("invalid format - format error\nip: invalid format - value does not look like a valid ipv4 network configuration\n".into());
        }
        named |= key == "name";
    }
    if named {
        Ok(())
    } else {
        Err("invalid format - format error\nname: property is missing and it is not optional\n".into())
    }
}

/// The model comes first, with or without an address.
fn nic(value: &str) -> Result<(), String> {
    const KEYS: &[&str] = &[
        "model",
        "macaddr",
        "virtio",
        "e1000",
        "e1000e",
        "rtl8139",
        "vmxnet3",
        "bridge",
        "firewall",
        "link_down",
        "mtu",
        "queues",
        "rate",
        "tag",
        "trunks",
    ];
    let key = |part: &str| part.split('=').next().unwrap_or("").to_owned();
    match value.split(',').find(|part| !KEYS.contains(&key(part).as_str())) {
        Some(part) => Err(format!("invalid format - format error\n{}: {UNKNOWN}\n", key(part))),
        None => Ok(()),
    }
}
